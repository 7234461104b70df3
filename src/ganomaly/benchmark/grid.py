"""The grid of a benchmark: every method, group of classes and seed that has no row yet."""

import hashlib
import itertools
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from ganomaly.benchmark.artifacts import KEPT
from ganomaly.benchmark.cells import Budget, Cell, MethodSpec, Protocol, run_cell
from ganomaly.benchmark.problems import Source
from ganomaly.benchmark.rows import ERROR, RowFile
from ganomaly.config import Precision
from ganomaly.devices import choose_device, choose_precision
from ganomaly.errors import GANomalyError, UsageError

CHECKPOINTS = "checkpoints"


def grid(
    source: Source,
    methods: Sequence[MethodSpec],
    classes: Sequence[str] | None,
    seeds: Sequence[int],
    *,
    protocol: Protocol = "clean",
    budget: Budget | None = None,
    image_size: int | None = None,
    precision: Precision = "auto",
) -> list[Cell]:
    """All cells, seeds outermost, so that a grid stopped early is whole for its first seeds.

    Raises
    ------
    UsageError
        If the protocol would look at a method before it has learned what is normal.
    """
    if protocol == "published":
        for method in methods:
            if method.resolved()[0].statistics_images:
                raise UsageError(
                    f"the protocol published scores after each epoch, but {method.label} learns what is normal after "
                    "the last one; measure it with --protocol clean"
                )
    return [
        Cell(source, group, method, seed, protocol, budget or Budget(), image_size, precision)
        for seed, method, group in itertools.product(seeds, methods, source.groups(classes))
    ]


def run_grid(
    cells: Sequence[Cell],
    rows: RowFile,
    *,
    jobs: int = 1,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """Run the cells that have no row yet, each row kept as soon as it is there, and beside it what figures need.

    Parameters
    ----------
    cells : sequence of Cell
        The grid.
    rows : RowFile
        Where rows are kept.
    jobs : int
        Cells at a time, each in a process of its own; the processors are shared among them.
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
    folder = rows.path.parent / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    for found in _results(missing, rows.path.parent, jobs):
        rows.add(found)
        done += 1
        on_done(done)
    if not any(folder.iterdir()):
        folder.rmdir()
    return [row for cell in cells for row in rows.of(cell)]


def _results(cells: Sequence[Cell], out: Path, jobs: int) -> Iterator[list[dict[str, Any]]]:
    if jobs == 1:
        for cell in cells:
            yield _attempt(cell, out, None)
        return
    for cell in cells:  # here, so that no two of them do it at the same time; what fails fails again there
        with suppress(GANomalyError):
            cell.source.prepare(cell.group)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with _workers(jobs) as pool:
        futures: list[Future[list[dict[str, Any]]]] = [
            pool.submit(_attempt, cell, out, threads) for cell in cells
        ]
        for future in as_completed(futures):
            yield future.result()


@contextmanager
def _workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    # a fresh interpreter for each: threads of the parent do not survive a fork
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _attempt(cell: Cell, out: Path, threads: int | None) -> list[dict[str, Any]]:
    """Run a cell; what goes wrong is a row for each of its classes, and the others go on."""
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        return run_cell(cell, out / CHECKPOINTS / f"{_short_name(cell)}.checkpoint", out / KEPT)
    except GANomalyError as error:
        said = str(error)
    except Exception:
        said = f"unexpected {traceback.format_exc(limit=3)}"
    return [{"anomaly_class": name, **cell.identity(), ERROR: said} for name in cell.group]


def _short_name(cell: Cell) -> str:
    precision = choose_precision(cell.precision, choose_device("auto"))
    told = repr((sorted(cell.identity().items()), cell.group, precision))
    return hashlib.sha256(told.encode()).hexdigest()[:16]
