"""Every file that may be given as an image is decoded, or refused in one sentence."""

import gc
import io
import re
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import IO

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ganomaly.data.readers import registry
from ganomaly.data.readers.decoding import decode_image, read_header
from ganomaly.data.readers.encoded_image import (
    MAX_PIXELS,
    EncodedImage,
    FormatFamily,
    ImageHeader,
    Pixels,
)
from ganomaly.data.readers.registry import register_reader
from ganomaly.errors import ImageError
from images import textures, write_images

HEIGHT, WIDTH = 20, 30
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
IMAGE = Image.fromarray(RGB)
LOSSLESS = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".webp": "WEBP"}


def encoded(image: Image.Image, format_name: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format_name, **options)
    return file.getvalue()


def encoded_tiff(pixels: NDArray[np.generic], **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def gray_png(width: int, height: int, bits: int, rows: bytes) -> bytes:
    """A PNG built by hand, whose header may promise what its rows do not hold."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    data = zlib.compress(rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def forged_png(width: int, height: int) -> bytes:
    return gray_png(width, height, 8, b"\0")


def expected(mode: str) -> NDArray[np.uint8]:
    """What an image in a mode should be decoded to, by Pillow's own conversion where there is one."""
    if mode in ("1", "L"):
        return np.asarray(IMAGE.convert(mode).convert("L"))[..., None]
    if mode == "LA":
        return np.asarray(IMAGE.convert("L"))[..., None]
    return np.asarray(IMAGE.convert(mode).convert("RGB"))


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *[(".png", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")],
        *[(".bmp", mode) for mode in ("1", "L", "P", "RGB", "RGBA")],
        *[(".tif", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")],
        *[(".webp", mode) for mode in ("RGB", "RGBA")],
    ],
)
def test_every_mode_of_every_lossless_format_gives_the_pixels_that_were_saved(
    tmp_path: Path, suffix: str, mode: str
) -> None:
    path = tmp_path / f"image{suffix}"
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    IMAGE.convert(mode).save(path, LOSSLESS[suffix], **options)

    image = decode_image(path)

    np.testing.assert_allclose(image.astype(int), expected(mode).astype(int), atol=1 if mode == "CMYK" else 0)
    header = read_header(path)
    assert (header.height, header.width, header.channels, header.bits) == (*image.shape, 8)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("CMYK", 3)])
def test_jpeg_in_every_mode_is_close_to_what_was_saved(mode: str, channels: int) -> None:
    smooth = Image.fromarray(np.linspace(30, 220, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8))
    content = encoded(smooth.convert("RGB").convert(mode), "JPEG", quality=95)

    image = decode_image(content)

    assert image.shape == (HEIGHT, WIDTH, channels)
    assert np.abs(image.astype(int) - np.asarray(smooth, dtype=int)[..., None]).max() <= 6


def test_transparency_is_dropped_and_the_colours_below_it_stay() -> None:
    hidden = np.dstack([RGB, np.zeros((HEIGHT, WIDTH), np.uint8)])
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(hidden), "PNG")), RGB)


def test_a_palette_of_grays_is_gray_and_one_with_colours_is_rgb() -> None:
    indices = RNG.integers(0, 4, (HEIGHT, WIDTH), dtype=np.uint8)
    gray, coloured = Image.fromarray(indices), Image.fromarray(indices)
    gray.putpalette([10, 10, 10, 90, 90, 90, 170, 170, 170, 250, 250, 250])
    coloured.putpalette([10, 10, 10, 90, 90, 90, 170, 170, 170, 250, 0, 250])
    for format_name in ("PNG", "BMP", "TIFF"):
        assert decode_image(encoded(gray, format_name)).shape == (HEIGHT, WIDTH, 1), format_name
        assert decode_image(encoded(coloured, format_name)).shape == (HEIGHT, WIDTH, 3), format_name
    np.testing.assert_array_equal(
        decode_image(encoded(gray, "PNG"))[..., 0], np.array([10, 90, 170, 250])[indices]
    )


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_gray_of_few_bits_is_stretched_to_the_full_range(bits: int) -> None:
    samples = np.arange(2**bits, dtype=np.uint8).repeat(8).reshape(1, -1)
    row = np.packbits(np.unpackbits(samples.reshape(-1, 1), axis=1)[:, -bits:].reshape(-1)).tobytes()
    png = gray_png(samples.shape[1], 1, bits, b"\0" + row)

    full = samples.astype(int)[..., None] * 255 // (2**bits - 1)
    np.testing.assert_array_equal(decode_image(png), full)
    np.testing.assert_array_equal(decode_image(encoded_tiff(samples, bitspersample=bits)), full)


@pytest.mark.parametrize(
    ("channels", "planes"),
    [(1, None), *[(n, planes) for n in (2, 3, 4) for planes in ("contig", "separate")]],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "lzw", "adobe_deflate"])
def test_tiff_keeps_its_channels_and_bits(
    channels: int, planes: str | None, dtype: type, compression: str | None
) -> None:
    pixels = RNG.integers(0, np.iinfo(dtype).max, (HEIGHT, WIDTH, channels), dtype=dtype)
    stored = np.moveaxis(pixels, -1, 0) if planes == "separate" else pixels
    content = encoded_tiff(
        stored[..., 0] if channels == 1 else stored,
        photometric="rgb" if channels == 3 else "minisblack",
        planarconfig=planes,
        compression=compression,
    )

    image = decode_image(content)

    assert image.dtype == dtype
    np.testing.assert_array_equal(image, pixels)
    assert read_header(content).bits == 8 * np.dtype(dtype).itemsize


@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
def test_alpha_of_a_tiff_is_dropped_whatever_its_kind(extra: str) -> None:
    alpha = np.full((HEIGHT, WIDTH, 1), 77, np.uint16)
    content = encoded_tiff(np.dstack([RGB16, alpha]), photometric="rgb", extrasamples=[extra])
    np.testing.assert_array_equal(decode_image(content), RGB16)
    gray = encoded_tiff(np.dstack([RGB16[..., :1], alpha]), photometric="minisblack", extrasamples=[extra])
    np.testing.assert_array_equal(decode_image(gray), RGB16[..., :1])


def test_jpeg_inside_tiff_is_rgb() -> None:
    flat = np.full((32, 32, 3), (200, 100, 50), np.uint8)
    for content in (
        encoded(Image.fromarray(flat), "TIFF", compression="jpeg"),
        encoded_tiff(flat, photometric="rgb", compression="jpeg"),
    ):
        assert np.abs(decode_image(content).astype(int) - flat).max() <= 3


def test_a_tiff_in_which_white_is_zero_is_inverted() -> None:
    content = encoded_tiff(RGB16[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(decode_image(content)[..., 0], 65535 - RGB16[..., 0])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_keeps_16_bits_and_loses_only_alpha(channels: int) -> None:
    pixels = np.dstack([RGB16, RGB16[::-1, :, :1]])[..., :channels]
    content = imagecodecs.png_encode(np.ascontiguousarray(pixels))

    image = decode_image(content)

    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, pixels[..., : {1: 1, 2: 1, 3: 3, 4: 3}[channels]])
    assert read_header(content).bits == 16


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_name", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_orientation_is_applied(orientation: int, format_name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(format_name, {})
    content = encoded(IMAGE, format_name, exif=exif, **options)
    with Image.open(io.BytesIO(content)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))

    np.testing.assert_array_equal(decode_image(content), upright)
    header = read_header(content)
    assert (header.height, header.width) == upright.shape[:2]


def test_orientation_of_a_16_bit_png_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(RGB16[..., 0]), "PNG", exif=exif)
    np.testing.assert_array_equal(decode_image(content)[..., 0], np.rot90(RGB16[..., 0], -1))


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "jpeg.png"
    path.write_bytes(encoded(IMAGE, "JPEG"))
    assert decode_image(path).shape == (HEIGHT, WIDTH, 3)


def test_a_large_jpeg_is_decoded_smaller_but_never_below_twice_the_side_asked_for() -> None:
    content = encoded(Image.effect_noise((1000, 600), 40), "JPEG")
    for side in (1, 20, 40, 64, 100, 150, 300, 400):
        image = decode_image(content, smallest_side=side)
        assert min(image.shape[:2]) >= min(2 * side, 600)
    assert decode_image(content, smallest_side=32).shape == (75, 125, 1)
    assert decode_image(content).shape == (600, 1000, 1)


def test_a_family_of_formats_is_added_by_its_name_in_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    class GraySquare(EncodedImage):
        """A made-up format: a signature and one byte of gray."""

        def __init__(self, file: IO[bytes]) -> None:
            self.header = ImageHeader(2, 2, 1, 8)
            self._level = file.read()[-1]

        def decode(self, smallest_side: int | None = None) -> Pixels:
            return np.full((2, 2, 1), self._level, np.uint8)

    family = FormatFamily(("Square",), (".square",), re.compile(rb"SQ"), GraySquare)
    monkeypatch.setattr(registry._REGISTRY, "families", registry.format_families())  # put back after the test
    register_reader(family)
    assert decode_image(b"SQ\x07").ravel().tolist() == [7] * 4
    with pytest.raises(ImageError, match=r"in PNG, .*, DICOM or Square format"):
        decode_image(b"text")


# --- refused ---------------------------------------------------------------------------------------------


def refusal(content: bytes, name: str = "part.png") -> str:
    with pytest.raises(ImageError) as error:
        decode_image(content, name=name)
    sentence = str(error.value)
    assert sentence.startswith(name)
    assert "\n" not in sentence
    return sentence


def test_a_text_file_named_png_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("These are notes.")
    with pytest.raises(
        ImageError,
        match=r"^notes\.png is not an image in PNG, JPEG, BMP, WebP, AVIF, TIFF, .* or DICOM format",
    ):
        decode_image(path)


def test_an_empty_file_is_called_empty() -> None:
    assert "is empty" in refusal(b"")


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_image_is_called_truncated(format_name: str, share: float) -> None:
    content = encoded(Image.effect_noise((64, 64), 40).convert("RGB"), format_name)
    assert "truncated" in refusal(content[: max(13, int(share * len(content)))])


def test_a_truncated_16_bit_png_is_called_truncated() -> None:
    content = imagecodecs.png_encode(RGB16)
    for length in (40, len(content) // 2, len(content) - 20):
        assert "truncated" in refusal(content[:length])


def test_damaged_16_bit_png_take_no_references_from_none() -> None:
    content = imagecodecs.png_encode(RGB16)
    changed = content[:1000] + b"?" + content[1001:]
    refusal(changed)
    gc.collect()
    before = sys.getrefcount(None)
    for _ in range(50):
        refusal(content[:500])
        refusal(changed)
    gc.collect()
    assert before - sys.getrefcount(None) < 20


def test_an_image_beyond_the_limit_is_refused_with_its_size_and_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Image.new("1", (20_000, 20_000)).save(path)
        for read in (decode_image, read_header):
            with pytest.raises(
                ImageError, match=r"huge\.png is too large: 20000×20000 px are 400 mega.*at most 179"
            ):
                read(path)


@pytest.mark.parametrize(
    "content",
    [
        forged_png(20_000, 20_000),
        forged_png(2**31 - 1, 2**31 - 1),
        encoded(IMAGE, "BMP")[:18] + struct.pack("<ii", 20_000, 20_000) + encoded(IMAGE, "BMP")[26:],
    ],
)
def test_a_header_that_promises_too_many_pixels_is_refused_before_they_are_allocated(content: bytes) -> None:
    assert "too large" in refusal(content)


def test_just_below_the_limit_is_not_too_large() -> None:
    assert read_header(forged_png(MAX_PIXELS // 10_000, 10_000)).height == 10_000
    assert "too large" not in refusal(forged_png(MAX_PIXELS // 10_000, 10_000))


def test_zero_pixels_are_refused() -> None:
    refusal(forged_png(0, 20))


@pytest.mark.parametrize("dtype", [np.complex64, np.int16, np.uint32, np.int8])
def test_a_tiff_of_another_type_is_refused_with_that_type(dtype: type) -> None:
    assert np.dtype(dtype).name in refusal(encoded_tiff(np.zeros((HEIGHT, WIDTH), dtype)))


def test_several_pages_or_frames_are_refused_with_their_number() -> None:
    pages = encoded_tiff(np.zeros((3, HEIGHT, WIDTH), np.uint8), photometric="minisblack")
    assert "3 pages" in refusal(pages)
    frames = [IMAGE.rotate(angle) for angle in (90, 180)]
    for format_name in ("PNG", "WEBP"):
        content = encoded(IMAGE, format_name, save_all=True, append_images=frames)
        assert "animation of 3" in refusal(content)


def test_a_tiff_with_missing_tiles_is_not_filled_with_black() -> None:
    content = encoded_tiff(RGB16[..., 0], tile=(16, 16), compression="adobe_deflate")
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        counts = tiff.pages[0].tags["TileByteCounts"]
    missing = bytearray(content)
    missing[counts.valueoffset : counts.valueoffset + counts.valuebytecount] = bytes(counts.valuebytecount)
    assert "missing" in refusal(bytes(missing))


def test_pages_that_form_a_circle_come_to_an_end() -> None:
    pages = bytearray(
        encoded_tiff(np.zeros((3, HEIGHT, WIDTH), np.uint8), photometric="minisblack", metadata=None)
    )
    with tifffile.TiffFile(io.BytesIO(pages)) as tiff:
        first, _, last = (page.offset for page in tiff.pages)
        end_of_chain = last + 2 + 12 * len(tiff.pages[2].tags)
    assert pages[end_of_chain : end_of_chain + 4] == bytes(4)
    pages[end_of_chain : end_of_chain + 4] = struct.pack("<I", first)
    assert "pages" in refusal(bytes(pages))


def test_a_thumbnail_beside_the_page_is_no_second_page() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        tiff.write(RGB, photometric="rgb")
        tiff.write(RGB[::2, ::2].copy(), photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(decode_image(file.getvalue()), RGB)


def test_more_than_four_channels_are_refused() -> None:
    content = encoded_tiff(
        np.zeros((HEIGHT, WIDTH, 6), np.uint8), photometric="minisblack", planarconfig="contig"
    )
    assert "6 channels" in refusal(content)


def test_an_unreadable_path_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match=r"gone\.png does not exist"):
        decode_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="is a folder"):
        decode_image(tmp_path)
    with pytest.raises(ImageError, match="cannot be opened"):
        decode_image(tmp_path / "nul\0.png")

    def denied(
        self: Path, mode: str
    ) -> None:  # the superuser may read everything, so a test cannot lock a file
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ImageError, match=r"locked\.png cannot be opened: no permission"):
        decode_image(tmp_path / "locked.png")


def test_memory_that_runs_out_costs_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("ganomaly.data.readers.pillow._pixels", exhausted)
    assert "memory" in refusal(encoded(IMAGE, "JPEG"), "part.jpg")


def test_damaged_metadata_neither_stop_the_image_nor_print_anything(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 1, "a description long enough to be stored elsewhere"
    damaged = exif.tobytes().replace(
        struct.pack(">HHI", 0x010E, 2, 49), struct.pack(">HHI", 0x010E, 2, 2**30)
    )
    assert damaged != exif.tobytes()
    path = tmp_path / "damaged.jpg"
    IMAGE.save(path, exif=damaged)
    see_through = tmp_path / "see_through.png"
    IMAGE.convert("P").save(see_through, transparency=bytes(range(100)))
    odd = tmp_path / "odd.tif"
    odd.write_bytes(
        encoded_tiff(RGB, photometric="rgb").replace(struct.pack("<HHI", 305, 2, 12), b"\xff" * 8)
    )
    script = (
        "from pathlib import Path; from ganomaly.data.readers.decoding import decode_image as d\n"
        + "".join(f"print(d(Path({str(p)!r})).shape)\n" for p in (path, odd, see_through))
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "(20, 30, 3)\n" * 3
    assert run.stderr == ""


SEEDS = [
    encoded(IMAGE, "PNG"),
    encoded(IMAGE.convert("P"), "PNG"),
    imagecodecs.png_encode(RGB16),
    encoded(IMAGE, "JPEG"),
    encoded(IMAGE.convert("CMYK"), "JPEG"),
    encoded(IMAGE.convert("P"), "BMP"),
    encoded(IMAGE, "WEBP"),
    encoded(IMAGE, "WEBP", lossless=True),
    encoded(IMAGE, "TIFF"),
    encoded_tiff(RGB16, photometric="rgb", compression="lzw", predictor=True),
    encoded_tiff(RGB16[..., 0], tile=(16, 16), compression="adobe_deflate"),
    encoded(IMAGE.convert("P"), "TIFF"),
    encoded(IMAGE.convert("1"), "TIFF", compression="group4"),
]


@st.composite
def damaged_images(draw: st.DrawFn) -> bytes:
    """A valid image after bytes of it were changed, and perhaps its end was cut off."""
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for position, value in draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=12)
    ):
        content[position] = value
    return bytes(content[: draw(st.integers(0, len(content)))]) if draw(st.booleans()) else bytes(content)


@settings(max_examples=300, deadline=None)
@given(content=st.one_of(st.binary(max_size=200), damaged_images()), side=st.none() | st.integers(1, 64))
def test_any_bytes_are_decoded_or_refused_in_one_sentence(content: bytes, side: int | None) -> None:
    try:
        image = decode_image(content, name="part.png", smallest_side=side)
    except ImageError as error:
        image, sentence = None, str(error)
    if image is None:
        assert sentence.startswith("part.png ")
        assert "\n" not in sentence
        return
    assert image.dtype in (np.uint8, np.uint16)
    assert image.ndim == 3
    assert 1 <= image.shape[2] <= 4
    assert image.flags.c_contiguous


def test_suffixes_are_in_lower_case_with_a_dot() -> None:
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in registry.image_suffixes())


@pytest.mark.parametrize("format_name", ["PNG", "BMP", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK"])
def test_a_large_image_is_decoded_in_strips_to_the_same_pixels(
    format_name: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        content = encoded(IMAGE.convert(mode), format_name)
    except OSError:
        pytest.skip(f"{format_name} has no {mode}")
    whole = decode_image(content)
    monkeypatch.setattr("ganomaly.data.strips.PIXELS", WIDTH * 7)
    monkeypatch.setattr("ganomaly.data.readers.png.MAX_BYTES_AT_ONCE", 0)
    monkeypatch.setattr("ganomaly.data.readers.pillow.LARGE_PIXELS", 0)
    np.testing.assert_array_equal(decode_image(content), whole)


def test_an_image_of_more_bytes_than_are_decoded_is_refused() -> None:
    gray = ImageHeader(13_000, 13_000, 1, 16)
    assert gray.checked() == gray
    with pytest.raises(
        ImageError, match=r"13000×13000 px with 3 channels of 16 bits are 1014 MB.*at most 537"
    ):
        ImageHeader(13_000, 13_000, 3, 16).checked()


def test_what_a_decoder_says_of_its_own_code_is_not_repeated(tmp_path):
    path = write_images(tmp_path / "images", textures(1), suffix=".bmp") / "000.bmp"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ImageError, match=r"^000\.bmp is truncated or damaged$"):
        decode_image(path)
