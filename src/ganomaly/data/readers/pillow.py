"""PNG, JPEG, BMP, WebP and AVIF, by Pillow.

Most PNG are decoded by `png`, and AVIF of 10 and 12 bits by imagecodecs: Pillow would cut both to 8 bits.
"""

import re
import warnings
from typing import IO, Any

import imagecodecs
import numpy as np
from PIL import AvifImagePlugin, BmpImagePlugin, Image, ImageFile, JpegImagePlugin, WebPImagePlugin

from ganomaly.data.large_images import LARGE_PIXELS, check_memory
from ganomaly.data.readers import png
from ganomaly.data.readers.encoded_image import (
    EncodedImage,
    FormatFamily,
    ImageHeader,
    Pixels,
    swaps_sides,
    upright,
)
from ganomaly.data.strips import row_strips
from ganomaly.errors import ImageError

# Damaged metadata do not matter where the pixels are sound. The filter is set once, because
# `warnings.catch_warnings` around each image is not thread-safe.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.(TiffImagePlugin|PngImagePlugin)")

# The classes are used without `Image.open`, which warns of large images before their size can be checked
_FORMATS: tuple[tuple[str, bytes, type[ImageFile.ImageFile]], ...] = (
    ("PNG", rb"\x89PNG\r\n\x1a\n", png.PngImageFile),
    ("JPEG", rb"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    ("BMP", rb"BM", BmpImagePlugin.BmpImageFile),
    ("WebP", rb"RIFF.{4}WEBP", WebPImagePlugin.WebPImageFile),
    ("AVIF", rb".{4}ftypavi[fs]", AvifImagePlugin.AvifImageFile),
)

_CHANNELS = {"1": 1, "L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "RGBX": 3, "CMYK": 3}
_CHANNELS_OF_PNG = {0: 1, 2: 3, 4: 1, 6: 3}  # by colour type, without alpha
_ORIENTATION = 0x0112
_AVIF_HEADER_BYTES = 2**16
_HIGH_BIT_DEPTH = 0x40  # in the third byte of the configuration of AV1


class PillowImage(EncodedImage):
    """An image that Pillow opened and has not decoded.

    Parameters
    ----------
    file : binary file
        At its start, in a format of `PILLOW`; read again when decoding, so it must stay open until then.
    """

    def __init__(self, file: IO[bytes]) -> None:
        start = file.read(26)
        file.seek(0)
        self._file = file
        name, plugin = next(
            (name, plugin) for name, signature, plugin in _FORMATS if re.match(signature, start, re.DOTALL)
        )
        if name == "AVIF" and not AvifImagePlugin.SUPPORTED:
            raise ImageError(
                "is AVIF, which this build of Pillow does not decode; pip install --upgrade pillow, or save it as PNG"
            )
        self._image = plugin(file)
        frames = getattr(self._image, "n_frames", 1)
        if frames > 1:
            raise ImageError(f"is an animation of {frames} images; save the one that is meant")
        self._orientation = _orientation(self._image)
        # bit depth and colour type are at a fixed offset in the first chunk
        self._is_png, self._is_webp = name == "PNG", name == "WebP"
        self._is_deep_avif = name == "AVIF" and _avif_is_deep(file)
        is_16_bit = self._is_deep_avif or (self._is_png and start[24:25] == b"\x10")
        channels = _CHANNELS_OF_PNG[start[25]] if is_16_bit and self._is_png else _channels(self._image)
        width, height = self._image.size
        if swaps_sides(self._orientation):
            height, width = width, height
        self.header = ImageHeader(height, width, channels, 16 if is_16_bit else 8).checked()

    def decode(self, smallest_side: int | None = None) -> Pixels:
        """Decode; a JPEG at 1/2, 1/4 or 1/8 of its size where `smallest_side` allows it."""
        channels = self.header.channels
        if self._is_png and png.can_decode(self._file):
            check_memory(4 * self.header.n_bytes)  # compressed, inflated, and twice decoded
            samples = png.decode(self._file)
            pixels = samples.reshape(*samples.shape[:2], -1)[..., :channels]
        elif self._is_webp and self.header.height * self.header.width > LARGE_PIXELS:
            # Pillow's decoder is for animations, and takes memory for two frames of RGBA beside the image
            check_memory(2 * self.header.n_bytes)
            self._file.seek(0)
            pixels = imagecodecs.webp_decode(self._file.read())[..., :channels]
        elif self._is_deep_avif:
            check_memory(4 * self.header.n_bytes)
            self._file.seek(0)
            samples = imagecodecs.avif_decode(self._file.read(), numthreads=1)
            pixels = samples.reshape(*samples.shape[:2], -1)[..., :channels]
        else:
            image = self._image
            if smallest_side is not None:
                image.draft(None, (2 * smallest_side, 2 * smallest_side))  # only JPEG does this
            width, height = image.size
            check_memory(width * height * (channels + (1 if image.mode in ("1", "L", "P") else 4)))
            pixels = _pixels(image, channels)
            image.close()  # it may take as much memory as the pixels
        return upright(np.ascontiguousarray(pixels), self._orientation)


def _avif_is_deep(file: IO[bytes]) -> bool:
    """Whether an AVIF has 10 or 12 bits per sample, which stay as they are in 16."""
    file.seek(0)
    start = file.read(_AVIF_HEADER_BYTES)
    at = start.find(b"av1C")
    return at >= 0 and len(start) > at + 6 and bool(start[at + 6] & _HIGH_BIT_DEPTH)


def _channels(image: ImageFile.ImageFile) -> int:
    if image.mode == "P":
        if image.palette is None:
            raise ImageError("is truncated or damaged (its palette is missing)")
        return 1 if _palette_is_gray(image) else 3
    if image.mode not in _CHANNELS:
        raise ImageError(f"has pixels of kind {image.mode!r}, which are not read; save it as gray or RGB")
    return _CHANNELS[image.mode]


def _palette_is_gray(image: ImageFile.ImageFile) -> bool:
    """Whether all its colours are gray; not by `getpalette`, which would decode the image."""
    assert image.palette is not None
    bands, content = image.palette.getdata()
    entries = np.frombuffer(bytes(content), dtype=np.uint8)
    colours = entries[: len(entries) // len(bands) * len(bands)].reshape(-1, len(bands))[:, :3]
    return bool((colours == colours[:, :1]).all())


def _pixels(image: Image.Image, channels: int) -> Any:
    """Decode to `uint8[H, W, channels]`, without alpha."""
    image.load()
    image.info.pop("transparency", None)  # it is not used, and Pillow would warn about it
    width, height = image.size  # of a JPEG that was reduced
    strips = list(row_strips(height, width))
    if len(strips) == 1:
        return _samples(image)[..., :channels]
    pixels = np.empty((height, width, channels), np.uint8)
    for rows in strips:
        pixels[rows] = _samples(image.crop((0, rows.start, width, rows.stop)))[..., :channels]
    return pixels


def _samples(image: Image.Image) -> Any:
    """The samples of an image, `uint8[H, W, C]`, with alpha if it has one."""
    if image.mode in ("P", "CMYK"):
        image = image.convert("RGB")
    samples = np.asarray(image)
    if samples.dtype == np.bool_:
        samples = samples.view(np.uint8)  # Pillow stores 255 for true
    return samples.reshape(*samples.shape[:2], -1)


def _orientation(image: ImageFile.ImageFile) -> int:
    """EXIF orientation, 1 to 8; 1 where none is given or the metadata are damaged."""
    encoded = image.info.get("exif")
    if not encoded:
        return 1
    exif = Image.Exif()
    try:
        exif.load(encoded)
        orientation = exif.get(_ORIENTATION, 1)
    except Exception:  # Pillow raises anything on damaged metadata, and the pixels are sound
        return 1
    return orientation if isinstance(orientation, int) else 1


PILLOW = FormatFamily(
    names=tuple(name for name, _, _ in _FORMATS),
    suffixes=(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".avif"),
    signature=re.compile(b"|".join(signature for _, signature, _ in _FORMATS), re.DOTALL),
    read_header=PillowImage,
)
