"""`benchmark` and `fit-all` with `--engine ray`: what the local engine gives, whatever fails."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from ganomaly.benchmark import BenchmarkDataset, Budget, RowFile, grid, parse_methods, run_grid
from ganomaly.benchmark.artifacts import ARTIFACTS
from ganomaly.cluster import tasks
from ganomaly.cluster.tasks import MARK, _Mark, run_on_ray
from ganomaly.errors import EngineError
from images import textures, write_images
from shell import ganomaly
from spawned import process_after

TIMES = ("train_seconds", "score_ms_per_batch")
METHODS = "ganomaly[nz=4;ngf=4;ndf=4],vae[nz=4;ngf=4]"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As each of two workers on two processors has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


@pytest.mark.usefixtures("one_thread")
def test_a_benchmark_has_the_rows_and_artifacts_of_the_local_engine(
    labelled_folder: Path, tmp_path: Path
) -> None:
    out, local, json_path = tmp_path / "ray", tmp_path / "local", tmp_path / "rows.json"
    command = ("benchmark", "parts", "--data", labelled_folder, "--methods", METHODS, "--precision", "fp32")
    options = ("--epochs", 1, "--json", json_path, "--engine", "ray", "--workers", 2)
    done = ganomaly(*command, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    rows = json.loads(json_path.read_text())["rows"]
    assert len(rows) == 4

    dataset, budget = BenchmarkDataset("parts", labelled_folder), Budget(epochs=1)
    cells = grid(dataset, parse_methods(METHODS), None, [0], budget=budget, precision="fp32")
    assert without_times(run_grid(cells, RowFile(local))) == without_times(rows)
    assert {path.name for path in (out / ARTIFACTS).iterdir()} == {
        path.name for path in (local / ARTIFACTS).iterdir()
    }
    # what is done is not run again
    left: list[Any] = []
    run_grid(cells, RowFile(out), run=lambda function, items: left.extend(items) or iter(()))
    assert left == []


def test_ray_does_not_start_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "ray_session", lambda: pytest.fail("started"))
    assert list(run_on_ray(process_after, [], out=tmp_path)) == []


def test_a_model_of_a_catalogue_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    write_images(tmp_path / "nuts", textures(12))
    catalog, out = tmp_path / "catalog.yaml", tmp_path / "models"
    catalog.write_text(
        "options: {preset: paper, epochs: 1, false_alarm_rate: 0.1, method_options: {ngf: 4, ndf: 4, nz: 4}}\n"
        "products: {gone: {data: nowhere}, nut: {data: nuts}}\n"
    )
    for status in ("fitted", "unchanged"):
        done = ganomaly("fit-all", catalog, "--out", out, "--engine", "ray", "--workers", 2)
        assert done.returncode == 1
        assert "1 of 2 models failed, the first gone" in done.stderr
        rows = json.loads((out / "models.json").read_text())["models"]
        assert [row["status"] for row in rows] == ["failed", status]
    assert {path.name for path in out.iterdir()} == {"models.csv", "models.json", "nut.safetensors"}


def test_a_task_whose_process_dies_has_no_result_and_the_others_have_theirs(tmp_path: Path) -> None:
    results = dict(run_on_ray(process_after, [0, -1, 2, 3], n_workers=2, out=tmp_path))
    assert results.pop(1) is None
    assert sorted(results) == [0, 2, 3]
    assert None not in results.values()


def test_tasks_without_a_gpu_see_none(tmp_path: Path) -> None:
    results = dict(
        run_on_ray(os.getenv, ["CUDA_VISIBLE_DEVICES", "GANOMALY_PROCESSORS"], n_workers=2, out=tmp_path)
    )
    assert results == {0: "", 1: "1"}


def test_a_machine_without_the_output_folder_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def elsewhere(folder: Path) -> Iterator[_Mark]:
        file = folder / MARK  # of the same name, as where a killed run left it
        file.write_text("another run")
        yield _Mark(file, "this run")

    monkeypatch.setattr(tasks, "_marked", elsewhere)
    with pytest.raises(EngineError, match=r"is not the same folder on .* as here; let --out be one that all"):
        list(run_on_ray(process_after, [0], n_workers=1, out=tmp_path))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--engine", "ray", "--jobs", 2), "--jobs is for --engine local"),
        (("--workers", 2), "--workers is for --engine ray"),
    ],
)
def test_options_of_the_other_engine_are_refused(
    options: tuple[object, ...], sentence: str, tmp_path: Path
) -> None:
    for command in (("benchmark", "mnist"), ("fit-all", tmp_path / "catalog.yaml")):
        done = ganomaly(*command, "--out", tmp_path / "out", *options)
        assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr
