"""A file whose checksums say that it is damaged is refused, and never decoded to other pixels."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from ganomaly.data.readers import png
from ganomaly.data.readers.decoding import decode_image
from ganomaly.errors import ImageError

SIDE = 24
GRADIENT = np.repeat(np.linspace(0, 255, SIDE).astype(np.uint8)[None], SIDE, axis=0)
BOARD = ((np.indices((SIDE, SIDE)) // 8).sum(axis=0) % 2 * 255).astype(np.uint8)
COLOURS = np.stack([GRADIENT, GRADIENT.T, BOARD], axis=-1)


def png_file(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_by_hand(pixels: NDArray[np.uint8], data: bytes, *, height: int | None = None) -> bytes:
    """A gray PNG with these compressed pixels, and with all CRC right."""
    header = struct.pack(">IIBBBBB", pixels.shape[1], height or pixels.shape[0], 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def unfiltered(pixels: NDArray[np.uint8]) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in pixels)


INTERLACED = (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 1))
    + chunk(
        b"IDAT",
        zlib.compress(
            b"".join(
                unfiltered(GRADIENT[top::rows, left::columns])
                for left, top, columns, rows in (
                    (0, 0, 8, 8),
                    (4, 0, 8, 8),
                    (0, 4, 4, 8),
                    (2, 0, 4, 4),
                    (0, 2, 2, 4),
                    (1, 0, 2, 2),
                    (0, 1, 1, 2),
                )
            )
        ),
    )
    + chunk(b"IEND", b"")
)
PNGS = {
    "gradient": (png_file(Image.fromarray(GRADIENT)), GRADIENT),
    "board": (png_file(Image.fromarray(BOARD)), BOARD),
    "colours": (png_file(Image.fromarray(COLOURS)), COLOURS),
    "one bit": (png_file(Image.fromarray(BOARD).convert("1")), BOARD),
    "palette": (png_file(Image.fromarray(COLOURS).quantize(8)), None),
    "interlaced": (INTERLACED, GRADIENT),
    "16 bits": (imagecodecs.png_encode(COLOURS.astype(np.uint16) * 257), COLOURS.astype(np.uint16) * 257),
}


def is_refused(content: bytes) -> bool:
    try:
        decode_image(content)
    except ImageError:
        return True
    return False


@pytest.mark.parametrize("kind", PNGS)
def test_no_bit_of_a_png_can_change_unnoticed(kind: str) -> None:
    content, pixels = PNGS[kind]
    decoded = decode_image(content)
    if pixels is not None:
        np.testing.assert_array_equal(decoded.squeeze(), pixels)
    unnoticed = []
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        if not is_refused(bytes(changed)):
            unnoticed.append(bit)
    assert unnoticed == []


@pytest.mark.parametrize("large", [False, True], ids=["in one piece", "in parts"])
def test_pixels_of_a_png_with_another_adler_32_are_refused(
    large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(png, "MAX_BYTES_AT_ONCE", 0 if large else 2**27)
    data = zlib.compress(unfiltered(GRADIENT))
    np.testing.assert_array_equal(decode_image(png_by_hand(GRADIENT, data))[..., 0], GRADIENT)
    assert is_refused(png_by_hand(GRADIENT, data[:-1] + bytes([data[-1] ^ 1])))
    assert is_refused(png_by_hand(GRADIENT, data[:-2]))


@pytest.mark.parametrize("large", [False, True], ids=["in one piece", "in parts"])
@pytest.mark.parametrize("height", [SIDE - 1, SIDE + 1])
def test_a_png_with_fewer_or_more_pixels_than_its_header_promises_is_refused(
    height: int, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(png, "MAX_BYTES_AT_ONCE", 0 if large else 2**27)
    assert is_refused(png_by_hand(GRADIENT, zlib.compress(unfiltered(GRADIENT)), height=height))


def test_a_png_without_its_end_or_with_pixels_in_two_places_is_refused() -> None:
    content = png_by_hand(GRADIENT, zlib.compress(unfiltered(GRADIENT)))
    assert is_refused(content[:-12])
    assert is_refused(content[:-12] + chunk(b"tEXt", b"a\0b") + content[33:])
    assert is_refused(content[:-12] + chunk(b"ABCD", b"") + content[-12:])
    assert not is_refused(content[:-12] + chunk(b"tEXt", b"a\0b") + content[-12:])


def test_a_row_with_an_unknown_filter_is_refused() -> None:
    assert is_refused(png_by_hand(GRADIENT, zlib.compress(b"\7" + unfiltered(GRADIENT)[1:])))


@pytest.mark.parametrize("large", [False, True], ids=["in one piece", "in parts"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 70_000), (70_000, 1), (257, 255), (300, 400, 3)])
def test_a_png_of_any_size_keeps_its_pixels(
    shape: tuple[int, ...], large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(png, "MAX_BYTES_AT_ONCE", 0 if large else 2**27)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    flat = np.zeros(shape, np.uint8)
    for image in (pixels, flat):
        np.testing.assert_array_equal(decode_image(png_file(Image.fromarray(image))).reshape(shape), image)


def tiff_file(pixels: NDArray[np.generic], **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


@pytest.mark.parametrize("compression", ["adobe_deflate", "lzma"])
@pytest.mark.parametrize("layout", [{}, {"rowsperstrip": 8}, {"tile": (16, 16)}, {"predictor": 2}])
def test_no_bit_of_the_pixels_of_a_tiff_with_a_checksum_can_change_them(
    compression: str, layout: dict[str, object]
) -> None:
    content = tiff_file(GRADIENT, compression=compression, **layout)
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        start, length = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    for bit in range(8 * start, 8 * (start + length)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            pixels = decode_image(bytes(changed))
        except ImageError:
            continue
        np.testing.assert_array_equal(pixels[..., 0], GRADIENT)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_a_tiff_with_a_checksum_has_the_pixels_of_one_without(bits: int) -> None:
    pixels = (
        np.random.default_rng(0)
        .integers(0, 2**bits, (SIDE, SIDE))
        .astype(np.uint8 if bits <= 8 else np.uint16)
    )
    options = {"bitspersample": bits} if bits not in (8, 16) else {}
    plain = tiff_file(pixels, **options)
    np.testing.assert_array_equal(decode_image(with_deflated_strip(plain)), decode_image(plain))


def with_deflated_strip(content: bytes) -> bytes:
    """The same TIFF with its one strip deflated, at the end of the file."""
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        page = tiff.pages[0]
        strip = content[page.dataoffsets[0] :][: page.databytecounts[0]]
        tags = {name: page.tags[name] for name in ("Compression", "StripOffsets", "StripByteCounts")}
    data = zlib.compress(strip)
    changed = bytearray(content)
    values = {"Compression": 8, "StripOffsets": len(content), "StripByteCounts": len(data)}
    for name, value in values.items():
        size = tags[name].valuebytecount
        changed[tags[name].valueoffset : tags[name].valueoffset + size] = value.to_bytes(size, "little")
    return bytes(changed) + data
