"""The grid writes each row at once, resumes after a kill, mixes no budgets, and evaluates as its protocol says."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from ganomaly.benchmark import (
    BenchmarkDataset,
    Budget,
    Cell,
    MethodSpec,
    RowFile,
    clean,
    grid,
    parse_methods,
    result_table,
    run,
    run_cell,
    run_grid,
    tasks,
    write_figures,
)
from ganomaly.benchmark.artifacts import ARTIFACTS
from ganomaly.benchmark.figures import over_option, per_class, run_times
from ganomaly.benchmark.published import PublishedProtocol
from ganomaly.benchmark.tables import as_latex, as_markdown
from ganomaly.commands.benchmark import _benchmark_table
from ganomaly.config import Preprocessing
from ganomaly.data import open_images
from ganomaly.errors import UsageError
from ganomaly.methods import METHODS
from ganomaly.workers import run_tasks
from images import textures
from shell import ganomaly

SMALL = "ganomaly[nz=4;ngf=4;ndf=4]"
CONTRACT = {
    *("method", "dataset", "anomaly_class", "seed", "epochs", "protocol", "auroc", "average_precision"),
    *("train_seconds", "score_ms_per_batch"),
}


def cell(folder: Path, anomaly_class: str = "1", **more: Any) -> Cell:
    values: dict[str, Any] = {"budget": Budget(epochs=1), "precision": "fp32", **more}
    return Cell(BenchmarkDataset("mnist", folder), (anomaly_class,), MethodSpec.parse(SMALL), 0, **values)


def test_a_cell_tests_on_every_image_of_the_class_and_trains_on_none(digits: Path) -> None:
    task = BenchmarkDataset("mnist", digits).task(("1",))
    assert len(task.train) == 54
    assert len(task.test) == 30 + 6
    assert task.labels["1"].sum() == 3 + 6
    row = run_cell(cell(digits))[0]
    assert row.keys() >= CONTRACT
    assert (row["method"], row["anomaly_class"], row["n_normal"], row["n_anomalous"]) == (SMALL, "1", 27, 9)
    assert 0 <= row["auroc"] <= 1


def test_a_slow_method_is_timed_while_it_scores_the_test_images(
    digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SLOW_MS", 0.0)
    monkeypatch.setattr(clean, "BATCH_SIZE", 32)
    monkeypatch.setattr(run, "milliseconds_per_batch", lambda *_: pytest.fail("scored once more"))
    assert run_cell(cell(digits))[0]["score_ms_per_batch"] > 0


def test_simulated_baggage_is_both_of_the_publications_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, count in (("_BAGGAGE_TRAIN", 3), ("_BAGGAGE_TEST_NORMAL", 2), ("_BAGGAGE_TEST_PER_THREAT", 1)):
        monkeypatch.setattr(tasks, name, count)
    dataset = BenchmarkDataset("baggage", tmp_path / "new")
    kinds, whole = dataset.class_groups(None)
    assert (set(kinds), whole) == ({"gun", "gun_parts", "knife", "overall"}, ("whole weapon",))
    assert dataset.class_groups(["overall"]) == [("overall",)]
    task = dataset.task(kinds)
    assert (len(task.train), len(task.test)) == (3, 5)
    assert {name: np.nansum(labels) for name, labels in task.labels.items()} == {
        **dict.fromkeys(("gun", "gun_parts", "knife"), 1),
        "overall": 3,
    }
    left_behind = (
        tmp_path / "new" / ".simulated_whole_weapons.unfinished" / "train" / "good"
    )  # as after a kill
    left_behind.mkdir(parents=True)
    (left_behind / "00000.png").write_bytes(b"half of an ima")
    dataset.simulate_if_missing(whole)
    assert {path.name for path in dataset.folder.iterdir()} == {
        "simulated_baggage",
        "simulated_whole_weapons",
    }
    weapons = dataset.task(whole)
    assert (len(weapons.train), len(weapons.test), weapons.labels["whole weapon"].sum()) == (3, 3, 1)


def test_the_same_cell_gives_the_same_auroc(digits: Path) -> None:
    assert run_cell(cell(digits))[0]["auroc"] == run_cell(cell(digits))[0]["auroc"]


def test_a_smaller_test_set_has_the_same_shares_of_the_classes(digits: Path) -> None:
    row = run_cell(cell(digits, budget=Budget(1, train_images=20, test_images=12)))[0]
    assert (row["n_train"], row["n_normal"], row["n_anomalous"]) == (20, 9, 3)


def test_a_second_run_computes_only_what_is_missing(digits: Path, tmp_path: Path) -> None:
    def cells(classes: list[str]) -> list[Cell]:
        methods = [MethodSpec.parse(SMALL)]
        dataset = BenchmarkDataset("mnist", digits)
        return grid(dataset, methods, classes, [0], budget=Budget(1), precision="fp32")

    first = run_grid(cells(["0", "1"]), RowFile(tmp_path / "out"))
    path = tmp_path / "out" / "rows.jsonl"
    written = path.read_text()
    with path.open("a") as file:
        file.write('{"torn": ')
    done: list[int] = []
    both = run_grid(cells(["0", "1", "2"]), RowFile(tmp_path / "out"), on_done=done.append)
    assert done == [2, 3]
    assert both[:2] == first
    assert path.read_text().startswith(written)
    assert "torn" not in path.read_text()
    assert len(RowFile(tmp_path / "out").rows) == 3


def test_rows_of_another_budget_are_not_mixed_in(digits: Path, tmp_path: Path) -> None:
    rows = RowFile(tmp_path / "out")
    run_grid([cell(digits)], rows)
    assert rows.has(cell(digits))
    assert not rows.has(cell(digits, budget=Budget(epochs=2)))
    assert not rows.has(cell(digits, budget=Budget(1, test_images=12)))
    assert not rows.has(cell(digits, protocol="published"))


def test_each_precision_has_its_own_rows_and_artifacts(digits: Path, tmp_path: Path) -> None:
    rows = RowFile(tmp_path / "out")
    (fp32,) = run_grid([cell(digits)], rows)
    assert rows.has(cell(digits, precision="auto"))
    assert not rows.has(cell(digits, precision="bf16"))
    assert rows.select(cell(digits, precision="bf16")) == []
    (bf16,) = run_grid([cell(digits, precision="bf16")], rows)
    assert (fp32["precision"], bf16["precision"]) == ("fp32", "bf16")
    assert rows.select(cell(digits)) == [fp32]
    assert len({fp32[ARTIFACTS], bf16[ARTIFACTS]}) == 2


def test_a_failed_cell_is_a_row_with_an_error_and_the_others_go_on(digits: Path, tmp_path: Path) -> None:
    rows = RowFile(tmp_path / "out")
    failed, complete = run_grid([cell(digits, image_size=33), cell(digits)], rows)
    assert "33 does not fit" in failed["error"]
    assert "error" not in complete
    assert not rows.has(cell(digits, image_size=33))


def died(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, None]]:
    """As where the system ends the process of each task."""
    for position in range(len(items)):
        yield position, None


def test_a_cell_whose_process_dies_is_a_row_with_an_error(digits: Path, tmp_path: Path) -> None:
    rows = RowFile(tmp_path / "out")
    (row,) = run_grid([cell(digits)], rows, run=died)
    assert "was ended by the system" in row["error"]
    assert row in RowFile(tmp_path / "out").rows


def test_a_later_error_does_not_hide_a_row(digits: Path, tmp_path: Path) -> None:
    rows = RowFile(tmp_path / "out")
    (complete,) = run_grid([cell(digits)], rows)
    rows.add([{"anomaly_class": "1", **cell(digits).identity(), "error": "no memory"}])
    assert rows.select(cell(digits)) == [complete]
    assert run_grid([cell(digits)], RowFile(tmp_path / "out")) == [complete]


def test_parallel_jobs_give_the_same_aurocs(digits: Path, tmp_path: Path) -> None:
    cells = [cell(digits, name) for name in ("0", "1")]
    serial = run_grid(cells, RowFile(tmp_path / "serial"))
    parallel = run_grid(cells, RowFile(tmp_path / "parallel"), run=partial(run_tasks, jobs=2))
    assert [row["auroc"] for row in serial] == pytest.approx([row["auroc"] for row in parallel], abs=0.05)


def test_a_killed_run_loses_at_most_its_cell(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        *(sys.executable, "-m", "ganomaly", "benchmark", "mnist", "--data", str(digits), "--out", str(out)),
        *("--methods", SMALL, "--classes", "0,1,2,3,4", "--epochs", "3", "--precision", "fp32"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    rows = out / "rows.jsonl"
    while process.poll() is None and not (rows.exists() and rows.read_bytes().endswith(b"\n")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = RowFile(out).rows
    assert 1 <= len(before) < 5
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert RowFile(out).rows[: len(before)] == before
    assert len(RowFile(out).rows) == 5


def test_the_published_protocol_gives_other_metrics_and_is_labelled(digits: Path) -> None:
    clean = run_cell(cell(digits))[0]
    published = run_cell(cell(digits, protocol="published"))[0]
    assert published["protocol"] == "published"
    assert published["best_epoch"] == 1
    assert 0 <= published["f1_at_0.2"] <= 1
    assert published["auroc"] != clean["auroc"]


def test_evaluating_an_epoch_changes_no_weights_or_statistics() -> None:
    preprocessing = Preprocessing(image_size=32, channels=1)
    options = MethodSpec.parse(SMALL).resolve().options
    method = METHODS["ganomaly"](options, preprocessing, torch.Generator().manual_seed(0))
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    test = open_images(textures(20, size=32))
    labels = {"x": np.array([0.0, 1.0] * 10)}
    PublishedProtocol(test, preprocessing, labels, seed=0).evaluate_epoch(method)
    for name, tensor in method.state_dict().items():
        if "num_batches_tracked" not in name:
            assert torch.equal(tensor, before[name]), f"{name} was changed by an evaluation on the test set"


def test_the_published_protocol_is_used_in_benchmark_alone() -> None:
    import ganomaly

    for path in Path(ganomaly.__file__).parent.rglob("*.py"):
        if path.parent.name != "benchmark":
            assert "PublishedProtocol" not in path.read_text(), path


def test_a_folder_is_trained_on_once_for_all_its_kinds(labelled_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = ganomaly(
        *("benchmark", "parts", "--data", labelled_folder, "--out", out, "--methods", SMALL, "--epochs", 1),
        *("--json", tmp_path / "rows.json"),
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["anomaly_class"] for row in rows] == ["blob", "overall"]
    assert rows[0]["train_seconds"] == rows[1]["train_seconds"]
    assert len(list(csv.DictReader((out / "rows.csv").open()))) == 2
    assert "toprule" in (out / "table.tex").read_text()
    assert SMALL in (out / "table.md").read_text()
    assert SMALL in done.stdout


def row(method: str, anomaly_class: str, seed: int, auroc: float) -> dict[str, object]:
    shared = {"dataset": "mnist", "protocol": "clean", "epochs": 1, "train_images": 100}
    return {"method": method, "anomaly_class": anomaly_class, "seed": seed, "auroc": auroc, **shared}


def test_tables_have_mean_standard_deviation_and_budget() -> None:
    classes = (("x", 0.5), ("y", 0.7))
    rows = [row("a", name, seed, value + seed / 10) for seed in (0, 1) for name, value in classes]
    table = result_table([*rows, row("b_c", "x", 0, 0.25)])
    assert table.text("a", "x") == ".550 ± .071"
    assert table.text("a", "mean") == ".650 ± .071"
    assert table.text("b_c", "x") == ".250"
    assert table.text("b_c", "mean") == "–"
    assert "train images 100; seeds 0, 1, mean ± standard deviation\n" in as_markdown(table)
    assert "train images 100; seed 0\n" in as_markdown(result_table([row("a", "x", 0, 0.5)]))
    assert r"b\_c & .250 & -- & --" in as_latex(table)


def test_a_table_with_the_class_overall_has_no_mean() -> None:
    rows = [row("a", name, 0, 0.5) for name in ("gun", "knife", "overall")]
    assert result_table(rows).classes == ("gun", "knife", "overall")


def test_the_preset_is_a_point_in_the_figure_of_each_option(tmp_path: Path) -> None:
    rows = [
        row(method, "x", 0, 0.5) | {"score_ms_per_batch": 1.0}
        for method in ("ganomaly", "ganomaly[nz=50]", "ganomaly[encoder_weight=0]", "vae")
    ]
    paths = write_figures(result_table(rows), rows, tmp_path)
    assert {path.stem for path in paths} == {"auroc", "run_time", "auroc_nz", "auroc_encoder_weight"}


def test_a_terminal_table_has_a_row_for_each_of_many_methods() -> None:
    methods = [f"ganomaly[nz={nz}]" for nz in (10, 20, 30)]
    table = _benchmark_table(result_table([row(method, "x", 0, 0.5) for method in methods]))
    assert table.row_count == 3
    with (console := Console(width=60)).capture() as capture:
        console.print(table)
    assert all(method in capture.get() for method in methods)


def test_figures_state_the_budget_and_do_not_magnify_noise() -> None:
    methods = {"ganomaly[nz=20]": 0.93, "ganomaly": 0.931, "ganomaly[nz=400]": 0.934}
    table = result_table([row(method, "x", 0, auroc) for method, auroc in methods.items()])
    for figure in (per_class(table), over_option(table, "nz")):
        [axes] = figure.axes
        assert axes.get_title(loc="left").replace("\n", " ") == table.title
        low, high = axes.get_ylim()
        assert low < min(methods.values())
        assert max(methods.values()) < high <= 1.02
        assert high - low == pytest.approx(0.2)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["20", "100", "400"]


def test_the_auroc_axis_ends_at_1() -> None:
    rows = [row("a", name, seed, 0.9 + seed / 10) for name in ("gun", "knife") for seed in (0, 1)]
    [axes] = per_class(result_table(rows)).axes
    low, high = axes.get_ylim()
    assert low < 0.95 - 0.0708
    assert high == pytest.approx(1.02)


def test_run_times_have_few_ticks_with_plain_labels() -> None:
    for longest in (500.0, 50_000.0):
        rows = [row(method, "x", 0, 0.5) for method in ("a", "b")]
        times = [rows[0] | {"score_ms_per_batch": 400.0}, rows[1] | {"score_ms_per_batch": longest}]
        [axes] = run_times(times).axes
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert 2 <= len(ticks) <= 5
        assert len(axes.get_xticks(minor=True)) == 0
        assert axes.xaxis.get_major_formatter()(1000.0, 0) == "1,000"


def test_only_figures_with_enough_rows_are_drawn(tmp_path: Path) -> None:
    rows = [
        row(f"ganomaly[nz={nz}]", name, seed, 0.5 + nz / 1000 + seed / 50) | {"score_ms_per_batch": 2.0 * nz}
        for nz in (50, 100)
        for name in ("x", "y")
        for seed in (0, 1)
    ]
    paths = write_figures(result_table(rows), rows, tmp_path)
    assert {path.name for path in paths} == {"auroc.png", "run_time.png", "auroc_nz.png"}
    few = [row("vae", "x", 0, 0.5) | {"score_ms_per_batch": 1.0}]
    assert {path.name for path in write_figures(result_table(few), few, tmp_path)} == {
        "auroc.png",
        "run_time.png",
    }
    assert write_figures(result_table([]), [], tmp_path) == []


@pytest.mark.parametrize(
    "text",
    ["nonsense", "ganomaly[nz=0]", "ganomaly[what=3]", "ganomaly[nz", "ganomaly[nz]", "ganomaly[nz=4;nz=8]"],
)
def test_an_invalid_method_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError):
        MethodSpec.parse(text)


def test_methods_are_split_at_commas_outside_brackets() -> None:
    specs = parse_methods(" vae, ganomaly[nz = 4; score=l1],egbad[] ")
    assert [spec.label for spec in specs] == ["vae", "ganomaly[nz=4;score=l1]", "egbad"]
    assert specs[1].resolve().options.model_dump()["nz"] == 4


@pytest.mark.parametrize(
    "more",
    [
        ["--classes", "11"],
        ["--methods", "nonsense"],
        ["--seeds", "x"],
        ["--protocol", "published", "--methods", "contrastive-ganomaly"],
    ],
)
def test_wrong_usage_is_reported_before_any_work(digits: Path, tmp_path: Path, more: list[str]) -> None:
    done = ganomaly("benchmark", "mnist", "--data", digits, "--out", tmp_path / "out", *more)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_wrong_name_of_a_dataset_is_refused(digits: Path, tmp_path: Path) -> None:
    for more in (["--data", digits], []):
        done = ganomaly("benchmark", "mnst", *more, "--out", tmp_path / "out")
        assert done.returncode == 2
        assert "mnst" in done.stderr
        assert "mnist, cifar10, baggage, elpv" in done.stderr
    assert not (tmp_path / "out").exists()


def test_missing_data_is_wrong_usage(tmp_path: Path) -> None:
    done = ganomaly("benchmark", "mnist", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "--data" in done.stderr
