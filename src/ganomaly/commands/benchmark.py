"""`ganomaly benchmark`."""

import json
from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from ganomaly.benchmark import (
    BAGGAGE,
    ERROR,
    Budget,
    Cell,
    Protocol,
    ResultTable,
    RowFile,
    check_dataset_name,
    check_figure_files,
    check_table_files,
    grid,
    local_dataset,
    parse_methods,
    result_table,
    run_grid,
    write_figures,
    write_tables,
)
from ganomaly.commands.console import Console
from ganomaly.config import Precision
from ganomaly.errors import TrainingError, UsageError
from ganomaly.files import written_whole
from ganomaly.locks import locked_folder
from ganomaly.output_checks import FIGURES_JSON, check_outputs
from ganomaly.remote import Location, RemoteFile
from ganomaly.remote.transfer import check_folder
from ganomaly.workers import TaskRunner


def benchmark(
    console: Console,
    name: str,
    data: Location | None,
    out: Location,
    *,
    methods: str,
    classes: str | None,
    seeds: str,
    protocol: Protocol,
    epochs: int | None,
    train_images: int | None,
    test_images: int | None,
    image_size: int | None,
    precision: Precision,
    run: TaskRunner,
    json_path: Location | None,
) -> None:
    """Compare methods; a second call with the same options resumes after the rows that are done."""
    check_dataset_name(name, data)
    if isinstance(out, RemoteFile):
        if name == BAGGAGE and data is None:
            raise UsageError(
                f"{name} simulates its images into --out, and {out} is in a store; name a folder on this machine for "
                "them by --data FOLDER"
            )
        check_folder(out)
    check_outputs({"--json": (json_path, FIGURES_JSON)})
    specs = parse_methods(methods)
    class_names = None if classes is None else [part.strip() for part in classes.split(",")]
    seed_numbers = _numbers(seeds)
    check_table_files(out)
    check_figure_files(out)
    with local_dataset(name, out if data is None else data) as dataset:
        cells = grid(
            dataset,
            specs,
            class_names,
            seed_numbers,
            protocol=protocol,
            budget=Budget(epochs, train_images, test_images),
            image_size=image_size,
            precision=precision,
        )
        rows = _run(console, cells, out, run=run, json_path=json_path)
    failed = [row for row in rows if ERROR in row]
    if failed:
        first = failed[0]
        raise TrainingError(
            f"{len(failed)} of {len(rows)} rows failed, the first {first['method']} on {first['anomaly_class']}, "
            f"seed {first['seed']}: {first[ERROR]}; the same command tries them again"
        )


def _run(
    console: Console, cells: Sequence[Cell], out: Location, *, run: TaskRunner, json_path: Location | None
) -> list[dict[str, Any]]:
    """Run the cells, write tables and figures, and return the rows."""
    with locked_folder(out, "ganomaly benchmark"):
        row_file = RowFile(out)
        done = sum(row_file.has(cell) for cell in cells)
        if done:
            console.say(f"going on: {done} of {len(cells)} cells are there already")
        with console.counting(len(cells), "cells") as count:
            rows = run_grid(cells, row_file, run=run, on_done=count)
        table = result_table(rows)
        console.print_table(_benchmark_table(table))
        written = write_tables(table, rows, out)
        if json_path is not None:
            with written_whole(json_path) as part:
                complete = [row for row in rows if ERROR not in row]
                part.write_text(json.dumps({"rows": complete}, indent=2) + "\n")
            written.append(json_path)
        written += write_figures(table, rows, out)
    console.say(f"wrote {row_file.path}, and {len(written)} tables and figures beside it")
    return rows


def _benchmark_table(table: ResultTable) -> Table:
    """A row per class, or per method where there are more methods: a terminal has more lines than columns."""
    # as `Text`: Rich would take options in brackets for its own markup
    methods = {method: Text(method) for method in table.methods}
    rendered = Table(title=Text(table.title), title_justify="left")
    if len(table.methods) > len(table.classes):
        rendered.add_column("method", overflow="fold")
        for name in table.classes:
            rendered.add_column(Text(name), justify="right")
        for method, label in methods.items():
            rendered.add_row(label, *(table.text(method, name) for name in table.classes))
        return rendered
    rendered.add_column("anomalous", no_wrap=True)
    for label in methods.values():
        rendered.add_column(label, justify="right", overflow="fold")
    for name in table.classes:
        rendered.add_row(Text(name), *(table.text(method, name) for method in table.methods))
    return rendered


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--seeds takes whole numbers separated by commas, got {text!r}") from None
