"""A folder, parquet, paths or arrays give the images a person means by them, in an order that does not change."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ganomaly.data import ImageDataset, open_images, open_test_images, open_training_images
from ganomaly.data.sources.dataset import left_out_in_words
from ganomaly.errors import DataError, ImageError, UsageError
from images import textures, write_images


def write(path: Path, level: int = 100, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).save(path)
    return path


def paths(dataset: ImageDataset, root: Path) -> list[str]:
    return [Path(record.path).relative_to(root).as_posix() for record in dataset.records]


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    root = tmp_path / "bottle"
    for number in (0, 1, 2, 10):
        write(root / "train/good" / f"{number}.png")
    write(root / "test/good/0.png")
    write(root / "test/crack/0.png")
    write(root / "test/crack/1.jpg")
    write(root / "test/scratch/deep/7.png")
    write(root / "test/stain/0.png")
    write(root / "ground_truth/crack/0_mask.png", 255)
    write(root / "ground_truth/scratch/deep/7.png", 1)
    write(root / "ground_truth/stain/0_mask.png", 0)
    return root


# --- to train on -----------------------------------------------------------------------------------------


def test_training_takes_train_good_of_a_dataset_folder(mvtec: Path) -> None:
    dataset = open_training_images(mvtec)
    assert paths(dataset, mvtec) == [f"train/good/{number}.png" for number in (0, 1, 2, 10)]
    assert {(record.kind, record.is_anomalous) for record in dataset.records} == {("good", False)}
    assert len(dataset) == 4


def test_training_takes_a_plain_folder_whole_and_in_natural_order(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.TIFF", "b/1.bmp", "a.webp", "c10/x.jpeg", "c9/x.JPG"):
        write(tmp_path / name)
    for ignored in ("notes.txt", ".hidden.png", ".cache/x.png", "b/Thumbs.db"):
        (tmp_path / ignored).parent.mkdir(exist_ok=True)
        (tmp_path / ignored).write_bytes(b"")
    dataset = open_training_images(str(tmp_path))
    assert paths(dataset, tmp_path) == ["a.webp", "b/1.bmp", "b/2.png", "b/10.TIFF", "c9/x.JPG", "c10/x.jpeg"]
    assert all(record.kind is None and record.is_anomalous is None for record in dataset.records)


@pytest.mark.parametrize("normal", ["good", "Normal", "OK"])
def test_training_takes_the_normal_one_of_several_kinds_and_says_so(tmp_path: Path, normal: str) -> None:
    write(tmp_path / normal / "0.png")
    write(tmp_path / "crack" / "0.png")
    dataset = open_training_images(tmp_path)
    assert paths(dataset, tmp_path) == [f"{normal}/0.png"]
    assert "without crack" in dataset.name
    assert normal in dataset.name


@pytest.mark.parametrize(
    ("normal", "others"),
    [
        ("test/good", ["test/crack"]),
        ("Data/Images/Normal", ["Data/Images/Anomaly", "Data/Masks/Anomaly"]),
    ],
)
def test_training_on_normal_images_beside_others_further_below_is_refused_with_the_folder_to_name(
    tmp_path: Path, normal: str, others: list[str]
) -> None:
    for folder in (normal, *others):
        write(tmp_path / folder / "0.png")
    with pytest.raises(UsageError, match=f"name the folder to learn from: {tmp_path / normal}$"):
        open_training_images(tmp_path)
    assert len(open_training_images(tmp_path / normal)) == 1


def test_training_takes_normal_images_of_several_folders(tmp_path: Path) -> None:
    for folder in ("line1/good", "line2/good", "line3"):
        write(tmp_path / folder / "0.png")
    assert len(open_training_images(tmp_path)) == 3


def test_training_on_a_folder_of_datasets_is_refused_because_it_would_learn_from_anomalies(
    mvtec: Path,
) -> None:
    with pytest.raises(UsageError, match=r"folder of datasets \(bottle\); name one"):
        open_training_images(mvtec.parent)


def test_links_are_followed_and_each_image_is_taken_once(tmp_path: Path) -> None:
    write(tmp_path / "real" / "0.png")
    root = tmp_path / "root"
    write(root / "0.png")
    (root / "linked").symlink_to(tmp_path / "real")
    (root / "round").symlink_to(root)
    assert paths(open_training_images(root), root) == ["0.png", "linked/0.png"]


@pytest.mark.parametrize("open_any", [open_training_images, open_test_images, open_images])
def test_an_empty_folder_is_refused_with_the_endings_expected(tmp_path: Path, open_any: type) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=r"no images in .*\.png, \.jpg.* and \.parquet; 1 files with other"):
        open_any(tmp_path)


@pytest.mark.parametrize("open_any", [open_training_images, open_test_images, open_images])
def test_a_path_that_does_not_exist_is_wrong_usage(tmp_path: Path, open_any: type) -> None:
    for missing in (tmp_path / "missing", str(tmp_path / "missing.png"), tmp_path / "missing.parquet"):
        with pytest.raises(UsageError, match=r"missing.* does not exist"):
            open_any(missing)


# --- to evaluate -----------------------------------------------------------------------------------------


def test_evaluation_takes_test_of_a_dataset_folder_with_kinds_and_masks(mvtec: Path) -> None:
    dataset = open_test_images(mvtec)
    labels = {
        name: (record.kind, record.is_anomalous)
        for name, record in zip(paths(dataset, mvtec / "test"), dataset.records, strict=True)
    }
    assert labels == {
        "crack/0.png": ("crack", True),
        "crack/1.jpg": ("crack", True),
        "good/0.png": ("good", False),
        "scratch/deep/7.png": ("scratch", True),
        "stain/0.png": ("stain", True),
    }
    masks = dict(zip(labels, (dataset.read_mask(index) for index in range(5)), strict=True))
    assert {name: None if mask is None else mask.mean() for name, mask in masks.items()} == {
        "crack/0.png": 1.0,
        "crack/1.jpg": None,
        "good/0.png": None,
        "scratch/deep/7.png": 1.0,
        "stain/0.png": 0.0,
    }
    assert masks["crack/0.png"].shape == (10, 12)
    assert masks["crack/0.png"].dtype == bool


def test_evaluation_finds_the_masks_when_given_the_test_folder_itself(mvtec: Path) -> None:
    dataset = open_test_images(mvtec / "test")
    assert dataset.read_mask(0).all()


def test_a_mask_of_another_size_is_refused_with_both_sizes(mvtec: Path) -> None:
    write(mvtec / "ground_truth/crack/0_mask.png", 255, size=(24, 20))
    with pytest.raises(ImageError, match=r"0_mask\.png is 24×20 px, but its image 0\.png is 12×10 px"):
        open_test_images(mvtec).read_mask(0)


def test_evaluation_takes_a_folder_with_a_subfolder_for_each_kind(tmp_path: Path) -> None:
    for name in ("ok/0.png", "ok/1.png", "dent/0.png"):
        write(tmp_path / name)
    dataset = open_test_images(tmp_path)
    assert [(record.kind, record.is_anomalous) for record in dataset.records] == [
        ("dent", True),
        ("ok", False),
        ("ok", False),
    ]


@pytest.mark.parametrize("names", [["0.png"], ["cats/0.png", "dogs/0.png"]])
def test_evaluation_without_a_normal_kind_says_which_layout_it_needs(
    tmp_path: Path, names: list[str]
) -> None:
    for name in names:
        write(tmp_path / name)
    with pytest.raises(DataError, match=r"no labels.*test/good and test/<kind>.*column `label`"):
        open_test_images(tmp_path)


def test_evaluation_with_defects_alone_says_where_normal_images_go(tmp_path: Path) -> None:
    """As after the first reviews of a station."""
    write(tmp_path / "test" / "cats" / "0.png")
    with pytest.raises(
        DataError, match=r"no normal images to compare with: put some into .*good, beside cats"
    ):
        open_test_images(tmp_path)


def test_evaluation_on_what_has_no_labels_says_so(tmp_path: Path) -> None:
    for unlabelled in (write(tmp_path / "0.png"), np.zeros((3, 8, 8), np.uint8), [tmp_path, tmp_path]):
        with pytest.raises(DataError, match="label"):
            open_test_images(unlabelled)


# --- to score --------------------------------------------------------------------------------------------


def test_scoring_keeps_the_order_given_and_sorts_within_folders(tmp_path: Path) -> None:
    for name in ("z.png", "a.png", "folder/10.png", "folder/9.png", "b.png"):
        write(tmp_path / name)
    sources = [tmp_path / name for name in ("z.png", "a.png", "folder", "b.png")]
    assert paths(open_images(sources), tmp_path) == [
        "z.png",
        "a.png",
        "folder/9.png",
        "folder/10.png",
        "b.png",
    ]


def test_scoring_a_dataset_folder_leaves_its_masks_out(mvtec: Path) -> None:
    assert not [path for path in paths(open_images(mvtec), mvtec) if "ground_truth" in path]
    assert len(open_images(mvtec)) == 9


def test_a_missing_file_in_a_list_costs_its_own_row(tmp_path: Path) -> None:
    dataset = open_images([write(tmp_path / "a.png"), tmp_path / "gone.png", str(write(tmp_path / "b.png"))])
    assert len(dataset) == 3
    assert dataset.read(0).shape == (10, 12, 1)
    with pytest.raises(ImageError, match=r"gone\.png does not exist"):
        dataset.read(1)
    assert dataset.read(2).shape == (10, 12, 1)


def test_a_missing_folder_in_a_list_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        open_images([write(tmp_path / "a.png"), tmp_path / "mistyped"])


def test_a_file_named_explicitly_is_tried_whatever_its_ending(tmp_path: Path) -> None:
    image = write(tmp_path / "image.png").rename(tmp_path / "image.dat")
    assert open_images(image).read(0).shape == (10, 12, 1)
    assert open_images([image]).read(0).shape == (10, 12, 1)


# --- arrays ----------------------------------------------------------------------------------------------

GRAY = np.random.default_rng(0).integers(0, 256, (5, 9, 7), dtype=np.uint8)


@pytest.mark.parametrize("open_any", [open_training_images, open_images])
@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (GRAY, (9, 7, 1)),
        (GRAY[..., None], (9, 7, 1)),
        (np.stack([GRAY] * 4, -1), (9, 7, 4)),
        (GRAY.astype(np.uint16) * 200, (9, 7, 1)),
        (GRAY.astype(">u2"), (9, 7, 1)),
        (list(GRAY), (9, 7, 1)),
        (tuple(np.stack([GRAY] * 3, -1)), (9, 7, 3)),
    ],
)
def test_arrays_are_images(open_any: type, images: NDArray[np.generic], shape: tuple[int, ...]) -> None:
    dataset = open_any(images)
    assert len(dataset) == 5
    assert dataset.records[3].path == "array[3]"
    image = dataset.read(3)
    assert image.shape == shape
    assert image.dtype.isnative
    np.testing.assert_array_equal(image, np.asarray(images[3]).reshape(shape))


def test_arrays_of_different_sizes_come_as_a_list() -> None:
    dataset = open_images([np.zeros((4, 5), np.uint8), np.zeros((6, 7, 3), np.uint8)])
    assert [dataset.read(index).shape for index in range(2)] == [(4, 5, 1), (6, 7, 3)]


@pytest.mark.parametrize(
    ("images", "remedy"),
    [
        (GRAY / 255, r"float64.*\* 255\)\.round\(\)\.astype\(np\.uint8\)"),
        (GRAY.astype(np.int64), r"int64.*astype\(np\.uint8\)"),
        (GRAY > 9, r"bool.*\* 255"),
        (GRAY[0], r"\[N, H, W\].*image\[np\.newaxis\]"),
        (np.zeros((2, 3, 9, 7), np.uint8), r"np\.moveaxis"),
        ([GRAY[0], "a.png"], "mixed"),
        ([[1, 2], [3, 4]], "NumPy array is needed"),
        (7, "not as int"),
        (b"a.png", "not as bytes"),
    ],
)
def test_arrays_that_are_no_images_are_refused_with_the_way_to_make_them(images: object, remedy: str) -> None:
    with pytest.raises(UsageError, match=remedy):
        open_training_images(images)


@pytest.mark.parametrize("nothing", [[], np.zeros((0, 8, 8), np.uint8)])
def test_no_images_are_refused(nothing: object) -> None:
    with pytest.raises(DataError, match="no images"):
        open_images(nothing)


def test_an_array_without_pixels_costs_its_own_row() -> None:
    dataset = open_images([np.zeros((0, 5), np.uint8), GRAY[0]])
    with pytest.raises(ImageError, match=r"^array\[0\] has no pixels"):
        dataset.read(0)
    assert dataset.read(1).shape == (9, 7, 1)


@pytest.mark.shared_data
def test_magnetic_tiles_have_their_published_numbers_and_masks(shared_data: Path) -> None:
    root = shared_data / "magnetic_tile"
    assert len(open_training_images(root)) == 761
    dataset = open_test_images(root)
    kinds = [record.kind for record in dataset.records]
    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == {
        "blowhole": 58,
        "break": 43,
        "crack": 29,
        "fray": 16,
        "good": 96,
        "uneven": 52,
    }
    masks = [dataset.read_mask(index) for index in range(len(dataset))]
    assert [mask is not None for mask in masks] == [record.is_anomalous for record in dataset.records]
    empty = [kind for kind, mask in zip(kinds, masks, strict=True) if mask is not None and not mask.any()]
    assert set(empty) == {"uneven"}
    assert len(empty) <= 4


def test_data_come_without_torch() -> None:
    script = "import sys, ganomaly.data; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


@pytest.mark.parametrize("line", ["s3://", "no such folder", "a\0b"])
def test_a_bad_line_of_a_list_is_named(tmp_path, line):
    write_images(tmp_path / "images", textures(2))
    (tmp_path / "list.txt").write_text(f"images/000.png\n\n{line}\n")
    with pytest.raises(UsageError, match=r"^line 3 of .*list\.txt"):
        open_images(tmp_path / "list.txt")


def test_a_missing_image_of_a_list_costs_its_row(tmp_path):
    write_images(tmp_path / "images", textures(1))
    (tmp_path / "list.txt").write_text("images/000.png\nimages/none.png\n")
    images = open_images(tmp_path / "list.txt")
    images.read(0)
    with pytest.raises(ImageError, match="does not exist"):
        images.read(1)


def test_files_that_are_no_images_are_counted_by_their_ending(labelled_folder):
    for name in ("train/good/a.gif", "train/good/b.GIF", "train/good/notes", "test/blob/c.gif"):
        (labelled_folder / name).write_bytes(b"GIF89a")
    training = open_training_images(labelled_folder)
    assert training.left_out == {".gif": 2, "": 1}
    assert left_out_in_words(training).endswith(": .gif (2), without one (1)")
    assert open_test_images(labelled_folder).left_out == {".gif": 1}
    everything = open_images([labelled_folder / "train", labelled_folder / "test"])
    assert everything.left_out == {".gif": 3, "": 1}
    assert left_out_in_words(open_images(labelled_folder / "train" / "good" / "000.png")) is None
