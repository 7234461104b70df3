"""The region of all images that is ignored: a jig, a label, a clock in the picture.

Its pixels are set to 0 in the network's input, in training and in prediction, so what lies there cannot change a
score or a map. The mask is text, so that the preprocessing in model files and graphs holds it.
"""

from base64 import b64decode, b64encode
from functools import lru_cache
from io import BytesIO
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganomaly.data.readers.decoding import decode_image, read_header
from ganomaly.data.readers.encoded_image import Pixels
from ganomaly.errors import ImageError, UsageError

MAX_SIDE = 512
"""Pixels of a stored mask's longer side; a larger mask is made smaller."""

MARGIN = 2
"""Pixels of a stored mask by which it grows, because resizing mixes the pixels at its edge with those outside."""


def read_ignored_region(path: str | Path) -> str:
    """Read a mask: pixels that are not 0 are ignored, in images of any size, relative to their sides.

    Returns
    -------
    str
        The mask, for `Preprocessing.ignored`.

    Raises
    ------
    UsageError
        If it cannot be read, or ignores nothing, or everything.
    """
    try:
        pixels = decode_image(Path(path))
    except ImageError as error:
        raise UsageError(f"the mask {path} cannot be read: {error}") from error
    return ignored_region(np.any(pixels[..., :3], axis=2), str(path))


def ignored_region(mask: NDArray[np.bool_], name: str = "to ignore") -> str:
    """The same from a mask in memory, `bool[h, w]`; `name` is for messages."""
    if not mask.any() or mask.all():
        what = "everything" if mask.any() else "nothing"
        raise UsageError(f"the mask {name} ignores {what}; pixels that are not 0 are ignored")
    step = -(-max(mask.shape) // MAX_SIDE)
    height, width = (-(-side // step) * step for side in mask.shape)
    padded = np.pad(mask, ((0, height - mask.shape[0]), (0, width - mask.shape[1])), mode="edge")
    smaller: NDArray[np.bool_] = padded.reshape(height // step, step, width // step, step).max(axis=(1, 3))
    return mask_to_text(smaller)


def mask_to_text(mask: NDArray[np.bool_]) -> str:
    """A mask `bool[h, w]` as a PNG in base 64."""
    file = BytesIO()
    Image.fromarray(mask).save(file, "PNG", optimize=True)
    return b64encode(file.getvalue()).decode()


@lru_cache(maxsize=4)
def mask_of(text: str) -> NDArray[np.bool_]:
    """The mask of a text with its margin, `bool[h, w]`; it must not be changed. Raises as `mask_from_text` does."""
    mask = np.pad(mask_from_text(text), MARGIN)
    height, width = (side - 2 * MARGIN for side in mask.shape)
    grown = np.zeros((height, width), dtype=np.bool_)
    for row, column in product(range(2 * MARGIN + 1), repeat=2):
        grown |= mask[row : row + height, column : column + width]
    return grown


def mask_from_text(text: str) -> NDArray[np.bool_]:
    """The mask of `mask_to_text`, `bool[h, w]`.

    Raises
    ------
    UsageError
        If the text holds no mask of at most `MAX_SIDE` pixels a side.
    """
    try:
        content = b64decode(text, validate=True)
        header = read_header(content, name="the mask")
        if max(header.height, header.width) > MAX_SIDE:
            raise ImageError(f"the mask has {header.width}×{header.height} pixels")
        mask: NDArray[np.bool_] = np.any(decode_image(content, name="the mask"), axis=2)
    except (ImageError, ValueError) as error:
        raise UsageError(f"the ignored region cannot be read: {error}") from error
    return mask


def mask_at_size(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """A mask for an image of another size, `bool[height, width]`: each pixel takes the one at its centre."""
    rows, columns = (
        (2 * np.arange(side) + 1) * length // (2 * side)
        for side, length in zip((height, width), mask.shape, strict=True)
    )
    resized: NDArray[np.bool_] = mask[rows][:, columns]
    return resized


def without_region(pixels: Pixels, ignored: str) -> Pixels:
    """Pixels `[h, w, C]` with those of the region set to 0."""
    mask = mask_at_size(mask_of(ignored), *pixels.shape[:2])
    return np.where(mask[..., None], pixels.dtype.type(0), pixels)
