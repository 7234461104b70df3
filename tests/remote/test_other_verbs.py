"""The verbs that take an address, and those that say that they do not."""

from pathlib import Path

import pytest

from faulty_store import BUCKET, FaultyStore
from ganomaly.prediction import load_predictor
from ganomaly.remote import RemoteFile, upload
from shell import ganomaly

STORED = f"s3://{BUCKET}"


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit-all", f"{STORED}/catalog.yaml", "--out", "models"),
        ("evaluate", "model.safetensors", "parts", "--figures", f"{STORED}/figures"),
        ("fit", "parts", "--model", "model.safetensors", "--ignore", f"{STORED}/mask.png"),
        ("push", f"{STORED}/model.safetensors", "org/name"),
        ("pull", "org/name", "--model", f"{STORED}/model.safetensors"),
        ("serve", f"{STORED}/models"),
        ("store", "export", "--out", f"{STORED}/parts"),
        ("demo", "--out", f"{STORED}/demo"),
    ],
)
def test_an_address_where_a_path_is_needed_is_one_sentence_and_makes_no_folder(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = ganomaly(*arguments)
    assert done.returncode == 2, done.stderr
    assert f"{STORED}/" in done.stderr
    assert "is in a store; name a path on this machine" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_key_in_an_address_is_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = ganomaly("demo", "--out", "https://user:secret@host/demo?signature=secret")
    assert done.returncode == 2
    assert "secret" not in done.stderr
    assert "https://host/demo" in done.stderr


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_model_in_a_bucket_is_exported_to_it(model_path: Path, store: FaultyStore, suffix: str) -> None:
    bucket = RemoteFile(STORED)
    upload(model_path, bucket / "model.safetensors")
    graph = bucket / f"graph{suffix}"
    file_format = "onnx" if suffix == ".onnx" else "openvino"
    done = ganomaly("export", bucket / "model.safetensors", "--out", graph, "--format", file_format)
    assert done.returncode == 0, done.stderr
    assert f"wrote {graph}" in done.stderr
    threshold = load_predictor(model_path).calibration.threshold
    assert load_predictor(graph).calibration.threshold == pytest.approx(threshold, rel=1e-6)
