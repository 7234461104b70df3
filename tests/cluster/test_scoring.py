"""`ganomaly score --engine ray`: the rows of `ganomaly score`, whatever is broken or killed on the way."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ganomaly.cluster import scoring
from ganomaly.cluster.parts import MANIFEST, part_name
from ganomaly.cluster.worker import PartScorer
from ganomaly.data import open_images
from ganomaly.errors import GANomalyError
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


def test_what_ends_a_part_is_told_in_one_sentence(
    model_path: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray import cloudpickle

    monkeypatch.setattr("ray.get", lambda files: files)  # the worker alone, in this process
    monkeypatch.setenv("GANOMALY_PROCESSORS", "1")
    files = {"m.safetensors": model_path.read_bytes()}
    worker = PartScorer([files], tmp_path, batch_size=8, device="cpu", threads=1, folder=str(Path.cwd()))
    (tmp_path / part_name(3)).mkdir()  # no file can be written over a folder
    dataset = cloudpickle.dumps(open_images(images / "files").part(5, 15))
    done = worker({"part": [3, 4], "start": [5, 5], "images": [dataset, dataset]})
    assert "it is a folder" in done["failure"][0]
    assert done["status"] == [2, 0]
    assert done["rows"] == [0, 10]
    assert [row["index"] for row in rows(tmp_path / part_name(4))] == list(range(5, 15))
    with pytest.raises(GANomalyError, match=r"a full disk; the same command goes on"):
        raise scoring._error("a full disk", 1)


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
