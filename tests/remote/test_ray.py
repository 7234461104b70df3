"""`score --engine ray` from and to a bucket, whose workers find the store by the environment."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from faulty_store import BUCKET, FaultyStore
from ganomaly.remote import RemoteFile, list_files, local_copy, upload
from shell import ganomaly_process


def test_images_of_a_bucket_are_scored_into_it_each_read_once(
    model_path: Path, normal_folder: Path, store: FaultyStore, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    bucket = RemoteFile(f"s3://{BUCKET}")
    for path in sorted(normal_folder.iterdir()):
        upload(path, bucket / "images" / path.name)
    upload(model_path, bucket / "model.safetensors")
    done = ganomaly_process("score", model_path, normal_folder, "--out", tmp_path / "local.parquet")
    assert done.returncode == 0, done.stderr
    store.reset()
    command = ("score", bucket / "model.safetensors", bucket / "images", "--engine", "ray", "--workers", 2)
    done = ganomaly_process(*command, "--out", bucket / "verdicts")
    assert done.returncode == 0, done.stderr
    images = {f"/{BUCKET}/{s.name}": s.size for s in list_files(bucket) if s.name.startswith("images/")}
    assert {name: size for name, size in store.read_bytes.items() if name in images} == images
    rows = []
    for stored in list_files(bucket / "verdicts"):
        if stored.name.endswith(".parquet"):
            with local_copy(bucket / "verdicts" / stored.name) as copy:
                rows += pq.read_table(copy).to_pylist()
    expected = pq.read_table(tmp_path / "local.parquet").to_pylist()
    assert [row.pop("index") for row in rows] == list(range(len(expected)))
    for row in [*rows, *expected]:
        row["path"] = row["path"].rpartition("/")[2]
    assert rows == expected
