"""Parquet in a bucket: damage costs rows as in a local file, faults of the connection cost nothing."""

from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faulty_store import BUCKET, FaultyStore, make_public
from ganomaly.data import ImageDataset, open_images, open_test_images
from ganomaly.errors import DataError, ImageError, StoreError
from ganomaly.remote import RemoteFile, transfer, upload
from images import textures, write_images

KEY = "images.parquet"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """Nine images in three row groups, with labels."""
    contents = [path.read_bytes() for path in sorted(write_images(tmp_path / "i", textures(9)).iterdir())]
    labels = ["good", "crack", "good"] * 3
    pq.write_table(pa.table({"image": contents, "label": labels}), tmp_path / KEY, row_group_size=3)
    return tmp_path / KEY


def damage_row_group(path: Path, number: int, column: int = 0) -> None:
    with pq.ParquetFile(path) as file:
        chunk = file.metadata.row_group(number).column(column)
    content = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content[start : start + 12] = b"\xff" * 12
    path.write_bytes(content)


@pytest.fixture(params=["s3", "https"])
def address(request: pytest.FixtureRequest, store: FaultyStore, local: Path) -> str:
    """Of the parquet file, by Arrow's client and by fsspec's."""
    return f"s3://{BUCKET}/{KEY}" if request.param == "s3" else f"{store.url}/{BUCKET}/{KEY}"


def put(local: Path) -> None:
    file = RemoteFile(f"s3://{BUCKET}/{KEY}")
    upload(local, file)
    make_public(file)


def failures(dataset: ImageDataset) -> dict[int, str]:
    found = {}
    for index in range(len(dataset)):
        try:
            dataset.read(index)
        except ImageError as error:
            found[index] = str(error)
    return found


def test_damage_in_a_row_group_costs_its_rows_as_in_a_local_file(
    address: str, local: Path, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_row_group(local, 1)
    put(local)
    expected = failures(open_images(local))
    assert sorted(expected) == [3, 4, 5]
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("damage is read once: it stays"))
    assert failures(open_images(address)) == expected


@pytest.mark.parametrize("length", [3, 100, -10])
def test_a_damaged_footer_has_the_sentence_of_a_local_file(
    address: str, local: Path, length: int, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write_bytes(local.read_bytes()[:length])
    put(local)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("damage is read once: it stays"))
    sentences = []
    for source in (str(local), address):
        with pytest.raises(DataError, match="is truncated or no parquet file") as refused:
            open_images(source)
        sentences.append(str(refused.value).replace(source, "").replace(KEY, ""))
    assert len(set(sentences)) == 1, sentences


def test_damaged_labels_have_the_sentence_of_a_local_file(
    address: str, local: Path, store: FaultyStore
) -> None:
    damage_row_group(local, 1, column=1)
    put(local)
    for source in (local, address):
        with pytest.raises(DataError, match=r"the labels of .*images\.parquet cannot be read"):
            open_images(source)
    with pytest.raises(DataError, match="the labels of"):
        open_test_images(address)  # which is a copy


def test_what_is_cut_or_refused_is_read_again(address: str, local: Path, store: FaultyStore) -> None:
    put(local)
    expected = open_images(local)
    store.reset(fail=0.1, cut=0.2)
    for _ in range(3):
        images = open_images(address)
        assert [images.read(index).tobytes() for index in range(9)] == [
            expected.read(index).tobytes() for index in range(9)
        ]
    assert store.faults > 3


def test_a_store_that_fails_later_ends_the_run_and_is_no_damage(
    address: str, local: Path, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "TRIES", 2)
    put(local)
    images = open_images(address)
    images.read(0)
    store.reset(cut=1.0)
    with pytest.raises(StoreError, match=rf"cannot read .*{KEY}: .*, 2 times; check the address"):
        images.read(8)
    with pytest.raises(StoreError, match=rf"cannot read .*{KEY}"):
        open_images(address)


def test_a_file_that_is_gone_costs_its_rows_and_shows_no_key(local: Path, store: FaultyStore) -> None:
    put(local)
    host = store.url.removeprefix("http://")
    images = open_images(f"http://user:password@{host}/{BUCKET}/{KEY}?X-Amz-Signature=secret")
    images.read(0)
    boto3.client("s3", region_name="us-east-1").delete_object(Bucket=BUCKET, Key=KEY)
    told = failures(images)
    assert sorted(told) == [3, 4, 5, 6, 7, 8]
    assert "does not exist" in told[4]
    assert "secret" not in str(told)
    assert "password" not in str(told)
