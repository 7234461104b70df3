"""The grid of a benchmark: one cell for each method, group of classes and seed; those without rows are run."""

import hashlib
import itertools
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ganomaly.benchmark.cells import Budget, Cell, Protocol
from ganomaly.benchmark.method_spec import MethodSpec
from ganomaly.benchmark.rows import ERROR, RowFile
from ganomaly.benchmark.run import run_cell
from ganomaly.benchmark.tasks import BenchmarkDataset
from ganomaly.config import PRECISION, Precision
from ganomaly.devices import choose_device, choose_precision
from ganomaly.errors import GANomalyError, UsageError
from ganomaly.files import make_folder
from ganomaly.locks import local_name
from ganomaly.remote import Location, RemoteFile
from ganomaly.workers import DIED, TaskRunner, run_tasks

CHECKPOINTS = "checkpoints"


def grid(
    dataset: BenchmarkDataset,
    methods: Sequence[MethodSpec],
    classes: Sequence[str] | None,
    seeds: Sequence[int],
    *,
    protocol: Protocol = "clean",
    budget: Budget | None = None,
    image_size: int | None = None,
    precision: Precision = PRECISION,
) -> list[Cell]:
    """All cells, seeds outermost, so that a grid that is stopped early is complete for its first seeds.

    Raises
    ------
    UsageError
        If the protocol would evaluate a method before its statistics are fitted.
    """
    if protocol == "published":
        for method in methods:
            if method.resolve().method_type.statistics_images:
                raise UsageError(
                    f"the protocol published scores after each epoch, but {method.label} fits its statistics after "
                    "the last one; evaluate it with --protocol clean"
                )
    return [
        Cell(dataset, group, method, seed, protocol, budget or Budget(), image_size, precision)
        for seed, method, group in itertools.product(seeds, methods, dataset.class_groups(classes))
    ]


def run_grid(
    cells: Sequence[Cell],
    rows: RowFile,
    *,
    run: TaskRunner = run_tasks,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """Run the cells that have no rows yet; rows and artifacts are written as soon as a cell is done.

    Parameters
    ----------
    cells : sequence of Cell
        The grid.
    rows : RowFile
        Rows of earlier runs; new ones are added.
    run : callable
        Where the cells run: here, unless it is another one. Rows are written by this process alone.
    on_done : callable
        Called with the number of cells that are done.

    Returns
    -------
    list of dict
        The rows of all cells of the grid, those of earlier runs included.
    """
    missing = [cell for cell in cells if not rows.has(cell)]
    done = len(cells) - len(missing)
    on_done(done)
    out = rows.folder if isinstance(rows.folder, RemoteFile) else rows.folder.absolute()
    checkpoints = _checkpoint_folder(out)
    try:
        for cell_rows in _results(missing, out, checkpoints, run):
            rows.add(cell_rows)
            done += 1
            on_done(done)
    finally:
        with suppress(OSError):  # it is not empty, or nothing can be removed there
            checkpoints.rmdir()
    return [row for cell in cells for row in rows.select(cell)]


def _checkpoint_folder(out: Location) -> Path:
    """Folder of the checkpoints, which is made: a hidden one in the current folder if the rows are in a store.

    There is none where the current folder cannot be written.
    """
    if not isinstance(out, RemoteFile):
        folder = out / CHECKPOINTS
        make_folder(folder)
        return folder
    folder = Path.cwd() / f".{local_name(out)}.{CHECKPOINTS}"
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
    return folder


def _results(
    cells: Sequence[Cell], out: Location, checkpoints: Path, run: TaskRunner
) -> Iterator[list[dict[str, Any]]]:
    for cell in cells:  # here, since workers would write the same folder; cells report errors themselves
        with suppress(GANomalyError):
            cell.dataset.simulate_if_missing(cell.classes)
    for position, rows in run(partial(_attempt, out=out, checkpoints=checkpoints), cells):
        yield _failed(cells[position], DIED) if rows is None else rows


def _attempt(cell: Cell, out: Location, checkpoints: Path) -> list[dict[str, Any]]:
    """Run a cell; an error becomes a row for each of its classes, and the other cells go on.

    Where the folder of checkpoints is missing, as on another machine if the rows are in a store, there is none.
    """
    try:
        has_folder = checkpoints.is_dir() and os.access(checkpoints, os.W_OK)
        checkpoint = checkpoints / _checkpoint_name(cell) if has_folder else None
        with cell.dataset.named_as_given():
            return run_cell(cell, checkpoint, out)
    except GANomalyError as error:
        message = str(error)
    except Exception:
        message = f"unexpected {traceback.format_exc(limit=3)}"
    return _failed(cell, message)


def _failed(cell: Cell, message: str) -> list[dict[str, Any]]:
    return [{"anomaly_class": name, **cell.identity(), ERROR: message} for name in cell.classes]


def _checkpoint_name(cell: Cell) -> str:
    precision = choose_precision(cell.precision, choose_device("auto"))
    identity = repr((sorted(cell.identity().items()), cell.classes, precision))
    return f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.checkpoint"
