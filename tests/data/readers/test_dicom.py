"""DICOM is decoded to the values that it means, or refused in one sentence that quotes nothing of it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_files import BIRTH_DATE, BUNDLED, NAME, bundled, write_dicom
from ganomaly.data import open_images, open_training_images
from ganomaly.data.readers.decoding import count_images, decode_image, open_image, read_header
from ganomaly.data.readers.physical_values import PhysicalValues
from ganomaly.errors import ImageError

# in a test all warnings are shown; in a program the reader's filter is in force
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

SAMPLES = np.arange(12, dtype=np.int16).reshape(3, 4) - 5


def values(path: Path, number: int | None = None) -> PhysicalValues:
    with open_image(path, number=number) as image:
        return image.decode_values()


def refusal(source: Path | bytes) -> str:
    with pytest.raises(ImageError) as error:
        decode_image(source, name="scan.dcm")
    return str(error.value)


def test_a_file_without_its_preamble_says_how_to_write_it() -> None:
    content = Path(bundled("CT_small.dcm")).read_bytes()
    assert "without its preamble" in refusal(content[132:])


# --- values ----------------------------------------------------------------------------------------------


def test_samples_become_values_by_slope_and_intercept(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "ct.dcm", SAMPLES, slope=2.5, intercept=-1024)
    header = read_header(path)
    assert (header.height, header.width, header.channels, header.bits, header.has_values) == (
        3,
        4,
        1,
        16,
        True,
    )
    np.testing.assert_array_equal(values(path).values[..., 0], SAMPLES * 2.5 - 1024)


def test_values_are_those_that_pydicom_reads() -> None:
    from pydicom.pixels.processing import apply_modality_lut

    names = [
        "CT_small.dcm",
        "693_J2KI.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "rtdose_1frame.dcm",
    ]
    for name in names:
        dataset = pydicom.dcmread(bundled(name))
        expected = apply_modality_lut(dataset.pixel_array, dataset).astype(np.float32)
        found = values(bundled(name)).values[..., 0]
        measured = np.isfinite(found)
        np.testing.assert_array_equal(found[measured], expected[measured])
        padding = dataset.get("PixelPaddingValue")
        assert measured.all() if padding is None else (dataset.pixel_array[~measured] == padding).all()


def test_a_range_maps_values_to_16_bits_and_cuts_what_is_outside(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "ct.dcm", np.array([[-2000, 0, 500, 1000, 9000]], np.int16))
    assert decode_image(path, value_range=(0, 1000)).ravel().tolist() == [0, 0, 32768, 65535, 65535]


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    samples = np.array([[0, 1000, 4000]], np.uint16)
    bright, dark = (
        decode_image(write_dicom(tmp_path / f"{kind}.dcm", samples, photometric=kind), value_range=(0, 4000))
        for kind in ("MONOCHROME2", "MONOCHROME1")
    )
    np.testing.assert_array_equal(dark, 65535 - bright)
    plain = np.array([[0, 7, 255]], np.uint8)
    path = write_dicom(tmp_path / "plain.dcm", plain, photometric="MONOCHROME1")
    assert decode_image(path).ravel().tolist() == [255, 248, 0]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_what_the_scanner_did_not_measure_is_black_and_does_not_count(
    tmp_path: Path, photometric: str
) -> None:
    samples = np.array([[-2000, -2000, 100, 200]], np.int16)
    path = write_dicom(tmp_path / "ct.dcm", samples, photometric=photometric, PixelPaddingValue=-2000)
    assert decode_image(path, value_range=(100, 200)).ravel()[:2].tolist() == [0, 0]
    low, high = values(path).limits() or (0, 0)
    assert 100 <= low < high <= 200


def test_gray_of_8_bits_is_as_in_other_files(tmp_path: Path) -> None:
    samples = np.arange(12, dtype=np.uint8).reshape(3, 4)
    path = write_dicom(tmp_path / "us.dcm", samples)
    assert not read_header(path).has_values
    np.testing.assert_array_equal(decode_image(path)[..., 0], samples)
    assert set(np.unique(decode_image(bundled("liver_1frame.dcm")))) == {0, 255}  # one bit


@pytest.mark.parametrize(
    "name",
    ["SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle.dcm", "examples_palette.dcm", "SC_ybr_full_422_uncompressed.dcm"],
)
def test_colours_become_rgb(name: str) -> None:
    pixels = decode_image(bundled(name))
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert pixels.max() > 200


def test_an_enhanced_file_has_a_slope_for_each_frame(tmp_path: Path) -> None:
    def item(slope: float) -> pydicom.Dataset:
        transformation, frame = pydicom.Dataset(), pydicom.Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = slope, 1
        frame.PixelValueTransformationSequence = [transformation]
        return frame

    path = write_dicom(
        tmp_path / "mr.dcm",
        np.stack([SAMPLES, SAMPLES]),
        PerFrameFunctionalGroupsSequence=[item(2), item(3)],
    )
    np.testing.assert_array_equal(values(path, 1).values[..., 0], SAMPLES * 2 + 1)
    np.testing.assert_array_equal(values(path, 2).values[..., 0], SAMPLES * 3 + 1)


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [("", -1024, SAMPLES - 1024.0), (2, "", SAMPLES * 2.0), ("", "", SAMPLES * 1.0)],
)
def test_an_empty_slope_is_1_and_an_empty_intercept_0(
    tmp_path: Path, slope: object, intercept: object, expected: np.ndarray
) -> None:
    path = write_dicom(tmp_path / "ct.dcm", SAMPLES, RescaleSlope=slope, RescaleIntercept=intercept)
    np.testing.assert_array_equal(values(path).values[..., 0], expected)


# --- files and frames ------------------------------------------------------------------------------------


def test_frames_are_images_of_their_own(tmp_path: Path) -> None:
    frames = np.stack([SAMPLES + 100 * number for number in range(3)])
    path = write_dicom(tmp_path / "scan.dcm", frames)
    assert count_images(path) == 3
    images = open_images([path])
    assert [record.path for record in images.records] == [f"{path}#{number}" for number in (1, 2, 3)]
    for index in range(3):
        found = images.read(index, value_range=(0, 65535))
        np.testing.assert_array_equal(found[..., 0], np.clip(frames[index], 0, None))
    assert len({images.content_digest(index) for index in range(3)}) == 3
    assert len({images.stored(index).name for index in range(3)}) == 3


def test_several_frames_in_memory_are_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "scan.dcm", np.stack([SAMPLES, SAMPLES]))
    assert refusal(path.read_bytes()) == (
        "scan.dcm holds 2 frames where one image is expected; save the one that is meant"
    )


def test_a_damaged_number_of_frames_makes_no_million_rows(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "scan.dcm", SAMPLES, NumberOfFrames=10**6)
    assert len(open_images([path])) == 1
    assert "promises 1000000 frames" in refusal(path)


def test_a_folder_gives_dicom_without_an_ending_but_no_other_files(tmp_path: Path) -> None:
    for name in ("IM0001", "1.2.840.113619.7", "scan.dcm", "DICOMDIR"):
        write_dicom(tmp_path / name, SAMPLES)
    (tmp_path / "README").write_text("text")
    (tmp_path / "empty").touch()
    images = open_training_images(tmp_path)
    assert [Path(record.path).name for record in images.records] == ["1.2.840.113619.7", "IM0001", "scan.dcm"]


# --- patients --------------------------------------------------------------------------------------------


def test_images_of_a_patient_are_a_group_and_its_name_is_a_hash(tmp_path: Path) -> None:
    first, second, other = (
        read_header(write_dicom(tmp_path / f"{number}.dcm", SAMPLES, patient=patient))
        for number, patient in enumerate(["4711", "4711", "0815"])
    )
    assert first.group == second.group != other.group
    assert first.group is not None
    assert b"4711" not in first.group


def test_without_a_patient_the_study_is_a_group_and_without_it_the_file(tmp_path: Path) -> None:
    study, again, alone, other = (
        read_header(write_dicom(tmp_path / f"{number}.dcm", SAMPLES, **options)).group
        for number, options in enumerate(
            [{"StudyInstanceUID": "1.2.3"}, {"StudyInstanceUID": "1.2.3"}, {}, {}]
        )
    )
    assert study == again
    assert len({study, alone, other}) == 3


# --- refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("MR_small_jpeg_ls_lossless.dcm", "pip install pyjpegls"),
        ("SC_rgb_jpeg_gdcm.dcm", "JPEG Lossless"),
        ("JPGExtended.dcm", "pip install pylibjpeg pylibjpeg-libjpeg"),
        ("rtplan.dcm", "holds no image"),
        ("MR_truncated.dcm", "truncated"),
        ("SC_rgb_rle_32bit.dcm", "32-bit colours"),
        ("image_dfl.dcm", "deflated as a whole"),
    ],
)
def test_what_cannot_be_decoded_is_refused_in_one_sentence(name: str, words: str) -> None:
    sentence = refusal(bundled(name))
    assert sentence.startswith("scan.dcm ")
    assert words in sentence
    assert "\n" not in sentence


def test_without_pydicom_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real_import = builtins.__import__

    def no_pydicom(name: str, *rest: object) -> object:
        if name.split(".", maxsplit=1)[0] == "pydicom":
            raise ModuleNotFoundError(f"No module named {name!r}", name="pydicom")
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_pydicom)
    assert refusal(bundled("CT_small.dcm")).endswith("pip install 'ganomaly[dicom]'")


@pytest.mark.parametrize("slope", ["0", "nan", "text"])
def test_a_slope_that_is_no_factor_is_refused(tmp_path: Path, slope: str) -> None:
    content = write_dicom(tmp_path / "ct.dcm", SAMPLES, slope=12.5).read_bytes()
    assert content.count(b"12.5") == 1
    assert "damaged" in refusal(content.replace(b"12.5", slope.encode().ljust(4)))


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    names = [
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "rtdose.dcm",
        "MR_small_jp2klossless.dcm",
    ]
    content = bytearray(bundled(draw(st.sampled_from(names))).read_bytes())
    end = min(len(content), 3000)  # the header is there
    for _ in range(draw(st.integers(1, 8))):
        content[draw(st.integers(132, end - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.sampled_from([len(content), len(content) // 2, 400]))])


@settings(max_examples=150, deadline=None)
@given(damaged_files())
def test_damaged_files_are_decoded_or_refused_in_one_sentence_that_quotes_nothing(content: bytes) -> None:
    try:
        pixels = decode_image(content, name="scan.dcm")
    except ImageError as error:
        sentence = str(error)
        assert sentence.startswith("scan.dcm ")
        assert "\n" not in sentence
        for identifying in ("CompressedSamples", "MR1", "4MR1", "Lestrade"):
            assert identifying not in sentence
    else:
        assert pixels.dtype in (np.uint8, np.uint16)
        assert pixels.ndim == 3


def test_a_message_does_not_quote_what_is_in_the_file(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "ct.dcm", SAMPLES, patient="4711", NumberOfFrames=12345678)
    content = path.read_bytes()
    assert content.count(b"12345678") == 1
    # of a number that is none, pydicom says what it is
    for source in (content.replace(b"12345678", b"Doe^Jane"), content[:-10], content[:600], content[:400]):
        sentence = refusal(source)
        assert not any(text in sentence for text in (NAME[:8], BIRTH_DATE, "4711"))


def test_all_of_pydicoms_files_are_decoded_or_refused() -> None:
    decoded = refused = 0
    for path in sorted(BUNDLED.glob("*.dcm")):
        for index in range(min(2, len(images := open_images([path])))):
            try:
                images.read(index)
                decoded += 1
            except ImageError:
                refused += 1
    assert decoded > 40
    assert refused > 15


def test_reading_prints_nothing_of_odd_files() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _READ, bundled("badVR.dcm"), bundled("CT_small.dcm")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")


_READ = """
import logging
import sys
from pathlib import Path
from ganomaly.data.readers.decoding import decode_image
from ganomaly.errors import ImageError

logging.basicConfig(level=logging.DEBUG)  # as a program that logs everything
for path in sys.argv[1:]:
    try:
        decode_image(Path(path))
    except ImageError:
        pass
"""
