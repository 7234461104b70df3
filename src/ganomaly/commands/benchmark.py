"""`ganomaly benchmark`."""

import json
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ganomaly.benchmark import (
    BAGGAGE,
    ERROR,
    BenchmarkDataset,
    Budget,
    Protocol,
    ResultTable,
    RowFile,
    grid,
    parse_methods,
    result_table,
    run_grid,
    write_figures,
    write_tables,
)
from ganomaly.commands.console import Console
from ganomaly.config import Precision
from ganomaly.errors import TrainingError, UsageError
from ganomaly.files import check_writable, written_whole


def benchmark(
    console: Console,
    name: str,
    data: Path | None,
    out: Path,
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
    jobs: int,
    json_path: Path | None,
) -> None:
    """Compare methods; a second call with the same options goes on where the first stopped."""
    if data is None and name != BAGGAGE:
        raise UsageError(f"say where the images of {name} are, with --data FOLDER")
    if json_path is not None:
        check_writable(json_path)
    specs = parse_methods(methods)
    chosen = None if classes is None else [part.strip() for part in classes.split(",")]
    cells = grid(
        BenchmarkDataset(name, data if data is not None else out),
        specs,
        chosen,
        _numbers(seeds),
        protocol=protocol,
        budget=Budget(epochs, train_images, test_images),
        image_size=image_size,
        precision=precision,
    )
    kept = RowFile(out)
    with console.counting(len(cells), "cells") as count:
        rows = run_grid(cells, kept, jobs=jobs, on_done=count)
    table = result_table(rows)
    console.print_table(_benchmark_table(table))
    written = write_tables(table, rows, out)
    if json_path is not None:
        with written_whole(json_path) as part:
            part.write_text(json.dumps({"rows": [row for row in rows if ERROR not in row]}, indent=2) + "\n")
        written.append(json_path)
    written += write_figures(table, rows, out)
    console.say(f"wrote {kept.path}, and {len(written)} tables and figures beside it")
    failed = [row for row in rows if ERROR in row]
    if failed:
        first = failed[0]
        raise TrainingError(
            f"{len(failed)} of {len(rows)} rows failed, the first {first['method']} on {first['anomaly_class']}, "
            f"seed {first['seed']}: {first[ERROR]}; the same command tries them again"
        )


def _benchmark_table(table: ResultTable) -> Table:
    """A row for each class, or, of more methods than classes, for each method: a terminal is higher than wide."""
    # as they are: Rich would take options in brackets for its own markup
    methods = {method: Text(method) for method in table.methods}
    shown = Table(title=Text(table.title), title_justify="left")
    if len(table.methods) > len(table.classes):
        shown.add_column("method", overflow="fold")
        for name in table.classes:
            shown.add_column(Text(name), justify="right")
        for method, written in methods.items():
            shown.add_row(written, *(table.text(method, name) for name in table.classes))
        return shown
    shown.add_column("anomalous", no_wrap=True)
    for written in methods.values():
        shown.add_column(written, justify="right", overflow="fold")
    for name in table.classes:
        shown.add_row(Text(name), *(table.text(method, name) for method in table.methods))
    return shown


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--seeds takes whole numbers separated by commas, got {text!r}") from None
