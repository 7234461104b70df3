"""JPEG XL: still images, gray or RGB, 8 to 16 bits without sign. Fewer than 16 bits in 16 stay as they are.

Layout of headers: ISO/IEC 18181-1, annexes A to E. They are packed bit by bit, the lowest first.
"""

import re
import struct
from typing import IO

import imagecodecs

from ganomaly.data.readers.codec_image import CodecImage
from ganomaly.data.readers.encoded_image import FormatFamily, ImageHeader
from ganomaly.errors import ImageError

_STREAM = b"\xff\x0a"
_HEADER_BYTES = 4096  # more than any header of a still image takes without names of thousands of letters
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_GRAY = 1  # colour space
_MAX_BOXES = 1000
_MAX_EXTRA = 16  # channels


def read_jpeg_xl(file: IO[bytes]) -> CodecImage:
    """Read the header of a JPEG XL image."""
    bits = _Bits(_stream(file))
    height, width = _size(bits)
    n_channels, depth, is_swapped = _metadata(bits)
    if not 8 <= depth <= 16:
        raise ImageError(f"has {depth} bits per sample; 8 to 16 are read")
    if is_swapped:
        height, width = width, height
    header = ImageHeader(height, width, n_channels, 8 if depth == 8 else 16)
    return CodecImage(
        file,
        header,
        imagecodecs.JPEGXL,
        lambda content: imagecodecs.jpegxl_decode(content, numthreads=1),
        "JPEG XL",
    )


class _Bits:
    """Numbers of some bits each, the lowest bit first."""

    def __init__(self, content: bytes) -> None:
        self._value, self._left = int.from_bytes(content, "little"), 8 * len(content)

    def number(self, n: int) -> int:
        if n > self._left:
            raise ImageError("is truncated: its header is not complete")
        value = self._value & ((1 << n) - 1)
        self._value >>= n
        self._left -= n
        return value

    def flag(self) -> bool:
        return bool(self.number(1))

    def choice(self, *options: tuple[int, int]) -> int:
        """One of four numbers: each begins at an offset and has some bits."""
        offset, n = options[self.number(2)]
        return offset + self.number(n)

    def enumerated(self) -> int:
        return self.choice((0, 0), (1, 0), (2, 4), (18, 6))


def _stream(file: IO[bytes]) -> bytes:
    """The first bytes of the code stream, after its signature."""
    start = file.read(2)
    if start == _STREAM:
        return file.read(_HEADER_BYTES)
    file.seek(0)
    for _ in range(_MAX_BOXES):
        length, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            header = 16
        if kind in (b"jxlc", b"jxlp"):
            content = file.read(4)[:0] if kind == b"jxlp" else b""  # parts are numbered
            content += file.read(min(_HEADER_BYTES, length - header) if length else _HEADER_BYTES)
            return content[len(_STREAM) :]
        if length < header:
            break
        file.seek(length - header, 1)
    raise ImageError("is damaged: it has no code stream")


def _size(bits: _Bits) -> tuple[int, int]:
    """Height and width."""
    is_small = bits.flag()

    def side() -> int:
        return 8 * (1 + bits.number(5)) if is_small else bits.choice((1, 9), (1, 13), (1, 18), (1, 30))

    height = side()
    ratio = bits.number(3)
    if ratio == 0:
        return height, side()
    numerator, denominator = _RATIOS[ratio]
    return height, height * numerator // denominator


def _metadata(bits: _Bits) -> tuple[int, int, bool]:
    """Channels without alpha, bits per sample, and whether turning the image upright swaps its sides."""
    if bits.flag():  # all defaults
        return 3, 8, False
    orientation = 0
    if bits.flag():
        orientation = bits.number(3)
        if bits.flag():
            _size(bits)  # for display
        if bits.flag():
            raise ImageError("holds a preview beside the image, which is not read; save it without")
        if bits.flag():
            raise ImageError("is an animation; save the image that is meant")
    depth = _depth(bits)
    bits.flag()  # whether 16 bits do for decoding
    n_extra = bits.choice((0, 0), (1, 0), (2, 4), (1, 12))
    if n_extra > _MAX_EXTRA:
        raise ImageError(f"has {n_extra} channels beside its colours; save those that matter")
    for _ in range(n_extra):
        _skip_extra_channel(bits)
    bits.flag()  # whether colours are stored as XYB
    is_gray = False
    if not bits.flag():  # not all defaults
        bits.flag()  # whether a profile follows
        is_gray = bits.enumerated() == _GRAY
    return 1 if is_gray else 3, depth, orientation >= 4


def _depth(bits: _Bits) -> int:
    if bits.flag():
        raise ImageError("has floating-point pixels; save it with 8 or 16 bits")
    return bits.choice((8, 0), (10, 0), (12, 0), (1, 6))


def _skip_extra_channel(bits: _Bits) -> None:
    if bits.flag():  # alpha of 8 bits
        return
    kind = bits.enumerated()
    if kind != 0:
        raise ImageError("has a channel that is neither colour nor alpha; save it without")
    _depth(bits)
    bits.choice((0, 0), (3, 0), (4, 0), (1, 3))  # how much smaller it is
    for _ in range(bits.choice((0, 0), (0, 4), (16, 5), (48, 10))):
        bits.number(8)  # a letter of its name
    bits.flag()  # whether colours are multiplied by it


JPEG_XL = FormatFamily(
    names=("JPEG XL",),
    suffixes=(".jxl",),
    signature=re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    read_header=read_jpeg_xl,
)
