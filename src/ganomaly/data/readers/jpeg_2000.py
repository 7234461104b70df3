"""JPEG 2000: bare code streams and JP2 files, gray or RGB, 8 to 16 bits without sign.

Fewer than 16 bits in 16 stay as they are. A fourth channel that no definition calls alpha is kept.

Layout of headers: ISO/IEC 15444-1, annexes A and I.
"""

import re
import struct
from typing import IO

import imagecodecs

from ganomaly.data.readers.codec_image import CodecImage
from ganomaly.data.readers.encoded_image import FormatFamily, ImageHeader
from ganomaly.errors import ImageError

_STREAM = b"\xff\x4f\xff\x51"  # the markers SOC and SIZ, with which a code stream begins
_SRGB, _GRAY = 16, 17  # colour spaces
_ALPHA = (1, 2)  # kinds of a channel
_MAX_BOXES = 1000


def read_jpeg_2000(file: IO[bytes]) -> CodecImage:
    """Read the header of a JPEG 2000 image."""
    has_alpha = _open_stream(file)
    height, width, channels, bits = _size(file)
    if has_alpha and channels in (2, 4):
        channels -= 1
    header = ImageHeader(height, width, channels, bits)
    return CodecImage(
        file,
        header,
        imagecodecs.JPEG2K,
        lambda content: imagecodecs.jpeg2k_decode(content, numthreads=1),
        "JPEG 2000",
    )


def _open_stream(file: IO[bytes]) -> bool:
    """Go to the code stream; return whether the file says that its last channel is alpha."""
    start = file.read(4)
    file.seek(0)
    if start == _STREAM:
        return False
    has_alpha = False
    for _ in range(_MAX_BOXES):
        kind, size = _box(file)
        if kind == b"jp2c":
            return has_alpha
        if kind == b"jp2h":  # its boxes follow
            continue
        if kind in (b"colr", b"cdef", b"pclr"):
            content = file.read(min(size, 1000))
            size -= len(content)
            _check_colours(kind, content)
            has_alpha = has_alpha or (kind == b"cdef" and _names_alpha(content))
        file.seek(size, 1)
    raise ImageError("is damaged: it has no code stream")


def _box(file: IO[bytes]) -> tuple[bytes, int]:
    """Kind and size of the box that begins here, without its header."""
    length, kind = struct.unpack(">I4s", file.read(8))
    if length == 1:
        (length,) = struct.unpack(">Q", file.read(8))
        length -= 8
    if length == 0 and kind != b"jp2c":  # up to the end of the file, which only pixels may be
        raise ImageError("is damaged: it has no code stream")
    if length and length < 8:
        raise ImageError("is damaged: one of its boxes has no size")
    return kind, max(0, length - 8)


def _check_colours(kind: bytes, content: bytes) -> None:
    if kind == b"pclr":
        raise ImageError("has a palette, which is not read in JPEG 2000; save it as RGB")
    if kind == b"colr" and content[0] == 1:
        (space,) = struct.unpack(">I", content[3:7])
        if space not in (_SRGB, _GRAY):
            raise ImageError(f"has the colour space {space}, which is not read in JPEG 2000; save it as RGB")


def _names_alpha(content: bytes) -> bool:
    """Whether a channel definition names transparency: triples of channel, kind and what it belongs to."""
    (n,) = struct.unpack(">H", content[:2])
    kinds = [struct.unpack(">H", content[4 + 6 * i : 6 + 6 * i])[0] for i in range(min(n, 16))]
    return any(kind in _ALPHA for kind in kinds)


def _size(file: IO[bytes]) -> tuple[int, int, int, int]:
    """Height, width, channels and bits (8 or 16) of the code stream that begins here."""
    if file.read(4) != _STREAM:
        raise ImageError("is damaged: its code stream does not begin with its size")
    right, lower, left, upper = struct.unpack(">4xIIII", file.read(20))
    (channels,) = struct.unpack(">16xH", file.read(18))
    components = [struct.unpack("BBB", file.read(3)) for _ in range(min(channels, 5))]
    if any(component[0] & 0x80 for component in components):
        raise ImageError("has pixels with a sign; only those without are read")
    depths = {component[0] + 1 for component in components}
    if len(depths) != 1 or any(component[1:] != (1, 1) for component in components):
        raise ImageError("has channels of different bits or sizes, which is not read; save it as RGB")
    depth = depths.pop()
    if not 8 <= depth <= 16:
        raise ImageError(f"has {depth} bits per sample; 8 to 16 are read")
    return lower - upper, right - left, channels, 8 if depth == 8 else 16


JPEG_2000 = FormatFamily(
    names=("JPEG 2000",),
    suffixes=(".jp2", ".j2k", ".jpf", ".jpc"),
    signature=re.compile(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"),
    read_header=read_jpeg_2000,
)
