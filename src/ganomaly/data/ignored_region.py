"""Regions of images that are ignored: a jig, a label, a clock in the picture.

A region of all images belongs to the model: its pixels are set to 0 in the network's input, in training and in
prediction, so what lies there cannot change a score or a map. The mask is text, so that the preprocessing in model
files and graphs holds it.

A region of one image belongs to the image, see `ganomaly.data.sources.ignored`. It is filled from what surrounds it,
because normal images show no black areas there, and methods that score positions leave it out.
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

_SWEEPS = 8  # at each scale


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
    return mask_to_text(_made_smaller(mask))


def region_of(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The region of one image from its mask `bool[H, W]`: at most `MAX_SIDE` pixels a side, with its margin."""
    return _grown(_made_smaller(mask))


def mask_to_text(mask: NDArray[np.bool_]) -> str:
    """A mask `bool[h, w]` as a PNG in base 64."""
    file = BytesIO()
    Image.fromarray(mask).save(file, "PNG", optimize=True)
    return b64encode(file.getvalue()).decode()


@lru_cache(maxsize=4)
def mask_of(text: str) -> NDArray[np.bool_]:
    """The mask of a text with its margin, `bool[h, w]`; it must not be changed. Raises as `mask_from_text` does."""
    return _grown(mask_from_text(text))


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


def with_region(pixels: Pixels, region: NDArray[np.bool_] | None) -> Pixels:
    """Fill the region of an image, and append it as one more channel: `[h, w, C]` to `[h, w, C + 1]`.

    So it goes with the pixels wherever they go, into batches and into patches; `split_region` takes it off again.
    """
    if region is None:
        return np.concatenate([pixels, np.zeros_like(pixels[..., :1])], axis=2)
    mask = mask_at_size(region, *pixels.shape[:2])
    if mask.all():
        raise ImageError("nothing of the image is left")
    values = np.rint(_filled(pixels.astype(np.float32), ~mask)).astype(pixels.dtype)
    return np.concatenate([values, mask[..., None].astype(pixels.dtype)], axis=2)


def split_region(pixels: Pixels, channels: int) -> tuple[Pixels, NDArray[np.bool_] | None]:
    """Images `[N, h, w, C]`, and the region of each that is ignored, `bool[N, h, w]`, if they come with one."""
    if pixels.shape[3] == channels:
        return pixels, None
    return pixels[..., :channels], pixels[..., channels] != 0


def _filled(values: NDArray[np.float32], given: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Continue values `float[h, w, C]` smoothly to where they are not given: coarsely first, then finer.

    Source: Gortler, Grzeszczuk, Szeliski, Cohen, *The Lumigraph*, SIGGRAPH 1996, section 3.2 (pull, push), with a few
    means over neighbours at each scale.
    """
    if given.all() or not given.any():
        return values
    height, width = given.shape
    rim = ((0, height % 2), (0, width % 2))
    weights = np.pad(given, rim).astype(np.float32)[..., None]
    coarse_shape = (weights.shape[0] // 2, 2, weights.shape[1] // 2, 2, -1)
    sums = (np.pad(values, (*rim, (0, 0))) * weights).reshape(coarse_shape).sum(axis=(1, 3))
    counts = weights.reshape(coarse_shape).sum(axis=(1, 3))
    coarse = _filled(sums / np.maximum(counts, 1), counts[..., 0] > 0)
    result = np.where(given[..., None], values, coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width])
    for _ in range(_SWEEPS):
        padded = np.pad(result, ((1, 1), (1, 1), (0, 0)), mode="edge")
        mean = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4
        result = np.where(given[..., None], result, mean)
    return result


def _made_smaller(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask of at most `MAX_SIDE` pixels a side: a pixel is set where one of those that it replaces is."""
    step = -(-max(mask.shape) // MAX_SIDE)
    height, width = (-(-side // step) * step for side in mask.shape)
    padded = np.pad(mask, ((0, height - mask.shape[0]), (0, width - mask.shape[1])), mode="edge")
    smaller: NDArray[np.bool_] = padded.reshape(height // step, step, width // step, step).max(axis=(1, 3))
    return smaller


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask with its margin, of the same size."""
    padded = np.pad(mask, MARGIN)
    height, width = mask.shape
    grown = np.zeros((height, width), dtype=np.bool_)
    for row, column in product(range(2 * MARGIN + 1), repeat=2):
        grown |= padded[row : row + height, column : column + width]
    return grown
