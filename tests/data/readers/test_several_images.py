"""Pages of TIFF and frames of video are images of their own; floating-point images have one range of the model's."""

import struct
from pathlib import Path
from unittest import mock

import av
import numpy as np
import OpenEXR
import pytest
import tifffile

from ganomaly import GANomalyDetector, ImageError, UsageError
from ganomaly.config import FitOptions
from ganomaly.data import open_images, open_training_images
from ganomaly.data.readers.decoding import count_images, decode_image, open_image
from ganomaly.training.fit import plan_fit
from images import SMALL, textures
from shell import ganomaly

PAGES = textures(5, size=40)


def video(path: Path, frames: np.ndarray, codec: str = "mpeg4", b_frames: int = 0) -> Path:
    """Write frames `uint8[n, h, w]` with a key frame every 4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 4
        stream.codec_context.max_b_frames = b_frames
        stream.bit_rate = 4_000_000
        for frame in frames:
            shown = av.VideoFrame.from_ndarray(np.repeat(frame[..., np.newaxis], 3, axis=2), format="rgb24")
            container.mux(stream.encode(shown))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("compression", [None, "lzw", "deflate"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_pages_of_a_tiff_are_images_and_thumbnails_are_not(tmp_path, compression, bigtiff):
    with tifffile.TiffWriter(tmp_path / "stack.tif", bigtiff=bigtiff) as tiff:
        for page in PAGES:
            tiff.write(page, photometric="minisblack", compression=compression, metadata=None)
            tiff.write(page[::2, ::2].copy(), photometric="minisblack", subfiletype=1, metadata=None)
    images = open_images(tmp_path)
    assert [record.path.rpartition("/")[2] for record in images.records] == [
        f"stack.tif#{number}" for number in range(1, 6)
    ]
    for index, page in enumerate(PAGES):
        np.testing.assert_array_equal(images.read(index)[..., 0], page)
    assert len({images.content_digest(index) for index in range(5)}) == 5
    with (
        pytest.raises(ImageError, match=r"stack\.tif#6 holds 5 pages, and no page 6"),
        open_image(tmp_path / "stack.tif", number=6),
    ):
        pass


def test_a_tiff_of_one_page_keeps_its_name(tmp_path):
    tifffile.imwrite(tmp_path / "one.tif", PAGES[0])
    assert open_images(tmp_path).records[0].path.endswith("one.tif")


def test_pages_that_lead_out_of_the_file_cost_one_row(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", PAGES, photometric="minisblack", metadata=None)
    content = bytearray((tmp_path / "stack.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "stack.tif") as tiff:
        page = tiff.pages[1]
        position = page.offset + 2 + 12 * len(page.tags)
    content[position : position + 4] = struct.pack("<I", len(content) + 5)
    (tmp_path / "stack.tif").write_bytes(content)
    images = open_images(tmp_path)
    assert len(images) == 1
    with pytest.raises(ImageError, match="lead out of the file"):
        images.read(0)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
def test_frames_of_a_video_are_images_in_the_order_they_are_shown(tmp_path, name):
    brightness = np.arange(0, 220, 20)
    frames = np.repeat(brightness, 48 * 64).reshape(-1, 48, 64).astype(np.uint8)
    images = open_images(video(tmp_path / name, frames))
    assert len(images) == len(frames)
    assert images.records[8].path.endswith(f"{name}#9")
    for index in (8, 0, 10, 3):  # whatever was read before
        pixels = images.read(index)
        assert pixels.shape == (48, 64, 3)
        assert abs(pixels.mean() - brightness[index]) < 8
    np.testing.assert_array_equal(images.read(8), open_images(tmp_path / name).read(8))


@pytest.mark.parametrize("codec", ["mpeg4", "libx264", "libx265"])
@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_frame_alone_is_the_one_of_the_whole_video(tmp_path, codec, ending):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    path = video(tmp_path / f"clip{ending}", textures(14, size=64), codec, b_frames=2)
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    images = open_images(path)
    assert len(images) == len(expected) == 14
    for index in (13, *range(13)):
        np.testing.assert_array_equal(images.read(index), expected[index])


def test_a_folder_with_a_video_gives_its_frames_between_the_images(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PAGES[0])
    video(tmp_path / "b.mp4", PAGES)
    tifffile.imwrite(tmp_path / "c.tif", PAGES[0])
    names = [record.path.rpartition("/")[2] for record in open_training_images(tmp_path).records]
    assert names == ["a.tif", *(f"b.mp4#{number}" for number in range(1, 6)), "c.tif"]


def test_another_video_of_the_same_name_is_read_anew(tmp_path):
    assert count_images(video(tmp_path / "clip.mp4", PAGES)) == 5
    assert count_images(video(tmp_path / "clip.mp4", PAGES[:2])) == 2


def test_a_video_in_one_upload_and_without_its_package_is_refused_in_words(tmp_path):
    content = video(tmp_path / "clip.mp4", PAGES).read_bytes()
    with pytest.raises(ImageError, match="holds 5 frames where one image is expected"):
        decode_image(content)
    with (
        mock.patch.dict("sys.modules", {"av": None}),
        pytest.raises(ImageError, match=r"PyAV reads; pip install 'ganomaly\[camera\]'"),
    ):
        decode_image(content)


@pytest.mark.parametrize("cut", [40, 0.5, 0.9])
def test_a_damaged_video_costs_rows_and_not_the_run(tmp_path, cut):
    content = video(tmp_path / "clip.mkv", textures(12, size=64)).read_bytes()
    (tmp_path / "clip.mkv").write_bytes(content[: cut if cut > 1 else int(cut * len(content))])
    images = open_images(tmp_path)
    n_read = 0
    for index in range(len(images)):
        try:
            n_read += images.read(index).shape == (64, 64, 3)
        except ImageError:
            continue  # anything else would end the run
    assert (n_read > 0) == (cut != 40)


def heights(n: int, dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    """Images of heights in millimetres, from about 3 to 5."""
    return (3 + textures(n, seed=seed) / 127.5).astype(dtype)


def write_heights(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        tifffile.imwrite(folder / f"{number:03}.tif", image, photometric="minisblack")
    return folder


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_point_is_mapped_by_a_range_and_never_by_the_image(tmp_path, dtype):
    folder = write_heights(tmp_path / "mm", heights(2, dtype))
    images = open_images(folder)
    expected = np.rint((heights(2, dtype)[1].astype(np.float32) - 2) * np.float32(65535 / 4))
    pixels = images.read(1, value_range=(2.0, 6.0))[..., 0]
    assert pixels.dtype == np.uint16
    np.testing.assert_allclose(pixels, expected, atol=1)


def test_colour_of_floating_point_keeps_its_channels_and_nan_costs_the_row(tmp_path):
    colours = np.random.default_rng(0).random((16, 16, 3)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb", compression="lzw")
    colours[3, 3, 1] = np.nan
    tifffile.imwrite(tmp_path / "b.tif", colours, photometric="rgb")
    images = open_images(tmp_path)
    assert images.read(0, value_range=(0.0, 1.0)).shape == (16, 16, 3)
    with pytest.raises(ImageError, match=r"b\.tif has pixels that are not numbers"):
        images.read(1, value_range=(0.0, 1.0))


def test_a_declared_range_is_the_models_and_a_fit_measures_it_otherwise(tmp_path):
    folder = write_heights(tmp_path / "mm", heights(30))
    options = {"preset": "paper", "epochs": 1, "false_alarm_rate": 0.2, "method_options": SMALL}
    declared = GANomalyDetector(**options, value_range=(2.0, 6.0)).fit(folder)
    assert declared.model_.preprocessing.value_range == (2.0, 6.0)
    measured = GANomalyDetector(**options).fit(folder).model_.preprocessing.value_range
    assert 2.5 < measured[0] < 3.6
    assert 4 < measured[1] < 5.5
    declared.save(tmp_path / "model.safetensors")
    loaded = GANomalyDetector.load(tmp_path / "model.safetensors")
    assert loaded.value_range == (2.0, 6.0)
    np.testing.assert_array_equal(loaded.anomaly_score(folder), declared.anomaly_score(folder))


def test_a_range_for_pixels_or_upside_down_is_wrong_usage(normal_folder, tmp_path):
    with pytest.raises(UsageError, match="hold pixels, and a range is declared for physical values only"):
        plan_fit(normal_folder, FitOptions.checked(value_range=(0.0, 1.0)))
    done = ganomaly("fit", normal_folder, "--model", tmp_path / "m.safetensors", "--value-range", 5, 2)
    assert done.returncode == 2
    assert "the first value should be less than the second" in done.stderr


def write_exr(path: Path, channels: dict[str, np.ndarray]) -> Path:
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, channels) as file:
        file.write(str(path))
    return path


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("name", ["Y", "RGB", "RGBA"])
def test_openexr_is_gray_or_rgb_without_transparency(tmp_path, dtype, name):
    values = np.random.default_rng(0).uniform(2, 4, (16, 24, len(name))).astype(dtype)
    path = write_exr(tmp_path / "a.exr", {name: values if len(name) > 1 else values[..., 0]})
    for source in (path, path.read_bytes()):
        pixels = decode_image(source, value_range=(2.0, 4.0))
        expected = np.rint((values[..., : len(name.rstrip("A"))].astype(np.float64) - 2) * 65535 / 2)
        np.testing.assert_allclose(pixels, expected, atol=1)


def test_openexr_that_is_no_image_or_damaged_is_refused_in_words(tmp_path):
    depth = np.zeros((16, 16), np.float32)
    with pytest.raises(ImageError, match="has the channels X, Y; save it as RGB, or one of them"):
        decode_image(write_exr(tmp_path / "a.exr", {"X": depth, "Y": depth}))
    content = write_exr(
        tmp_path / "b.exr", {"Y": np.random.default_rng(0).random((64, 64), np.float32)}
    ).read_bytes()
    for cut in (20, 300, len(content) - 40):
        with pytest.raises(ImageError, match="truncated or damaged"):
            decode_image(content[:cut])
    with (
        mock.patch.dict("sys.modules", {"OpenEXR": None}),
        pytest.raises(ImageError, match=r"pip install 'ganomaly\[exr\]'"),
    ):
        decode_image(content)
