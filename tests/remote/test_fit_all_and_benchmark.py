"""`fit-all` and `benchmark` from and to a bucket: what they write to a folder, resumed, nothing read twice."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from numpy.testing import assert_array_equal

from faulty_store import BUCKET, FaultyStore
from ganomaly.benchmark import BenchmarkDataset, Cell, MethodSpec, RowFile
from ganomaly.benchmark.grid import _attempt, run_grid
from ganomaly.benchmark.stored_data import local_dataset
from ganomaly.catalog import entry as catalog_entry
from ganomaly.catalog import fit_catalog, read_catalog
from ganomaly.data import open_images
from ganomaly.errors import UsageError
from ganomaly.locks import locked_file
from ganomaly.prediction import load_predictor
from ganomaly.remote import Location, RemoteFile, list_files, local_copy, read, transfer, upload
from images import textures, write_images
from shell import ganomaly

STORE = RemoteFile(f"s3://{BUCKET}")
MODELS, BENCH = STORE / "models", STORE / "bench"
CATALOG = (
    "options: {preset: paper, epochs: 1, precision: fp32, false_alarm_rate: 0.1, method_options: {ngf: 4, ndf: 4, "
    "nz: 4}}\nproducts: {nut: {data: nuts}, gone: {data: nowhere}, bolt: {data: nuts, options: {seed: 1}}}\n"
)
METHOD = "ganomaly[nz=4;ngf=4;ndf=4]"
TIMES = ("train_seconds", "score_ms_per_batch", "seconds", "threads")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    write_images(tmp_path / "nuts", textures(12))
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    return tmp_path / "catalog.yaml"


def put_text(file: RemoteFile, text: str) -> None:
    source = Path("text")
    source.write_text(text)
    upload(source, file)
    source.unlink()


def put_folder(folder: Path, target: RemoteFile) -> RemoteFile:
    for path in sorted(folder.rglob("*.*")):
        upload(path, target / path.relative_to(folder).as_posix())
    return target


def names(folder: Location) -> list[str]:
    if isinstance(folder, RemoteFile):
        return [stored.name for stored in list_files(folder)]
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def rows(path: Location, key: str) -> list[dict[str, Any]]:
    with local_copy(path) as copy:
        found: list[dict[str, Any]] = json.loads(copy.read_text())[key]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in found]


def scores(path: Location) -> list[float | None]:
    images = open_images(textures(5, seed=2, blob=True))
    return [prediction.score for prediction in load_predictor(path).predict(images)]


def bytes_of(store: FaultyStore, folder: str) -> dict[str, int]:
    """Bytes that were read of each file below a folder."""
    start = f"/{BUCKET}/{folder}/"
    return {name.removeprefix(start): n for name, n in store.read_bytes.items() if name.startswith(start)}


def sizes(folder: RemoteFile) -> dict[str, int]:
    return {stored.name: stored.size for stored in list_files(folder)}


def test_models_of_a_catalogue_in_a_bucket_are_those_of_a_folder_and_are_not_fitted_again(
    catalog: Path, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ganomaly("fit-all", catalog, "--out", "models").returncode == 1
    store.reset()
    done = ganomaly("fit-all", catalog, "--out", MODELS)
    assert done.returncode == 1
    assert "1 of 3 models failed, the first gone" in done.stderr
    assert f"wrote {MODELS}/models.csv" in done.stderr
    assert bytes_of(store, "models") == {}
    assert (
        names(MODELS)
        == names(Path("models"))
        == [*("bolt.safetensors", "models.csv", "models.json", "nut.safetensors")]
    )
    table = rows(Path("models/models.json"), "models")
    assert rows(MODELS / "models.json", "models") == table
    for name in ("nut.safetensors", "bolt.safetensors"):
        here, there = load_predictor(Path("models") / name), load_predictor(MODELS / name)
        assert_array_equal(there.calibration.scores, here.calibration.scores)
        assert scores(MODELS / name) == scores(Path("models") / name)

    store.reset()
    monkeypatch.setattr(catalog_entry, "fit_model", lambda *_, **__: pytest.fail("fitted again"))
    assert ganomaly("fit-all", catalog, "--out", MODELS).returncode == 1
    unchanged = [row | {"status": row["status"].replace("fitted", "unchanged")} for row in table]
    assert rows(MODELS / "models.json", "models") == unchanged
    models = {name: size for name, size in sizes(MODELS).items() if name.endswith(".safetensors")}
    assert {name: n for name, n in bytes_of(store, "models").items() if name in models} == models
    assert {path.name for path in Path.cwd().iterdir()} == {"catalog.yaml", "models", "nuts"}


def test_a_model_in_a_bucket_is_fitted_again_for_other_options_and_no_other_file_is_replaced(
    catalog: Path, store: FaultyStore
) -> None:
    put_text(MODELS / "bolt.safetensors", "notes of somebody")
    nut, _, bolt = fit_catalog(read_catalog(catalog), MODELS)
    assert (nut.status, bolt.status) == ("fitted", "failed")
    assert f"{MODELS}/bolt.safetensors exists and is not a model" in (bolt.error or "")
    assert read(MODELS / "bolt.safetensors") == b"notes of somebody"
    catalog.write_text(CATALOG.replace("data: nuts}", "data: nuts, options: {seed: 2}}", 1))
    assert fit_catalog(read_catalog(catalog), MODELS)[0].status == "fitted"


def test_a_model_for_a_bucket_is_fitted_without_checkpoint_where_the_current_folder_cannot_be_written(
    catalog: Path, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    checkpoints = []
    fit_model = catalog_entry.fit_model

    def fit(*arguments: Any, checkpoint: Path | None, **options: Any) -> Any:
        checkpoints.append(checkpoint)
        return fit_model(*arguments, checkpoint=checkpoint, **options)

    monkeypatch.setattr(catalog_entry, "fit_model", fit)
    [nut] = fit_catalog(read_catalog(catalog)[:1], MODELS)
    assert (nut.status, nut.error, checkpoints) == ("fitted", None, [None])


@pytest.fixture
def benchmark_command(labelled_folder: Path) -> tuple[object, ...]:
    options = ("--methods", METHOD, "--epochs", 1, "--precision", "fp32", "--data")
    return ("benchmark", "parts", *options)


def test_a_benchmark_from_and_to_a_bucket_is_that_of_folders_and_resumes(
    labelled_folder: Path,
    benchmark_command: Sequence[object],
    store: FaultyStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = ganomaly(*benchmark_command, labelled_folder, "--out", "bench", "--json", "rows.json")
    assert done.returncode == 0, done.stderr
    data = put_folder(labelled_folder, STORE / "data")
    here = {path.name for path in Path.cwd().iterdir()}
    store.reset()
    command = (*benchmark_command, data, "--out", BENCH, "--json", STORE / "rows.json")
    done = ganomaly(*command)
    assert done.returncode == 0, done.stderr
    assert bytes_of(store, "data") == sizes(data)
    assert rows(STORE / "rows.json", "rows") == rows(Path("rows.json"), "rows")
    assert names(BENCH) == names(Path("bench"))
    assert any(name.startswith("reconstructions_") for name in names(BENCH))

    written = read(BENCH / "rows.jsonl")
    monkeypatch.setattr(sys.modules[run_grid.__module__], "run_cell", lambda *_: pytest.fail("ran again"))
    done = ganomaly(*command)
    assert done.returncode == 0, done.stderr
    assert "going on: 1 of 1 cells are there already" in done.stderr
    assert read(BENCH / "rows.jsonl") == written
    assert {path.name for path in Path.cwd().iterdir()} == here  # no checkpoint, lock or copy


def test_errors_of_a_benchmark_name_the_folder_in_the_bucket(
    labelled_folder: Path, benchmark_command: Sequence[object], store: FaultyStore
) -> None:
    for path in (labelled_folder / "train" / "good").iterdir():
        path.write_text("text")
    data = put_folder(labelled_folder, STORE / "data")
    done = ganomaly(*benchmark_command, data, "--out", BENCH)
    assert done.returncode == 1
    assert f"in {data}" in done.stderr
    assert "ganomaly-data-" not in done.stderr
    assert [f"in {data}" in row["error"] for row in RowFile(BENCH).rows] == [True, True]


def test_files_of_others_in_the_folder_of_a_benchmark_are_not_replaced(
    labelled_folder: Path, benchmark_command: Sequence[object], store: FaultyStore
) -> None:
    put_text(BENCH / "earlier" / "auroc.png", "of no concern")
    put_text(BENCH / "auroc_of_others.png", "notes of somebody")
    done = ganomaly(*benchmark_command, labelled_folder, "--out", BENCH)
    assert done.returncode == 2
    assert f"{BENCH}/auroc_of_others.png exists and is not a figure that ganomaly wrote" in done.stderr


def test_of_two_benchmarks_of_one_folder_in_a_bucket_the_second_is_refused_here(
    labelled_folder: Path, benchmark_command: Sequence[object], store: FaultyStore
) -> None:
    with locked_file(BENCH, "ganomaly benchmark"):
        done = ganomaly(*benchmark_command, labelled_folder, "--out", BENCH)
    assert done.returncode == 2
    assert f"is writing {BENCH}" in done.stderr


def test_rows_in_a_bucket_are_there_as_soon_as_they_are_added(store: FaultyStore) -> None:
    put_text(BENCH / "rows.jsonl", '{"anomaly_class": "a"}\nof another version\n{"torn": ')
    row_file = RowFile(BENCH)
    store.reset()
    for name in ("b", "c"):
        row_file.add([{"anomaly_class": name}])
        assert read(BENCH / "rows.jsonl").decode().splitlines()[-1] == f'{{"anomaly_class": "{name}"}}'
    assert [row["anomaly_class"] for row in RowFile(BENCH).rows] == ["a", "b", "c"]
    assert b"of another version\n" in read(BENCH / "rows.jsonl")
    assert b"torn" not in read(BENCH / "rows.jsonl")
    assert store.requests["PUT"] == 2


def test_cells_of_a_bucket_have_checkpoints_where_their_hidden_folder_is(
    labelled_folder: Path, store: FaultyStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checkpoints: list[Path | None] = []

    def run_cell(cell: Cell, checkpoint: Path | None, out: Location) -> list[dict[str, Any]]:
        checkpoints.append(checkpoint)
        return [{"anomaly_class": name, **cell.identity()} for name in cell.classes]

    monkeypatch.setattr(sys.modules[run_grid.__module__], "run_cell", run_cell)
    cell = Cell(BenchmarkDataset("parts", labelled_folder), ("blob",), MethodSpec.parse(METHOD), 0)
    run_grid([cell], RowFile(BENCH))
    _attempt(cell, BENCH, tmp_path / "missing")  # as on another machine
    assert checkpoints[0] is not None
    assert checkpoints[0].parent.parent == tmp_path
    assert checkpoints[0].parent.name.startswith(".bench-")
    assert checkpoints[1] is None
    assert not list(tmp_path.glob(".*"))


def test_a_machine_without_the_copy_of_the_data_says_so(tmp_path: Path) -> None:
    dataset = BenchmarkDataset("parts", tmp_path / "copy", STORE / "data")
    cell = Cell(dataset, ("blob",), MethodSpec.parse(METHOD), 0)
    [row] = _attempt(cell, BENCH, tmp_path / "missing")
    assert row["error"].startswith(f"{STORE}/data was copied to the machine of the command")
    assert "let --data be a folder that all machines share" in row["error"]


def test_a_later_copy_of_the_same_data_is_the_same_by_which_a_checkpoint_is_resumed(
    normal_folder: Path, store: FaultyStore
) -> None:
    put_folder(normal_folder, STORE / "data" / "train" / "good")
    put_folder(normal_folder, STORE / "data" / "test" / "good")
    copies = []
    for _ in range(2):
        with local_dataset("parts", STORE / "data") as dataset:
            train = dataset.task(("overall",)).train
            copies.append([train.stored(index) for index in range(len(train))])
    assert copies[0] == copies[1]


def test_arrays_of_a_bucket_are_copied_while_the_command_runs(store: FaultyStore) -> None:
    files = [
        f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    ]
    for name in files:
        put_text(STORE / "mnist" / "raw" / name, name)
    with local_dataset("mnist", STORE / "mnist") as dataset:
        assert dataset.class_groups(["1"]) == [("1",)]
        assert {name: (dataset.folder / "raw" / name).read_text() for name in files} == dict(
            zip(files, files, strict=True)
        )
    assert not dataset.folder.exists()
    transfer.remove(STORE / "mnist" / "raw" / "t10k-images-idx3-ubyte")
    with (
        pytest.raises(UsageError, match=rf"of the test split in {STORE}/mnist; "),
        local_dataset("mnist", STORE / "mnist") as dataset,
    ):
        dataset.class_groups(["1"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("parts", "--data", STORE / "nowhere"), f"{STORE}/nowhere does not exist, or nothing is in it"),
        (("mnst", "--data", STORE / "data"), f"train/good and test/<kind>, which {STORE}/data is not"),
        (("baggage", "--data", STORE / "data"), f"{STORE}/data is in a store and has no folder train"),
    ],
)
def test_data_in_a_bucket_that_cannot_be_used_are_not_copied(
    arguments: Sequence[object], sentence: str, store: FaultyStore
) -> None:
    put_text(STORE / "data" / "one" / "text.txt", "text")
    done = ganomaly("benchmark", *arguments, "--out", "bench")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert bytes_of(store, "data") == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("baggage", "--out", BENCH),
            f"{BENCH} is in a store; name a folder on this machine for them by --data",
        ),
        (("elpv", "--out", "hf://datasets/org/name"), "hf:// is for reading"),
        (("parts", "--data", "https://host/parts", "--out", "bench"), "a web server lists no folders"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments: Sequence[object], sentence: str) -> None:
    done = ganomaly("benchmark", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(Path.cwd().iterdir())


def test_models_and_rows_come_to_a_bucket_from_processes_of_ray(
    catalog: Path, labelled_folder: Path, benchmark_command: Sequence[object], store: FaultyStore
) -> None:
    pytest.importorskip("ray")
    from ganomaly.cluster.session import ray_session

    data = put_folder(labelled_folder, STORE / "data")
    engine = ("--engine", "ray", "--workers", 2)
    with ray_session():
        done = ganomaly("fit-all", catalog, "--out", MODELS, *engine)
        assert done.returncode == 1
        found = [row["status"] for row in rows(MODELS / "models.json", "models")]
        assert found == ["fitted", "failed", "fitted"]
        done = ganomaly(*benchmark_command, data, "--out", BENCH, *engine)
        assert done.returncode == 0, done.stderr
    done = ganomaly(*benchmark_command, labelled_folder, "--out", "bench")
    assert done.returncode == 0, done.stderr
    assert names(BENCH) == names(Path("bench"))
    assert {path.name for path in Path.cwd().iterdir()} == {"bench", "catalog.yaml", "nuts", "parts"}


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        (
            "s3://nobucket/out",
            "cannot write to s3://nobucket/out: there is no bucket nobucket; make it first",
        ),
        (STORE / "file.txt", f"cannot write to {STORE}/file.txt: it is a file; name a folder"),
    ],
)
def test_a_folder_that_cannot_be_written_is_noticed_before_anything_is_fitted(
    catalog: Path, labelled_folder: Path, store: FaultyStore, out: Any, sentence: str
) -> None:
    put_text(STORE / "file.txt", "text")
    for command in (("fit-all", catalog), ("benchmark", "parts", "--data", labelled_folder)):
        done = ganomaly(*command, "--out", out)
        assert (done.returncode, done.stderr) == (2, f"ganomaly: {sentence}\n")


def test_rows_that_two_commands_add_by_turns_are_all_in_the_bucket(store: FaultyStore) -> None:
    files = RowFile(BENCH), RowFile(BENCH)
    for seed in range(4):
        files[seed % 2].add([{"anomaly_class": "bent", "seed": seed}])
    assert [row["seed"] for row in RowFile(BENCH).rows] == [0, 1, 2, 3]
