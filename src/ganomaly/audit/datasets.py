"""Images of a dataset with something painted out, as a dataset that any predictor takes."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ganomaly.audit.inpainting import paint_out
from ganomaly.config import SEED
from ganomaly.data import ImageDataset, ImageRecord, Pixels
from ganomaly.data.readers.encoded_image import EncodedImage
from ganomaly.data.readers.physical_values import ValueRange
from ganomaly.errors import ImageError

if TYPE_CHECKING:
    from ganomaly.data.sources.dataset import StoredImage


@dataclass(frozen=True, slots=True)
class Painting:
    """Which image is painted, and whose mask says where.

    Attributes
    ----------
    image : int
        Index of the image.
    mask : int
        Index of the image whose mask is painted: the same for a defect, another for a normal image.
    is_recorded : bool
        Whether the dataset has the image without its defect, so that nothing is painted.
    """

    image: int
    mask: int
    is_recorded: bool = False


class PaintedImages(ImageDataset):
    """Images of a dataset with the area of a mask painted out, or as they were recorded without the defect.

    A mask of another image keeps its size in pixels and its position relative to the edges.

    Parameters
    ----------
    dataset : ImageDataset
        The images and masks.
    paintings : sequence of Painting
        One for each image of this dataset, in order.
    seed : int
        Of the painting.
    """

    def __init__(self, dataset: ImageDataset, paintings: Sequence[Painting], seed: int = SEED) -> None:
        self.name = f"{dataset.name}, painted"
        self._dataset, self._paintings, self._seed = dataset, paintings, seed
        self.records: Sequence[ImageRecord] = [dataset.records[painting.image] for painting in paintings]

    @contextmanager
    def open(self, index: int) -> Iterator[EncodedImage]:
        """Open the image; it is painted when it is decoded."""
        painting = self._paintings[index]
        if painting.is_recorded:
            with self._recorded(painting) as image:
                yield image
            return
        mask = self._dataset.read_mask(painting.mask)
        if mask is None:
            raise ImageError(f"{self._dataset.records[painting.mask].path} has no mask to paint")
        with self._dataset.open(painting.image) as image:
            header = image.header
            moved = moved_mask(mask, header.height, header.width)
            if moved is None:
                raise ImageError(f"{self.records[index].path} is smaller than the area to paint")
            yield _PaintedImage(image, moved, (self._seed, painting.image, painting.mask))

    def _recorded(self, painting: Painting) -> AbstractContextManager[EncodedImage]:
        recorded = self._dataset.open_without_defect(painting.image)
        if recorded is None:
            raise ImageError(f"{self._dataset.records[painting.image].path} has no image without its defect")
        return recorded

    def stored(self, index: int) -> "StoredImage":
        """Name, size and time of the image that is painted."""
        return self._dataset.stored(self._paintings[index].image)

    def content_digest(self, index: int) -> bytes:
        """Hashes of image and mask's image, and the seed."""
        painting = self._paintings[index]
        digests = (self._dataset.content_digest(number) for number in (painting.image, painting.mask))
        return b"\0".join([*digests, f"painted, seed {self._seed}".encode()])

    def identity(self, index: int) -> bytes:
        """Identities of image and mask, and the seed."""
        painting = self._paintings[index]
        identities = (self._dataset.identity(number) for number in (painting.image, painting.mask))
        return b"\0".join([*identities, f"painted, seed {self._seed}".encode()])


class _PaintedImage(EncodedImage):
    def __init__(self, image: EncodedImage, mask: NDArray[np.bool_], seed: Sequence[int]) -> None:
        self.header = image.header
        self._image, self._mask, self._seed = image, mask, seed

    def decode(self, smallest_side: int | None = None) -> Pixels:
        # painted at the size it is decoded at, so that nothing but the painted area differs from the original
        return self.decode_in(None, smallest_side)

    def decode_in(self, value_range: ValueRange | None, smallest_side: int | None = None) -> Pixels:
        # physical values are painted as the pixels that the model maps them to
        pixels = self._image.decode_in(value_range, smallest_side)
        return paint_out(pixels, _shrunk(self._mask, *pixels.shape[:2]), seed=self._seed)


def moved_mask(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_] | None:
    """Put a mask into an image of another size.

    Parameters
    ----------
    mask : ndarray
        `bool[H, W]`, not empty.
    height, width : int
        Size of the image in pixels.

    Returns
    -------
    ndarray or None
        `bool[height, width]`: the masked area at its size in pixels, as far between the edges as before; None if the
        image is too small for it.
    """
    if mask.shape == (height, width):
        return mask
    box, starts = [], []
    for side, axis in ((height, 1), (width, 0)):
        occupied = np.flatnonzero(mask.any(axis=axis))
        low, size = int(occupied[0]), int(occupied[-1] - occupied[0] + 1)
        if size > side:
            return None
        room = mask.shape[1 - axis] - size
        starts.append(round(low / room * (side - size)) if room else (side - size) // 2)
        box.append(slice(low, low + size))
    area = mask[box[0], box[1]]
    moved = np.zeros((height, width), dtype=np.bool_)
    moved[starts[0] : starts[0] + area.shape[0], starts[1] : starts[1] + area.shape[1]] = area
    return moved


def _shrunk(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """The mask at a smaller size; a pixel is masked where any part of it was."""
    if mask.shape == (height, width):
        return mask
    rows, columns = np.nonzero(mask)
    shrunk = np.zeros((height, width), dtype=np.bool_)
    shrunk[rows * height // mask.shape[0], columns * width // mask.shape[1]] = True
    return shrunk
