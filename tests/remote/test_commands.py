"""The commands with a bucket in the place of paths: the same results, nothing read twice."""

import csv
import gc
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch import Generator

from faulty_store import FaultyStore, make_public
from ganomaly.catalog import fit_catalog
from ganomaly.catalog.entry import CatalogEntry
from ganomaly.cluster.parts import Plan, begin, finish
from ganomaly.cluster.worker import PartScorer
from ganomaly.config import FitOptions, Preprocessing
from ganomaly.data import open_images
from ganomaly.errors import DataError
from ganomaly.methods import find_preset
from ganomaly.outputs.tables import COLUMNS
from ganomaly.prediction import describe_model, load_predictor
from ganomaly.remote import RemoteFile, list_files, local_copy, read, transfer, upload
from ganomaly.training.checkpoint import Checkpoint, RunState
from images import SMALL
from shell import ganomaly

BUCKET = RemoteFile("s3://parts")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)


def put_folder(folder: Path, name: str) -> RemoteFile:
    for path in sorted(folder.rglob("*.*")):
        upload(path, BUCKET / name / path.relative_to(folder).as_posix())
    return BUCKET / name


def rows(path: Path | RemoteFile) -> list[dict[str, str]]:
    with local_copy(path) as copy, copy.open(newline="") as file:
        return [row | {"path": row["path"].rpartition("/")[2]} for row in csv.DictReader(file)]


def test_score_from_and_to_a_bucket_is_the_same_and_reads_each_image_once(
    model_path: Path, labelled_folder: Path, store: FaultyStore, tmp_path: Path
) -> None:
    for kind in ("good", "blob"):
        for path in list((labelled_folder / "test" / kind).iterdir())[3:]:
            path.unlink()
    (labelled_folder / "test" / "blob" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    done = ganomaly("score", model_path, labelled_folder / "test", "--out", tmp_path / "local.csv")
    assert done.returncode == 3, done.stderr
    images = put_folder(labelled_folder / "test", "images")
    upload(model_path, BUCKET / "model.safetensors")
    store.reset(slow=0.02)
    done = ganomaly(
        *("score", BUCKET / "model.safetensors", images, "--out", BUCKET / "out" / "verdicts.csv"),
        *("--maps", BUCKET / "maps", "--report", BUCKET / "report.html"),
    )
    assert done.returncode == 3, done.stderr
    counted = dict(store.read_bytes)
    assert rows(BUCKET / "out" / "verdicts.csv") == rows(tmp_path / "local.csv")
    assert counted == {
        f"/parts/{stored.name}": stored.size
        for stored in list_files(BUCKET)
        if stored.name.startswith(("images/", "model"))
    }
    names = {stored.name for stored in list_files(BUCKET / "maps")}
    assert len(names) == 12
    assert all(name.startswith(("good/0", "blob/0")) for name in names)
    assert b"ganomaly" in read(BUCKET / "report.html")


def test_faults_in_one_of_twenty_requests_change_nothing(
    model_path: Path, normal_folder: Path, store: FaultyStore
) -> None:
    images = put_folder(normal_folder, "images")
    tables = []
    for faults in ({}, {"fail": 0.01, "cut": 0.04}):
        store.reset(**faults)
        done = ganomaly("score", model_path, images, "--out", BUCKET / f"{len(tables)}.csv")
        assert done.returncode == 0, done.stderr
        tables.append(store.faults)
    assert tables[0] == 0 < tables[1]
    store.reset()
    assert rows(BUCKET / "0.csv") == rows(BUCKET / "1.csv")


def test_fit_and_evaluate_from_a_bucket_read_each_file_once_and_give_the_same_model(
    labelled_folder: Path, store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the checkpoint of a remote model is
    options = ["--preset", "paper", "--epochs", "1", "--false-alarm-rate", "0.2"]
    for name, value in SMALL.items():
        options += ["--option", f"{name}={value}"]
    data = put_folder(labelled_folder, "parts")
    assert ganomaly("fit", labelled_folder, "--model", "local.safetensors", *options).returncode == 0
    store.reset(fail=0.02, cut=0.03)
    done = ganomaly("fit", data, "--model", BUCKET / "model.safetensors", *options)
    assert done.returncode == 0, done.stderr
    train = {f"/parts/{s.name}": s.size for s in list_files(BUCKET) if s.name.startswith("parts/train/")}
    assert dict(store.read_bytes) == train
    figures = []
    for model, source in (("local.safetensors", labelled_folder), (BUCKET / "model.safetensors", data)):
        store.reset()
        out = BUCKET / f"{len(figures)}.json"
        done = ganomaly("evaluate", model, source, "--json", out)
        assert done.returncode == 0, done.stderr
        figures.append(json.loads(read(out)))
    assert figures[0] == figures[1]
    assert figures[1]["pixel_auroc"] is not None  # the masks came too
    assert not list(tmp_path.glob("*.checkpoint"))
    described = ganomaly("info", BUCKET / "model.safetensors", "--json")
    assert json.loads(described.stdout)["file"] == "s3://parts/model.safetensors"


def test_images_beyond_the_memory_for_them_wait_in_files_and_are_read_once_too(
    model_path: Path, normal_folder: Path, store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    sizes = [path.stat().st_size for path in sorted(normal_folder.iterdir())]
    monkeypatch.setattr("ganomaly.data.sources.remote.KEPT_BYTES", sum(sizes[:3]))
    images = put_folder(normal_folder, "images")
    store.reset()
    done = ganomaly("score", model_path, images, "--out", tmp_path / "out.csv", "--maps", tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    assert dict(store.read_bytes) == {f"/parts/{s.name}": s.size for s in list_files(BUCKET)}
    gc.collect()
    assert not list((tmp_path / "temporary").iterdir())


def test_files_of_images_that_wait_go_with_those_that_were_read_again(
    normal_folder: Path, store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken image is read once only; a map in DICOM reads its image three times."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("ganomaly.data.sources.remote.KEPT_BYTES", 1)
    sizes = [path.stat().st_size for path in sorted(normal_folder.iterdir())]
    monkeypatch.setattr("ganomaly.data.sources.remote.WAITING_BYTES", sum(sizes[:10]))
    images = open_images(put_folder(normal_folder, "images"), keep_content=True)

    def waiting() -> int:
        return len([path for path in tmp_path.glob("ganomaly-*/*") if path.is_file()])

    for index in range(11):  # for the last one there is no room
        images.read(index)
    assert waiting() == 10
    for _ in range(2):
        images.read(3)
    assert waiting() == 7
    assert store.read_bytes.total() == sum(sizes[:11])
    images.read(10)
    assert waiting() == 8
    del images
    gc.collect()
    assert not list(tmp_path.glob("ganomaly-*"))


def test_without_room_for_images_that_wait_they_are_read_again(
    normal_folder: Path, store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    monkeypatch.setattr("ganomaly.data.sources.remote.KEPT_BYTES", 1)
    upload(normal_folder / "001.png", BUCKET / "001.png")
    images = open_images(BUCKET / "001.png", keep_content=True)
    assert images.read(0).tobytes() == images.read(0).tobytes()
    assert store.read_bytes.total() == 2 * (normal_folder / "001.png").stat().st_size


def test_a_search_and_its_fit_read_each_image_once_and_write_to_the_bucket(
    labelled_folder: Path, store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the trials of a remote model are
    data = put_folder(labelled_folder, "data")
    needed = {f"/parts/{stored.name}": stored.size for stored in list_files(BUCKET)}
    store.reset()
    options = ["--preset", "paper", "--epochs", "1", "--budget", "0.5", "--false-alarm-rate", "0.2"]
    for name, value in SMALL.items():
        options += ["--option", f"{name}={value}"]
    model, report = BUCKET / "out" / "model.safetensors", BUCKET / "out" / "search.html"
    written = ("--model", model, "--report", report)
    done = ganomaly("tune", data, "--labelled", data, "--trials", "1", *written, *options)
    assert done.returncode == 0, done.stderr
    assert dict(store.read_bytes) == needed
    assert b"</html>" in read(report)
    assert [path.suffix for path in tmp_path.glob("*model*")] == [".db"]
    assert describe_model(model)["provenance"]["tuning"]["trials"] == 1


def test_a_catalogue_reads_each_image_once_whatever_is_there(
    normal_folder: Path, store: FaultyStore, tmp_path: Path
) -> None:
    data = put_folder(normal_folder, "data")
    small = FitOptions(preset="paper", epochs=1, precision="fp32", false_alarm_rate=0.2, method_options=SMALL)
    entry = CatalogEntry("part", None, data.url, small)

    def status() -> str:
        store.reset()
        (result,) = fit_catalog([entry], tmp_path / "models")
        assert dict(store.read_bytes) == {f"/parts/{s.name}": s.size for s in list_files(BUCKET)}
        return result.status

    assert [status(), status()] == ["fitted", "unchanged"]
    # other images, and a checkpoint that is of still others
    upload(normal_folder / "001.png", data / "000.png")
    method_type, preset = find_preset("paper")
    method = method_type(preset.options, Preprocessing(image_size=32, channels=1), Generator())
    checkpoint = Checkpoint(tmp_path / "models" / "part.safetensors.checkpoint", {"data": "content:other"})
    checkpoint.save(method, method.optimizers(), RunState())
    assert status() == "fitted"
    assert not checkpoint.path.exists()


def test_parquet_in_a_bucket_is_read_by_parts(
    model_path: Path, normal_folder: Path, store: FaultyStore, tmp_path: Path
) -> None:
    contents = [path.read_bytes() for path in sorted(normal_folder.iterdir())]
    table = pa.table({"image": [{"bytes": content, "path": None} for content in contents]})
    unneeded = pa.array([random.Random(i).randbytes(50_000) for i in range(40)])
    local = tmp_path / "images.parquet"
    pq.write_table(table.append_column("other", unneeded), local, row_group_size=10)
    upload(local, BUCKET / "images.parquet")
    store.reset()
    for source, out in ((local, "local.csv"), (BUCKET / "images.parquet", "remote.csv")):
        assert ganomaly("score", model_path, source, "--out", tmp_path / out).returncode == 0
    assert rows(tmp_path / "local.csv") == rows(tmp_path / "remote.csv")
    assert store.read_bytes["/parts/images.parquet"] < local.stat().st_size / 2


def test_a_list_names_images_here_in_a_bucket_and_on_a_web_server(
    model_path: Path, normal_folder: Path, store: FaultyStore, tmp_path: Path
) -> None:
    upload(normal_folder / "001.png", BUCKET / "one.png")
    make_public(BUCKET / "one.png")
    web = f"{store.url}/parts/one.png?signature=secret"  # the server asks for no signature
    (tmp_path / "list.txt").write_text(f"normal/001.png\ns3://parts/one.png\n{web}\n\ns3://parts/none.png\n")
    done = ganomaly("score", model_path, tmp_path / "list.txt", "--out", tmp_path / "out.csv")
    assert done.returncode == 3, done.stderr
    assert "none.png does not exist" in done.stderr
    scores = [row["score"] for row in rows(tmp_path / "out.csv")]
    assert scores[0] == scores[1] == scores[2] != "", (tmp_path / "out.csv").read_text()
    assert scores[3] == ""
    assert "secret" not in (tmp_path / "out.csv").read_text() + done.stderr


def test_what_ganomaly_did_not_write_is_not_replaced(
    model_path: Path, normal_folder: Path, store: FaultyStore, tmp_path: Path
) -> None:
    (tmp_path / "notes.csv").write_text("my own notes\n")
    upload(tmp_path / "notes.csv", BUCKET / "notes.csv")
    done = ganomaly("score", model_path, normal_folder, "--out", BUCKET / "notes.csv")
    assert done.returncode == 2
    assert "s3://parts/notes.csv exists and is not a table" in done.stderr
    assert read(BUCKET / "notes.csv") == b"my own notes\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("s3://parts/nothing", "--out", "x.csv"), "s3://parts/nothing does not exist"),
        (("https://127.0.0.1/folder", "--out", "x.csv"), "a web server lists no folders"),
        (("s3://", "--out", "x.csv"), "names no bucket or host"),
    ],
)
def test_wrong_addresses_are_one_sentence(
    arguments: tuple[str, ...], sentence: str, model_path: Path, store: FaultyStore
) -> None:
    done = ganomaly("score", model_path, *arguments)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_parts_of_scores_in_a_bucket_are_gone_on_with(
    model_path: Path, normal_folder: Path, store: FaultyStore
) -> None:
    images = open_images(put_folder(normal_folder, "images"))
    plan = Plan(len(images), 16, "images", "model")
    assert begin(BUCKET / "out", plan) == (plan, {})
    worker = PartScorer.__new__(PartScorer)  # in this process; Ray makes it in another one
    worker._predictor, worker._out, worker._columns = load_predictor(model_path), BUCKET / "out", COLUMNS
    worker._batch_size, worker._device = 8, "cpu"
    store.reset(cut=0.1)
    counts = {part: worker._score(part, 16 * part, images.part(*plan.bounds(part))) for part in (0, 2)}
    assert begin(BUCKET / "out", plan) == (plan, counts)
    with pytest.raises(DataError, match=r"part-000001\.parquet is not complete"):
        finish(BUCKET / "out", plan, counts)
    counts[1] = worker._score(1, 16, images.part(16, 32))
    assert finish(BUCKET / "out", plan, counts).rows == 40
    names = [stored.name for stored in list_files(BUCKET / "out")]
    assert names == ["manifest.json", *(f"part-00000{part}.parquet" for part in range(3))]
