"""AVIF, JPEG XL and JPEG 2000: the header says what decoding gives, and 12 bits stay 12 bits in 16."""

import io
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ganomaly.data.readers.decoding import decode_image, read_header
from ganomaly.errors import ImageError

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8)
GRAY_12 = RNG.integers(0, 4096, (20, 30), dtype=np.uint16)
RGB_16 = RNG.integers(0, 65536, (24, 40, 3), dtype=np.uint16)

Encoder = Callable[..., bytes]


def avif(pixels: NDArray[Any], bits: int = 8) -> bytes:
    return imagecodecs.avif_encode(pixels, level=100, bitspersample=bits)


def jpeg_xl(pixels: NDArray[Any], bits: int = 8, **options: Any) -> bytes:
    return imagecodecs.jpegxl_encode(pixels, lossless=True, bitspersample=bits, **options)


def jpeg_2000(pixels: NDArray[Any], bits: int = 8, **options: Any) -> bytes:
    return imagecodecs.jpeg2k_encode(pixels, level=0, bitspersample=bits, **options)


def with_alpha() -> bytes:
    file = io.BytesIO()
    Image.fromarray(RGBA).save(file, "JPEG2000", irreversible=False)
    return file.getvalue()


ENCODERS = {"avif": avif, "jpeg_xl": jpeg_xl, "jpeg_2000": jpeg_2000}
CONTENTS = [encode(RGB) for encode in ENCODERS.values()] + [
    jpeg_xl(GRAY_12, 12, usecontainer=True),
    jpeg_2000(GRAY_12, 12),
]
each_encoder = pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)


@each_encoder
@pytest.mark.parametrize(
    ("pixels", "bits", "channels"),
    [(GRAY, 8, 1), (RGB, 8, 3), (RGBA, 8, 3), (GRAY_12, 12, 1), (RGB_16, 16, 3)],
    ids=["gray", "rgb", "rgba", "12 bits", "16 bits"],
)
def test_the_header_and_the_pixels_are_those_that_were_encoded(
    encode: Encoder, pixels: NDArray[Any], bits: int, channels: int
) -> None:
    if encode is avif and bits == 16:
        pytest.skip("AVIF has at most 12 bits")
    # imagecodecs does not say in JPEG 2000 that a channel is alpha
    content = with_alpha() if encode is jpeg_2000 and pixels is RGBA else encode(pixels, bits)
    header, decoded = read_header(content), decode_image(content)
    assert (header.height, header.width, header.channels) == (*pixels.shape[:2], channels)
    assert header.bits == 8 * pixels.dtype.itemsize
    assert decoded.dtype == pixels.dtype
    expected = pixels.reshape(*pixels.shape[:2], -1)[..., :channels]
    if encode is avif and pixels is RGBA:  # its encoder may change colours below transparency
        assert decoded.shape == expected.shape
    else:
        np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize(
    "shape", [(8, 8), (256, 256), (40, 50), (1, 700), (300, 400), (1000, 9), (40, 60), (1, 1), (9000, 2)]
)
@pytest.mark.parametrize("in_container", [True, False])
def test_sizes_of_jpeg_xl_are_read_in_all_their_forms(shape: tuple[int, int], in_container: bool) -> None:
    header = read_header(jpeg_xl(np.zeros(shape, np.uint8), usecontainer=in_container))
    assert (header.height, header.width) == shape


def test_a_bare_code_stream_of_jpeg_2000_is_read() -> None:
    np.testing.assert_array_equal(decode_image(jpeg_2000(RGB, codecformat="J2K")), RGB)


def test_an_avif_that_is_turned_is_upright() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(file, "AVIF", exif=exif, quality=100)
    assert read_header(file.getvalue()).height == 30
    assert decode_image(file.getvalue()).shape == (30, 20, 3)


@each_encoder
def test_a_truncated_image_is_refused(encode: Encoder) -> None:
    content = encode(RGB)
    for length in (20, 40, len(content) // 2, len(content) - 5):
        with pytest.raises(ImageError, match=r"^part ") as error:
            decode_image(content[:length], name="part")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("codec", "encode"), [("JPEGXL", jpeg_xl), ("JPEG2K", jpeg_2000)])
def test_a_build_without_the_decoder_is_named(
    codec: str, encode: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Missing:
        available = False

    monkeypatch.setattr(imagecodecs, codec, Missing)
    with pytest.raises(ImageError, match="this build of imagecodecs does not decode; save it as PNG or TIFF"):
        read_header(encode(RGB))


def test_pillow_without_avif_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.AvifImagePlugin.SUPPORTED", False)
    with pytest.raises(ImageError, match="is AVIF, which this build of Pillow does not decode"):
        read_header(avif(RGB))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(CONTENTS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6))
def test_damaged_images_are_decoded_or_refused_in_one_sentence(
    content: bytes, changes: list[tuple[int, int]]
) -> None:
    changed = bytearray(content)
    for at, value in changes:
        changed[min(at, len(changed) - 1)] = value
    try:
        image = decode_image(bytes(changed), name="part")
    except ImageError as error:
        image, sentence = None, str(error)
    if image is None:
        assert sentence.startswith("part ")
        assert "\n" not in sentence
    else:
        assert image.ndim == 3
