"""Parquet in the layout of Hugging Face: opened, labelled, read by row groups, refused if damaged."""

import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ganomaly.data import inspect_images, open_images, open_test_images, open_training_images
from ganomaly.data.sources import parquet as parquet_module
from ganomaly.data.sources.parquet import ParquetImages
from ganomaly.errors import DataError, ImageError


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (6, 5), level).save(file, "PNG")
    return file.getvalue()


def write(
    path: Path,
    n: int = 10,
    *,
    labels: Sequence[Any] | None = None,
    names: Sequence[str] | None = None,
    column: str = "image",
    images: Any = None,
    row_group_size: int = 3,
    first: int = 0,
) -> Path:
    """Write n images whose pixels are their numbers."""
    if images is None:
        content = [{"bytes": png(first + number), "path": f"{number}.png"} for number in range(n)]
        images = pa.array(content, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    columns = {column: images}
    if labels is not None:
        columns["label"] = pa.array(labels)
    table = pa.table(columns)
    if names is not None:
        info = {"info": {"features": {"label": {"names": list(names), "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def levels(dataset: Any) -> list[int]:
    return [int(dataset.read(index)[0, 0, 0]) for index in range(len(dataset))]


def binary(n: int = 10) -> Any:
    return pa.array([png(number) for number in range(n)], pa.binary())


@pytest.mark.parametrize("column", ["image", "img"])
@pytest.mark.parametrize("images", [None, binary(), binary().cast(pa.large_binary())])
def test_images_come_in_order_whatever_their_column(tmp_path: Path, column: str, images: Any) -> None:
    dataset = open_images(write(tmp_path / "x.parquet", column=column, images=images))
    assert levels(dataset) == list(range(10))
    assert dataset.records[4].path == f"{tmp_path}/x.parquet#4"
    assert dataset.records[4].kind is None


def test_files_of_a_folder_follow_each_other_with_rows_counted_anew(tmp_path: Path) -> None:
    write(tmp_path / "data/b-2.parquet", 4, first=3)
    write(tmp_path / "data/b-10.parquet", 2, first=7)
    write(tmp_path / "data/a.parquet", 3)
    dataset = open_images(tmp_path)
    assert levels(dataset) == list(range(9))
    assert [Path(record.path).name for record in dataset.records][-3:] == [
        "b-2.parquet#3",
        "b-10.parquet#0",
        "b-10.parquet#1",
    ]


def test_rows_are_read_in_any_order_and_from_several_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_module, "_CACHE_BYTES", 0)
    dataset = ParquetImages(
        [write(tmp_path / "a.parquet", 100), write(tmp_path / "b.parquet", 100, first=100)]
    )
    order = np.random.default_rng(0).permutation(200)
    with ThreadPoolExecutor(8) as threads:
        levels_read = list(threads.map(lambda index: int(dataset.read(int(index))[0, 0, 0]), order))
    assert levels_read == order.tolist()


def test_reading_in_order_reads_each_row_group_once_and_keeps_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    original = parquet_module._ParquetFile.cells

    def counted(file: Any, group: int) -> Any:
        read.append(group)
        return original(file, group)

    monkeypatch.setattr(parquet_module._ParquetFile, "cells", counted)
    monkeypatch.setattr(parquet_module, "_CACHE_BYTES", 0)
    dataset = ParquetImages([write(tmp_path / "x.parquet", 30, row_group_size=3)])
    assert read == [], "nothing is read before it is asked for"
    for index in range(30):
        dataset.read(index)
        dataset.read(max(0, index - 3))  # threads that decode ahead are in two row groups at a time
    assert read == list(range(10))
    assert len(dataset._row_groups._row_groups) == 2


# --- splits and labels -----------------------------------------------------------------------------------


def test_training_takes_the_train_files_and_evaluation_the_test_files(tmp_path: Path) -> None:
    write(tmp_path / "data/train-00000-of-00001.parquet", 4, labels=[0, 1, 2, 1])
    write(tmp_path / "data/test-00000-of-00001.parquet", 3, labels=[1, 0, 1], first=50)
    assert levels(open_training_images(tmp_path)) == [0, 1, 2, 3]
    assert levels(open_test_images(tmp_path)) == [50, 51, 52]
    assert len(open_images(tmp_path)) == 7


def test_splits_may_be_folders_too_and_without_splits_all_files_are_taken(tmp_path: Path) -> None:
    write(tmp_path / "mnist/train/0.parquet", 4)
    write(tmp_path / "mnist/test/0.parquet", 3, labels=[0, 1, 1])
    assert len(open_training_images(tmp_path / "mnist")) == 4
    assert len(open_test_images(tmp_path / "mnist")) == 3
    write(tmp_path / "plain/a.parquet", 2)
    write(tmp_path / "plain/b.parquet", 2)
    assert len(open_training_images(tmp_path / "plain")) == 4


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["crack", "Good", "crack", "Good", None], None),
        ([0, 1, 0, 1, -1], ["crack", "Good"]),
        ([0, 1, 0, 1, None], ["crack", "Good"]),
    ],
)
def test_a_label_that_names_normal_images_is_understood(
    tmp_path: Path, labels: list[Any], names: list[str] | None
) -> None:
    path = write(tmp_path / "x.parquet", 5, labels=labels, names=names)
    training = open_training_images(path)
    assert levels(training) == [1, 3]
    assert "label Good" in training.name
    assert [Path(record.path).name for record in training.records] == ["x.parquet#1", "x.parquet#3"]
    test = open_test_images(path)
    assert [(record.kind, record.is_anomalous) for record in test.records] == [
        ("crack", True),
        ("Good", False),
        ("crack", True),
        ("Good", False),
        (None, None),
    ]
    assert [record.kind for record in open_images(path).records] == ["crack", "Good", "crack", "Good", None]
    assert {record.is_anomalous for record in open_images(path).records} == {None}


def test_label_0_is_normal_in_evaluation_and_numbers_do_not_choose_in_training(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", 4, labels=[0, 7, 0, 3])
    assert [record.is_anomalous for record in open_test_images(path).records] == [False, True, False, True]
    assert [record.kind for record in open_test_images(path).records] == ["0", "7", "0", "3"]
    assert len(open_training_images(path)) == 4


@pytest.mark.parametrize("labels", [[True, False, True, False], [1, 0, 1, 0]])
def test_a_boolean_label_says_whether_an_image_is_anomalous(
    tmp_path: Path, labels: list[bool] | list[int]
) -> None:
    path = write(tmp_path / "x.parquet", 4, labels=labels)
    assert [record.is_anomalous for record in open_test_images(path).records] == [True, False, True, False]
    assert levels(open_training_images(path)) == [1, 3]


@pytest.mark.parametrize(
    ("labels", "message"),
    [(None, "no labels"), (["cat", "dog", "cat"], "found cat, dog"), ([1, 2, 3], "found 1, 2")],
)
def test_evaluation_without_a_normal_label_says_what_it_needs(
    tmp_path: Path, labels: list[Any] | None, message: str
) -> None:
    path = write(tmp_path / "x.parquet", 3, labels=labels)
    with pytest.raises(DataError, match=message):
        open_test_images(path)


@pytest.mark.parametrize(
    "metadata",
    [
        b"{",
        b"[]",
        b'{"info": 3}',
        b'{"info": {"features": {"label": {}}}}',
        b'{"info": {"features": {"label": {"names": "ab"}}}}',
        b'{"info": {"features": {"label": {"names": [["a"], 3]}}}}',
        b'{"info": ' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"info": {"features": {"label": {"names": ["\xff"]}}}}',
    ],
)
def test_odd_metadata_are_no_names(tmp_path: Path, metadata: bytes) -> None:
    table = pa.table({"image": binary(2), "label": [0, 1]}).replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, tmp_path / "x.parquet")
    assert [record.kind for record in open_images(tmp_path).records] == ["0", "1"]


# --- refused ---------------------------------------------------------------------------------------------


def test_rows_without_bytes_and_broken_images_cost_their_own_rows(tmp_path: Path) -> None:
    content = [
        {"bytes": png(0), "path": None},
        {"bytes": None, "path": "elsewhere.png"},
        None,
        {"bytes": b"text", "path": None},
        {"bytes": png(4), "path": None},
    ]
    images = pa.array(content, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    dataset = open_images(write(tmp_path / "x.parquet", images=images))
    for index, why in ((1, "holds no image"), (2, "holds no image"), (3, "is not an image")):
        with pytest.raises(ImageError, match=rf"^x\.parquet#{index} {why}"):
            dataset.read(index)
    assert dataset.read(4)[0, 0, 0] == 4
    inspection = inspect_images(dataset)
    assert sorted(inspection.failures) == [1, 2, 3]


@pytest.mark.parametrize("length", [0, 3, 100, -10])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "x.parquet")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"x\.parquet is truncated or no parquet file"):
        open_images(path)


def test_foreign_columns_are_refused_and_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a.png"], "price": [3]}), tmp_path / "x.parquet")
    with pytest.raises(
        DataError, match=r"has no images: .*`image` or `img`.*image \(string\), price \(int64\)"
    ):
        open_images(tmp_path)


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        open_images(write(tmp_path / "x.parquet", 0))


def test_damage_in_a_row_group_costs_its_rows_only(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", 9)
    with pq.ParquetFile(path) as file:
        column = file.metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + 12] = b"\xff" * 12
    path.write_bytes(content)
    dataset = open_images(path)
    assert dataset.read(0)[0, 0, 0] == 0
    with pytest.raises(ImageError, match=r"x\.parquet#4 cannot be read: the parquet file is damaged"):
        dataset.read(4)
    assert dataset.read(8)[0, 0, 0] == 8


@pytest.mark.shared_data
def test_mnist_has_its_published_numbers(shared_data: Path) -> None:
    training = open_training_images(shared_data / "mnist")
    assert len(training) == 60_000
    assert training.read(0).shape == (28, 28, 1)
    test = open_test_images(shared_data / "mnist")
    kinds = [record.kind for record in test.records]
    assert len(kinds) == 10_000
    assert (kinds.count("0"), kinds.count("1"), kinds.count("2")) == (980, 1135, 1032)
    assert {record.kind for record in test.records if not record.is_anomalous} == {"0"}


def test_two_columns_of_images_are_refused_in_words(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([binary(), binary()], names=["image", "image"])
    pq.write_table(table, tmp_path / "two.parquet")
    with pytest.raises(DataError, match=r"two\.parquet has 2 columns called image"):
        open_images(tmp_path / "two.parquet")


def test_two_columns_of_labels_are_refused_in_words(tmp_path: Path) -> None:
    labels = pa.array(["good"] * 10)
    table = pa.Table.from_arrays([binary(), labels, labels], names=["image", "label", "label"])
    pq.write_table(table, tmp_path / "two.parquet")
    with pytest.raises(DataError, match=r"two\.parquet has 2 columns called label"):
        open_images(tmp_path / "two.parquet")


def test_a_column_whose_name_looks_like_a_field_of_the_image_is_not_taken_for_it(tmp_path: Path) -> None:
    images = pa.array([{"bytes": png(number)} for number in range(10)], pa.struct([("bytes", pa.binary())]))
    others = pa.array([b"other"] * 10)
    pq.write_table(pa.table({"image.bytes": others, "image": images}), tmp_path / "a.parquet")
    assert levels(open_images(tmp_path / "a.parquet")) == list(range(10))


def test_no_bit_of_pages_with_checksums_can_change_an_image_unnoticed(tmp_path: Path) -> None:
    """BMP has no checksum of its own."""
    path = tmp_path / "a.parquet"
    file = io.BytesIO()
    Image.new("L", (6, 5), 77).save(file, "BMP")
    pq.write_table(pa.table({"image": [file.getvalue()]}), path, compression="none", write_page_checksum=True)
    content = path.read_bytes()
    start = content.index(file.getvalue())
    for bit in range(8 * (start + 14), 8 * (start + len(file.getvalue())), 7):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(changed))
        with pytest.raises(ImageError, match="the parquet file is damaged"):
            open_images(path).read(0)
