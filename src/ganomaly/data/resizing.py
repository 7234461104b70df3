"""From pixels of any size to the size and the channels of the network's input."""

from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganomaly.data.readers.encoded_image import Pixels
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
    if n_channels == 3 and channels == 1:
        image = _gray(image)
    elif n_channels != channels and not (n_channels == 1 and channels == 3):
        raise ImageError(
            f"it has {n_channels} channels where {channels} are needed; only gray and RGB are converted to each other"
        )
    height, width = (size, size) if isinstance(size, int) else size
    if image.shape[:2] != (height, width):
        image = _resized(image, height, width)
    return image if image.shape[2] == channels else _repeated(image, channels)


def _gray(image: Pixels) -> Pixels:
    if image.dtype == np.uint8:
        luma: NDArray[np.uint8] = np.asarray(Image.fromarray(image).convert("L"))
        return luma[..., np.newaxis]
    weighted = image.astype(np.uint32) @ _LUMA  # at most (2**16 - 1) * 2**16, which 32 bits hold
    return ((weighted + _HALF) >> np.uint32(16)).astype(np.uint16)[..., np.newaxis]


def _repeated(gray: Pixels, channels: int) -> Pixels:
    return cast(Pixels, np.repeat(gray, channels, axis=2))


def _resized(image: Pixels, height: int, width: int) -> Pixels:
    channels = image.shape[2]
    if image.dtype == np.uint8 and channels in (1, 3):
        whole = Image.fromarray(image[..., 0] if channels == 1 else image)
        # width first, then height: Pillow's own order depends on its version, and with it the last bit
        right_width = whole.resize((width, image.shape[0]), Image.Resampling.BILINEAR)
        resized: NDArray[np.uint8] = np.asarray(
            right_width.resize((width, height), Image.Resampling.BILINEAR)
        )
        return resized.reshape(height, width, channels)
    planes = [_resized_plane(image[..., channel], height, width) for channel in range(channels)]
    return cast(Pixels, np.stack(planes, axis=-1))


def _resized_plane(plane: Pixels, height: int, width: int) -> Pixels:
    """Resize one channel in floating point; Pillow would take a fourth channel for alpha."""
    image = Image.fromarray(plane.astype(np.float32))
    resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return cast(Pixels, np.rint(resized).clip(0, np.iinfo(plane.dtype).max).astype(plane.dtype))
