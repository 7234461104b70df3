"""PNG with all its checksums: the CRC of each chunk, and the Adler-32 of the pixels.

Pillow and libpng check neither all the way to the end of the pixels, so that a damaged file can be decoded to other
pixels. The pixels are therefore inflated here, and passed on to the decoder in a zlib stream that is not compressed.
It is libpng where its pixels are ours, which is faster than Pillow: gray and RGB of 8 and 16 bits, with alpha or not.

Source: W3C, *Portable Network Graphics (PNG) Specification*, third edition, sections 5, 7.2 and 8.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from io import SEEK_END
from itertools import chain
from typing import IO, Any, TypeVar

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import PngImagePlugin
from zlib_ng import zlib_ng

from ganomaly.errors import ImageError

Content = TypeVar("Content", bytes, memoryview)

MAX_BYTES_AT_ONCE = 2**27
"""Bytes of pixels, before decoding, up to which an image is inflated in one piece."""

_WRONG_AMOUNT = "is truncated or damaged (it has fewer or more pixels than its header promises)"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_START = b"\0\0\0\rIHDR"  # length and kind of the first chunk
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PALETTE = 3
_LOWER_CASE = 0x20  # of the first letter: a decoder may leave out chunks that it does not know
_ZLIB_START = b"\x78\x01"
_LAST_BLOCK = b"\1\0\0\xff\xff"  # without content
_BLOCK = 65535  # bytes that a stored block holds at most
# first column and row, and distance of columns and rows, in each pass of an interlaced image
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class PngImageFile(PngImagePlugin.PngImageFile):
    """A PNG that Pillow opens, whose checksums are checked when it is decoded."""

    def load_prepare(self) -> None:
        """Begin to read at the first chunk again."""
        super().load_prepare()
        assert self.fp is not None
        self._blocks = chain([_ZLIB_START], _stored_blocks(self.fp))

    def load_read(self, read_bytes: int) -> bytes:
        """The next part of the pixels, in a zlib stream that is not compressed."""
        return next(self._blocks, b"")

    def load_end(self) -> None:
        """Check what follows the last row."""
        for _ in self._blocks:
            pass


def can_decode(file: IO[bytes]) -> bool:
    """Whether `decode` takes a PNG: not with a palette or fewer than 8 bits, and not if it is very large."""
    header = _Header.read(file)
    small = header.data_size() <= MAX_BYTES_AT_ONCE
    by_pillow = header.interlaced or not small  # which 16 bits cannot be
    return header.colour_type != _PALETTE and (header.bits == 16 or (header.bits == 8 and not by_pillow))


def decode(file: IO[bytes]) -> NDArray[Any]:
    """Decode a PNG, `uint8` or `uint16` `[H, W]` or `[H, W, C]`, with alpha if it has one.

    Raises
    ------
    ImageError
        If a checksum is wrong, or pixels are missing or too many.
    """
    header = _Header.read(file)
    if header.interlaced:
        return _decoded_passes(header, _inflated(file, header))
    large = header.data_size() > MAX_BYTES_AT_ONCE
    content = _stored_png(header, _stored_blocks(file) if large else _blocks(_inflated(file, header)))
    return imagecodecs.png_decode(content)


def _decoded_passes(header: "_Header", data: bytes) -> NDArray[Any]:
    """The pixels of an interlaced image: each pass is an image of its own."""
    samples = _SAMPLES[header.colour_type]
    pixels = np.empty((header.height, header.width, samples), np.uint16 if header.bits == 16 else np.uint8)
    passes = [place for place in _ADAM7 if place[0] < header.width and place[1] < header.height]
    for (left, top, columns, rows), (start, end, _) in zip(passes, header.rows(), strict=True):
        part = pixels[top::rows, left::columns]
        content = _stored_png(header.of_size(*part.shape[:2]), _blocks(data[start:end]))
        part[:] = imagecodecs.png_decode(content).reshape(part.shape)
    return pixels


def _inflated(file: IO[bytes], header: "_Header") -> bytes:
    """The pixels, inflated in one piece, which is faster than in blocks."""
    size = header.data_size()
    inflater = zlib_ng.decompressobj()
    data = inflater.decompress(b"".join(_image_data(file)), size + 1)
    if len(data) != size or not inflater.eof:
        raise ImageError(_WRONG_AMOUNT)
    # libpng refuses other filters too, but imagecodecs would lose a reference to None each time
    filters = np.frombuffer(data, np.uint8)
    if any(filters[start:end:stride].max() > 4 for start, end, stride in header.rows()):
        raise ImageError("is truncated or damaged (the filter of a row is unknown)")
    return data


class _Header:
    """Size and kind of the pixels, from the first chunk."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.width, self.height, self.bits, self.colour_type, compression, filters, self.interlaced = (
            struct.unpack(">IIBBBBB", content)
        )
        if compression or filters or self.interlaced > 1 or self.colour_type not in _SAMPLES:
            raise ImageError("is truncated or damaged (its header has unknown values)")

    @classmethod
    def read(cls, file: IO[bytes]) -> "_Header":
        file.seek(len(_SIGNATURE))
        start = file.read(len(_HEADER_START) + 13)
        if len(start) < len(_HEADER_START) + 13 or not start.startswith(_HEADER_START):
            raise ImageError("is truncated or damaged (it does not begin with a header)")
        return cls(start[len(_HEADER_START) :])

    def of_size(self, height: int, width: int) -> "_Header":
        """The header of an image of this kind that is not interlaced."""
        return _Header(struct.pack(">II", width, height) + self.content[8:12] + b"\0")

    def rows(self) -> Iterator[tuple[int, int, int]]:
        """Begin, end and bytes per row of the pixels in the inflated data, for each pass."""
        passes = _ADAM7 if self.interlaced else ((0, 0, 1, 1),)
        start = 0
        for left, top, columns, rows in passes:
            width, height = -((left - self.width) // columns), -((top - self.height) // rows)
            if width > 0 and height > 0:
                stride = 1 + (width * self.bits * _SAMPLES[self.colour_type] + 7) // 8
                yield start, start + height * stride, stride
                start += height * stride

    def data_size(self) -> int:
        """Bytes of the inflated data."""
        return sum(end - start for start, end, _ in self.rows())


def _image_data(file: IO[bytes]) -> Iterator[bytes]:
    """The compressed pixels, chunk by chunk; the CRC of all chunks of the file is checked on the way."""
    previous = b""
    critical: Counter[bytes] = Counter()
    for kind, content in _chunks(file):
        if not kind[0] & _LOWER_CASE:
            critical[kind] += kind != b"IDAT" or previous != b"IDAT"
            if kind not in _CRITICAL or critical[kind] > 1:
                raise ImageError(f"is truncated or damaged (the chunk {kind!r} is unknown or comes twice)")
        if kind == b"IDAT":
            yield content
        previous = kind


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk."""
    size = file.seek(0, SEEK_END)
    file.seek(len(_SIGNATURE))
    kind = b""
    while kind != b"IEND":
        start = file.read(8)
        length, kind = int.from_bytes(start[:4], "big"), start[4:]
        if len(start) < 8 or file.tell() + length + 4 > size:  # or a false length would allocate 4 GB
            raise ImageError("is truncated or damaged (it ends within a chunk)")
        content = file.read(length)
        if int.from_bytes(file.read(4), "big") != zlib_ng.crc32(content, zlib_ng.crc32(kind)):
            raise ImageError(f"is truncated or damaged (the checksum of the chunk {kind!r} is wrong)")
        yield kind, content


def _stored_blocks(file: IO[bytes]) -> Iterator[bytes]:
    """The pixels as blocks of a zlib stream that is not compressed: in turns the start of a block and its content."""
    left = _Header.read(file).data_size()
    inflater = zlib_ng.decompressobj()
    for content in _image_data(file):
        compressed, block = content, b""
        while compressed or len(block) == _BLOCK:  # a full block may have left some within the inflater
            block = inflater.decompress(compressed, _BLOCK)
            compressed = inflater.unconsumed_tail
            left -= len(block)
            if left < 0:
                raise ImageError(_WRONG_AMOUNT)
            if block:
                yield from _block(block)
    if left or not inflater.eof:
        raise ImageError(_WRONG_AMOUNT)


def _blocks(data: bytes) -> Iterator[bytes | memoryview]:
    """The same of pixels that are inflated already."""
    whole = memoryview(data)
    for start in range(0, len(data), _BLOCK):
        yield from _block(whole[start : start + _BLOCK])


def _block(content: Content) -> tuple[bytes, Content]:
    return struct.pack("<BHH", 0, len(content), len(content) ^ _BLOCK), content


def _stored_png(header: _Header, blocks: Iterable[bytes | memoryview]) -> bytes:
    """A PNG of these pixels that is not compressed."""
    parts = list(blocks)
    adler = 1
    for content in parts[1::2]:
        adler = zlib_ng.adler32(content, adler)
    parts = [_ZLIB_START, *parts, _LAST_BLOCK, adler.to_bytes(4, "big")]
    chunks = [_chunk(b"IHDR", [header.content]), _chunk(b"IDAT", parts), _chunk(b"IEND", [])]
    return b"".join([_SIGNATURE, *(part for chunk in chunks for part in chunk)])


def _chunk(kind: bytes, parts: list[bytes | memoryview]) -> list[bytes | memoryview]:
    checksum = zlib_ng.crc32(kind)
    for part in parts:
        checksum = zlib_ng.crc32(part, checksum)
    length = sum(len(part) for part in parts)
    return [length.to_bytes(4, "big"), kind, *parts, checksum.to_bytes(4, "big")]
