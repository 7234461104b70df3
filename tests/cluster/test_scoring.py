"""`ganomaly score --engine ray`: the rows of `ganomaly score`, whatever is broken or killed on the way."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ganomaly.cluster import scoring, worker
from ganomaly.cluster.parts import MANIFEST, Plan, begin, part_name
from ganomaly.cluster.scoring import Workers
from ganomaly.cluster.worker import PartScorer, Tries
from ganomaly.data import ImageDataset, open_images
from ganomaly.errors import DataError, EngineError, GANomalyError
from images import textures, write_images
from shell import ganomaly


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 150 images, one of them broken, and parquet beside it."""
    root = tmp_path_factory.mktemp("images")
    folder = write_images(root / "files", textures(150, seed=7))
    (folder / "070.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    contents = [path.read_bytes() for path in sorted(folder.iterdir())[:90]]
    table = pa.table({"image": [{"bytes": content, "path": None} for content in contents]})
    for name, rows in (("a", slice(0, 40)), ("b", slice(40, 90))):
        pq.write_table(table[rows], root / f"{name}.parquet", row_group_size=16)
    return root


def rows(source: Path) -> list[dict[str, object]]:
    return pq.read_table(source).to_pylist()


@pytest.fixture(scope="module")
def scored(model_path: Path, images: Path) -> Path:
    """A folder of parts of the images, as the command writes it."""
    out = images / "parts"
    done = ganomaly("score", model_path, *sources(images), "--engine", "ray", "--workers", 2, "--out", out)
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    assert "ray" not in done.stderr.lower()
    assert "070.png is truncated or damaged" in done.stderr
    return out


def sources(images: Path) -> tuple[Path, ...]:
    return images / "files", images / "a.parquet", images / "b.parquet"


def test_the_rows_are_those_of_score_bit_for_bit_and_in_order(
    model_path: Path, images: Path, scored: Path, tmp_path: Path
) -> None:
    assert (
        ganomaly("score", model_path, *sources(images), "--out", tmp_path / "local.parquet").returncode == 3
    )
    parts = sorted(scored.glob("part-*.parquet"))
    all_rows = [row for part in parts for row in rows(part)]
    assert len(parts) == 4
    assert [row.pop("index") for row in all_rows] == list(range(240))
    assert all_rows == rows(tmp_path / "local.parquet")
    manifest = json.loads((scored / MANIFEST).read_text())
    assert manifest["is_complete"]
    assert manifest["counts"]["unreadable"] == 2  # one in the folder, the same in parquet


def test_a_run_goes_on_with_the_parts_that_are_missing(
    model_path: Path, images: Path, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(scored, tmp_path / "parts")
    whole = {path.name: rows(path) for path in out.glob("*.parquet")}
    kept = out / part_name(0)
    time = kept.stat().st_mtime_ns
    (out / part_name(1)).unlink()
    (out / part_name(2)).write_bytes(kept.read_bytes()[:-40])  # as a machine that lost power may leave it
    asked: list[list[int]] = []
    score = scoring._scored
    monkeypatch.setattr(scoring, "_scored", lambda *given: asked.append(given[3]) or score(*given))
    total, _ = scoring.score_in_parts(model_path, open_images(sources(images)), out, n_workers=1)
    assert asked == [[1, 2]]
    assert (total.rows, total.unreadable) == (240, 2)
    assert kept.stat().st_mtime_ns == time
    assert {path.name: rows(path) for path in out.glob("*.parquet")} == whole


def test_a_folder_of_something_else_is_refused(
    model_path: Path, images: Path, scored: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    before = (scored / MANIFEST).read_bytes()
    for source, out, sentence in (
        (images / "files", tmp_path, "is not empty"),
        (images / "files", scored, "with other images"),
        (images / "files", images / "a.parquet", "is a file"),
    ):
        done = ganomaly("score", model_path, source, "--engine", "ray", "--out", out)
        assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr
    assert (scored / MANIFEST).read_bytes() == before


PLAN = Plan(150, 10, "images", "model")


def worker_here(model_path: Path, out: Path) -> PartScorer:
    """A worker in this process."""
    import ray

    return PartScorer(
        [ray.put({"m.safetensors": model_path.read_bytes()})],
        out,
        scoring._tries(ray),
        plan=PLAN,
        most_tries=1,
        most_starts=1,
        batch_size=8,
        device="cpu",
        threads=1,
        folder=str(Path.cwd()),
    )


def test_what_ends_a_part_is_told_in_one_sentence(
    model_path: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray import cloudpickle

    monkeypatch.setenv("GANOMALY_PROCESSORS", "1")
    begin(tmp_path, PLAN)
    here = worker_here(model_path, tmp_path)
    (tmp_path / part_name(3)).mkdir()  # no file can be written over a folder
    dataset = cloudpickle.dumps(open_images(images / "files").part(5, 15))
    done = here({"part": [3, 4], "start": [5, 5], "images": [dataset, dataset]})
    assert "it is a folder" in done["failure"][0]
    assert done["status"] == [2, 0]
    assert done["rows"] == [0, 10]
    assert [row["index"] for row in rows(tmp_path / part_name(4))] == list(range(5, 15))
    monkeypatch.setattr(here, "_score", lambda *_: torch.zeros(2) @ torch.zeros(3))
    done = here({"part": [5], "start": [5], "images": [dataset]})
    assert done["failure"][0].startswith("a worker met an unexpected RuntimeError: ")
    assert done["status"] == [1]
    with pytest.raises(GANomalyError, match=r"a full disk; the same command goes on"):
        raise scoring._error("a full disk", 1)


def test_a_worker_writes_nothing_into_the_parts_of_another_command(
    model_path: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray import cloudpickle

    monkeypatch.setenv("GANOMALY_PROCESSORS", "1")
    here = worker_here(model_path, tmp_path)
    dataset = cloudpickle.dumps(open_images(images / "files").part(0, 10))
    batch = {"part": [0], "start": [0], "images": [dataset]}
    begin(tmp_path, Plan(150, 20, "images", "model"))  # that of other workers
    assert "another command writes other parts" in here(batch)["failure"][0]
    (tmp_path / MANIFEST).unlink()
    here = worker_here(model_path, tmp_path)
    assert "let --out be a folder that all machines share" in here(batch)["failure"][0]
    assert not list(tmp_path.iterdir())


def test_a_part_that_kills_its_workers_is_named_and_the_others_are_scored(
    model_path: Path, images: Path, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = {1: 3, 2: 1}  # of workers at a part

    class Scorer(PartScorer):
        def _score(self, part: int, start: int, dataset: ImageDataset) -> Any:
            died = sorted(tmp_path.glob(f"died-{part}-*"))
            if len(died) < deaths.get(part, 0):
                (tmp_path / f"died-{part}-{len(died)}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super()._score(part, start, dataset)

    monkeypatch.setattr(scoring, "PartScorer", Scorer)
    monkeypatch.setattr(scoring, "TRIES", 2)
    out, dataset = tmp_path / "parts", open_images(sources(images))
    with pytest.raises(EngineError) as raised:
        scoring.score_in_parts(model_path, dataset, out, n_workers=1)
    message = str(raised.value)
    assert "2 workers died one after the other at images 64 to 127 (" in message
    assert f"{Path('files', '064.png')} to " in message
    assert "the other parts are kept: replace the image, and the same command goes on" in message
    assert sorted(path.name for path in tmp_path.glob("died-*")) == ["died-1-0", "died-1-1", "died-2-0"]
    assert {path.name: rows(path) for path in out.glob("*.parquet")} == {
        part_name(part): rows(scored / part_name(part)) for part in (0, 2, 3)
    }


def test_too_many_parts_that_kill_their_workers_end_the_run(
    model_path: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    monkeypatch.setattr(scoring, "LOST_PARTS", 2)
    monkeypatch.setattr(
        scoring, "_scored", lambda *given: ((part, tried.append(part)) for part in reversed(given[3]))
    )
    with pytest.raises(EngineError, match=r"images 128 to 191 \(.*\), and those of 1 more part, as"):
        scoring.score_in_parts(model_path, open_images(sources(images)), tmp_path, n_workers=2)
    assert tried == [3, 2]


def test_starts_of_workers_are_counted_until_one_has_loaded_the_model() -> None:
    tries = Tries()
    assert [tries.start() for _ in range(3)] == [1, 2, 3]
    tries.started()
    assert [tries.start() for _ in range(2)] == [1, 2]
    tries.begin(part=0)  # by one that loaded it before
    assert tries.start() == 1


def scorer_that_dies_at_loading(folder: Path, deaths: int) -> type[PartScorer]:
    """A worker that kills itself, so many times, when it loads the model; each death is a file `died-*`."""

    class Scorer(PartScorer):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            load = worker.loaded

            def loaded(files: Any) -> Any:
                died = len(list(folder.glob("died-*")))
                if died < deaths:
                    (folder / f"died-{died}").touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return load(files)

            worker.loaded = loaded  # in the process of the worker
            super().__init__(*arguments, **options)

    return Scorer


def test_a_worker_that_dies_while_it_loads_the_model_is_started_again(
    model_path: Path, images: Path, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "PartScorer", scorer_that_dies_at_loading(tmp_path, deaths=1))
    out = tmp_path / "parts"
    scoring.score_in_parts(model_path, open_images(sources(images)), out, n_workers=1)
    assert (tmp_path / "died-0").exists()
    assert {path.name: rows(path) for path in out.glob("*.parquet")} == {
        path.name: rows(path) for path in scored.glob("*.parquet")
    }


def test_workers_that_all_die_while_they_load_the_model_end_the_run(
    model_path: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "PartScorer", scorer_that_dies_at_loading(tmp_path, deaths=1000))
    monkeypatch.setattr(scoring, "TRIES", 2)
    with pytest.raises(EngineError) as raised:
        scoring.score_in_parts(model_path, open_images(images / "files"), tmp_path / "parts", n_workers=1)
    assert str(raised.value) == (
        "2 workers died one after the other while they loaded the model, as where it takes more memory than they "
        "get: name fewer workers with --workers, or use machines with more memory; the same command goes on where "
        "this one ended"
    )
    assert len(list(tmp_path.glob("died-*"))) == 2


def test_an_error_of_ray_is_one_sentence(
    model_path: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Scorer(PartScorer):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(scoring, "PartScorer", Scorer)
    with pytest.raises(
        EngineError,
        match=r"^Ray cannot score a part: RuntimeError: CUDA error: out of memory; the same command goes on",
    ):
        scoring.score_in_parts(model_path, open_images(images / "files"), tmp_path / "parts", n_workers=1)
    assert "ERROR" not in capfd.readouterr().err


@pytest.mark.parametrize(("gpus", "device"), [(0, "cpu"), (1, "auto")])
def test_workers_without_a_gpu_compute_on_processors(
    gpus: int, device: str, model_path: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(scoring, "choose_workers", lambda *_: Workers(2, 0.5, gpus, 1))
    monkeypatch.setattr(scoring, "_scored", lambda *arguments: given.append(arguments) or iter(()))
    with pytest.raises(DataError, match="is not complete"):
        scoring.score_in_parts(model_path, open_images(images / "files"), tmp_path)
    assert given[0][-1]["device"] == device


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--engine", "ray", "--maps", "maps"), "leave out --maps"),
        (("--workers", "2"), "--workers is for --engine ray"),
    ],
)
def test_options_that_an_engine_does_not_have_are_refused(
    arguments: tuple[str, ...], sentence: str, model_path: Path, tmp_path: Path
) -> None:
    done = ganomaly("score", model_path, tmp_path, "--out", tmp_path / "x.csv", *arguments)
    assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr
