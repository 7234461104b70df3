"""Images with regions of their own that are ignored: a mask for each, or one for all of them."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganomaly.data.ignored_region import mask_of, read_ignored_region, region_of
from ganomaly.data.readers.decoding import decode_image
from ganomaly.data.readers.registry import image_suffixes
from ganomaly.data.sources.dataset import DerivedImages, ImageDataset
from ganomaly.data.sources.listing import list_folder
from ganomaly.errors import ImageError, UsageError

Mask = Path | NDArray[np.bool_] | None
"""A mask of one image, in a file or in memory; None where nothing is ignored."""

_SPLITS = ("train", "test")  # folders that masks need not repeat, as in MVTec AD layout


class ImagesWithIgnoredRegions(DerivedImages):
    """The same images, each with the region of it that is ignored.

    Parameters
    ----------
    dataset : ImageDataset
        The images.
    masks : sequence of Path, ndarray or None
        One for each image: pixels that are not 0 are ignored, relative to the sides of the image; `bool[h, w]`.
    source : str
        Where the masks are from, for messages.
    """

    def __init__(self, dataset: ImageDataset, masks: Sequence[Mask], source: str) -> None:
        super().__init__([dataset])
        self.name, self.records = dataset.name, dataset.records
        self._dataset, self._masks, self._source = dataset, masks, source

    @property
    def has_ignored_regions(self) -> bool:
        """True."""
        return True

    def describe(self) -> str:
        """How many images have a mask, in one sentence."""
        n_masks = sum(mask is not None for mask in self._masks)
        if n_masks == len(self._masks):
            return f"All {n_masks} images have a mask in {self._source}."
        without = len(self._masks) - n_masks
        return (
            f"{n_masks} of {len(self._masks)} images have a mask in {self._source}; nothing is ignored in the other "
            f"{without}."
        )

    def fingerprint(self) -> str:
        """What tells these masks from others: a hash of all of them."""
        digest = blake2b(digest_size=16)
        for mask in self._masks:
            content = b""
            if isinstance(mask, Path):
                try:
                    content = decode_image(mask).tobytes()
                except ImageError:
                    content = b"unreadable"
            elif mask is not None:
                content = f"{mask.shape}".encode() + np.ascontiguousarray(mask).tobytes()
            digest.update(len(content).to_bytes(8, "little") + content)
        return digest.hexdigest()

    def read_ignored_region(self, index: int) -> NDArray[np.bool_] | None:
        """Read the mask of an image."""
        mask = self._masks[index]
        if mask is None:
            return None
        if not isinstance(mask, Path):
            return region_of(mask)
        try:
            region = region_of(np.any(decode_image(mask)[..., :3], axis=2))
        except ImageError as error:
            raise ImageError(f"its mask cannot be read: {error}") from error
        if region.all():
            raise ImageError(f"its mask {mask} ignores everything; pixels that are not 0 are ignored")
        return region

    def _located(self, index: int) -> tuple[ImageDataset, int]:
        return self._dataset, index


class _OneRegion(ImagesWithIgnoredRegions):
    """The same images, with one region for all of them."""

    def __init__(self, dataset: ImageDataset, region: NDArray[np.bool_], source: str) -> None:
        super().__init__(dataset, [], source)
        self._region = region

    def describe(self) -> str:
        return f"The mask {self._source} is that of all {len(self)} images."

    def fingerprint(self) -> str:
        return blake2b(self._region.tobytes(), digest_size=16).hexdigest()

    def read_ignored_region(self, index: int) -> NDArray[np.bool_] | None:
        return self._region


def with_ignored_regions(dataset: ImageDataset, ignore: Any) -> ImagesWithIgnoredRegions:
    """The same images, with regions that are ignored.

    Parameters
    ----------
    dataset : ImageDataset
        The images.
    ignore : path, ndarray, or sequence of ndarray or None
        A mask for all images; or one for each. Pixels that are not 0 are ignored, in images of any size, relative to
        their sides. A path is an image, or a folder of them, which is searched for each image `crack/000.png` as
        `crack/000_mask.png` and `crack/000.png`, with `test/` or `train/` before it or not. An array is
        `bool[h, w]`, or `bool[N, h, w]` for N images.

    Raises
    ------
    UsageError
        If it cannot be read, no image has a mask, or the number of masks is not that of the images.
    """
    if isinstance(ignore, str | Path):
        path = Path(ignore)
        if path.is_dir():
            return ImagesWithIgnoredRegions(dataset, _masks_in(path, dataset), str(path))
        return _OneRegion(dataset, mask_of(read_ignored_region(path)), str(path))
    if isinstance(ignore, np.ndarray) and ignore.ndim == 2:
        return _OneRegion(dataset, _region_in_memory(ignore), "to ignore")
    masks = [None if mask is None else np.asarray(mask) != 0 for mask in ignore]
    if len(masks) != len(dataset) or any(mask is not None and mask.ndim != 2 for mask in masks):
        raise UsageError(
            f"there are {len(masks)} masks to ignore for {len(dataset)} images; give one `bool[h, w]` for all, or "
            "one for each"
        )
    for mask in masks:
        if mask is not None and region_of(mask).all():
            raise UsageError("a mask to ignore ignores everything; pixels that are not 0 are ignored")
    return ImagesWithIgnoredRegions(dataset, masks, "the list")


def _region_in_memory(mask: NDArray[Any]) -> NDArray[np.bool_]:
    region = region_of(mask != 0)
    if region.all() or not region.any():
        what = "everything" if region.any() else "nothing"
        raise UsageError(f"the mask to ignore ignores {what}; pixels that are not 0 are ignored")
    return region


def _masks_in(folder: Path, dataset: ImageDataset) -> Sequence[Mask]:
    """The mask of each image in a folder; None for one without."""
    masks = {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in reversed(list_folder(folder).images)
    }
    found = [_mask_of_image(dataset.stored(index).name, masks) for index in range(len(dataset))]
    if not any(found):
        raise UsageError(
            f"none of the images in {dataset.name} has a mask in {folder}; a mask is named as its image, with _mask "
            "or without, in the same subfolder"
        )
    return found


def _mask_of_image(name: str, masks: dict[str, Path]) -> Path | None:
    path = PurePosixPath(name)
    if path.suffix.lower() not in image_suffixes():
        return None
    whole = path.with_suffix("")
    stems = [whole]
    if len(whole.parts) > 1 and whole.parts[0] in _SPLITS:
        stems.append(PurePosixPath(*whole.parts[1:]))
    candidates = (f"{stem}{ending}" for stem in stems for ending in ("_mask", ""))
    return next((masks[candidate] for candidate in candidates if candidate in masks), None)
