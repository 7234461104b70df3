"""From pixels of any size to the size and the channels of the network's input."""

from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from ganomaly.data.readers.encoded_image import Pixels
from ganomaly.data.strips import row_strips
from ganomaly.errors import ImageError

# ITU-R 601 luma in 16-bit fixed point, with Pillow's weights; they add up to 2**16
_LUMA = np.array([19595, 38470, 7471], dtype=np.uint32)
_HALF = np.uint32(0x8000)


def resize_image(image: Pixels, size: int | tuple[int, int], channels: int) -> Pixels:
    """Resize a whole image, and convert its channels.

    Nothing is cropped: a defect at the edge must stay visible. Bilinear with antialiasing, as
    `PIL.Image.resize(…, BILINEAR)`, the width first.

    Parameters
    ----------
    image : ndarray
        `uint8` or `uint16` `[H, W, C]`.
    size : int or (int, int)
        Side of a square, or height and width, in pixels.
    channels : int
        Of the result. Gray becomes RGB by copying, RGB becomes gray by its luma (ITU-R 601).

    Returns
    -------
    ndarray
        `[height, width, channels]` of the same type.

    Raises
    ------
    ImageError
        If its channels cannot be converted.
    """
    n_channels = image.shape[2]
    if n_channels != channels and {n_channels, channels} != {1, 3}:
        raise ImageError(
            f"it has {n_channels} channels where {channels} are needed; only gray and RGB are converted to each other"
        )
    if n_channels == 3 and channels == 1:
        image = _gray(image)
    height, width = (size, size) if isinstance(size, int) else size
    if image.shape[:2] != (height, width):
        image = _resized(image, height, width)
    return image if image.shape[2] == channels else _repeated(image, channels)


def _gray(image: Pixels) -> Pixels:
    gray = cast(Pixels, np.empty((*image.shape[:2], 1), image.dtype))
    for rows in row_strips(*image.shape[:2]):
        gray[rows, :, 0] = _luma(image[rows])
    return gray


def _luma(image: Pixels) -> Pixels:
    if image.dtype == np.uint8:
        luma: NDArray[np.uint8] = np.asarray(Image.fromarray(image).convert("L"))
        return luma
    weighted = image.astype(np.uint32) @ _LUMA  # at most (2**16 - 1) * 2**16, which 32 bits hold
    return ((weighted + _HALF) >> np.uint32(16)).astype(np.uint16)


def _repeated(gray: Pixels, channels: int) -> Pixels:
    return cast(Pixels, np.repeat(gray, channels, axis=2))


def _resized(image: Pixels, height: int, width: int) -> Pixels:
    """Resize the width first, as Pillow does or does not in one go, depending on its version."""
    channels = image.shape[2]
    if image.dtype == np.uint8 and channels in (1, 3):
        samples = _with_size(image[..., 0] if channels == 1 else image, height, width)
        return cast(Pixels, samples.reshape(height, width, channels))
    # in floating point, plane by plane: Pillow would take a fourth channel for alpha
    largest = np.iinfo(image.dtype).max
    planes = [
        np.rint(_with_size(image[..., channel], height, width, np.float32)).clip(0, largest)
        for channel in range(channels)
    ]
    return cast(Pixels, np.stack(planes, axis=-1).astype(image.dtype))


def _with_size(
    samples: NDArray[Any], height: int, width: int, dtype: DTypeLike | None = None
) -> NDArray[Any]:
    """Resize `[H, W]`, or `uint8[H, W, 3]`; of another type where one is given."""
    strips = [
        _resized_by_pillow(
            samples[rows].astype(dtype or samples.dtype, copy=False), rows.stop - rows.start, width
        )
        for rows in row_strips(*samples.shape[:2])
    ]
    return _resized_by_pillow(np.concatenate(strips) if len(strips) > 1 else strips[0], height, width)


def _resized_by_pillow(samples: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    image = Image.fromarray(samples).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)
