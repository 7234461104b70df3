"""A folder of parts, here and in a store whose requests fail."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from ganomaly.cluster.parts import (
    MANIFEST,
    PartCounts,
    Plan,
    begin,
    counts_as_metadata,
    failures,
    finish,
    part_name,
)
from ganomaly.errors import DataError, StoreError, UsageError
from ganomaly.remote import RemoteFile, open_file, transfer

PLAN = Plan(100, 64, "images", "model")


class FailingStore:
    """A folder as a store, of which the next `n_failures` requests for a part fail."""

    def __init__(self) -> None:
        self.n_failures = 0
        self.local = LocalFileSystem()

    def __getattr__(self, name: str) -> object:
        return getattr(self.local, name)

    def open_input_file(self, path: str) -> object:
        if path.endswith(".parquet") and self.n_failures > 0:
            self.n_failures -= 1
            raise OSError("AWS Error NETWORK_CONNECTION: https://store/?key=secret")
        return self.local.open_input_file(path)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingStore]:
    failing = FailingStore()
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.001)
    for module in (transfer, open_file):
        monkeypatch.setattr(module, "store_of", lambda file: (failing, str(tmp_path / file.host / file.path)))
    (tmp_path / "bucket" / "out").mkdir(parents=True)
    return failing


@pytest.fixture
def bucket(store: FailingStore) -> RemoteFile:
    return RemoteFile("s3://bucket/out")


def write_part(folder: Path, part: int, n_rows: int) -> PartCounts:
    """Write a part whose first image is unreadable."""
    counts = PartCounts(n_rows, 0, 1, 0)
    paths = [f"{part}-{row}.png" for row in range(n_rows)]
    table = pa.table({"path": paths, "error": pa.array(["broken"] + [None] * (n_rows - 1), pa.string())})
    pq.write_table(table.replace_schema_metadata(counts_as_metadata(counts)), folder / part_name(part))
    return counts


def test_a_folder_to_which_another_command_writes_is_not_complete(tmp_path: Path) -> None:
    begin(tmp_path, PLAN)
    counts = {0: write_part(tmp_path, 0, 64), 1: write_part(tmp_path, 1, 36)}
    for n_rows in (36, 40):  # of another command, whose parts are of another size
        write_part(tmp_path, 0, n_rows)
        with pytest.raises(DataError, match=r"part-000000\.parquet is not complete; repeat the command"):
            finish(tmp_path, PLAN, counts)
    write_part(tmp_path, 0, 64)
    (tmp_path / part_name(1)).unlink()
    with pytest.raises(DataError, match=r"part-000001\.parquet is not complete"):
        finish(tmp_path, PLAN, counts)
    write_part(tmp_path, 1, 36)
    manifest = (tmp_path / MANIFEST).read_text()
    (tmp_path / MANIFEST).write_text(manifest.replace("64", "128"))
    with pytest.raises(UsageError, match="another command writes other parts to"):
        finish(tmp_path, PLAN, counts)
    assert not json.loads((tmp_path / MANIFEST).read_text())["is_complete"]
    (tmp_path / MANIFEST).write_text(manifest)
    assert finish(tmp_path, PLAN, counts) == PartCounts(100, 0, 2, 0)
    assert json.loads((tmp_path / MANIFEST).read_text())["is_complete"]


def test_requests_for_parts_are_tried_again(store: FailingStore, bucket: RemoteFile, tmp_path: Path) -> None:
    begin(bucket, PLAN)
    counts = {part: write_part(tmp_path / "bucket" / "out", part, rows) for part, rows in ((0, 64), (1, 36))}
    store.n_failures = 2
    assert begin(bucket, PLAN) == (PLAN, counts)
    store.n_failures = 2
    assert finish(bucket, PLAN, counts).rows == 100
    store.n_failures = 2
    assert list(failures(bucket, counts)) == [("0-0.png", "broken"), ("1-0.png", "broken")]


def test_a_store_that_does_not_answer_has_no_damaged_parts(
    store: FailingStore, bucket: RemoteFile, tmp_path: Path
) -> None:
    begin(bucket, PLAN)
    folder = tmp_path / "bucket" / "out"
    counts = {0: write_part(folder, 0, 64), 1: write_part(folder, 1, 36)}
    store.n_failures = 1000
    for ask in (
        lambda: begin(bucket, PLAN),
        lambda: finish(bucket, PLAN, counts),
        lambda: list(failures(bucket, counts)),
    ):
        with pytest.raises(StoreError, match=r"NETWORK_CONNECTION") as raised:
            ask()
        assert "secret" not in str(raised.value)
    store.n_failures = 0
    (folder / part_name(1)).write_bytes((folder / part_name(1)).read_bytes()[:-40])
    assert begin(bucket, PLAN) == (PLAN, {0: counts[0]})
    with pytest.raises(DataError, match=r"part-000001\.parquet is missing or damaged"):
        list(failures(bucket, counts))
