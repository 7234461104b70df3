"""Fits the models of a catalogue, one after the other or in several processes."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from ganomaly.catalog.entry import CatalogEntry, EntryResult, failed, fit_entry
from ganomaly.data.resources import usable_processors
from ganomaly.files import make_folder
from ganomaly.workers import run_in_processes

DIED = (
    "its process was ended by the system, which may have had no memory left; run fewer at a time, or make the images "
    "smaller"
)


def fit_catalog(
    entries: Sequence[CatalogEntry],
    out: Path,
    *,
    jobs: int = 1,
    on_result: Callable[[EntryResult], None] = lambda result: None,
) -> list[EntryResult]:
    """Fit all models; one that fails does not stop the others.

    Parameters
    ----------
    entries : sequence of CatalogEntry
        What to fit.
    out : Path
        Folder of the models; made if it is missing.
    jobs : int
        Models at a time. More than one are fitted in processes that stay from model to model and divide the
        processors among them.
    on_result : callable
        Called with each result as it comes.

    Returns
    -------
    list of EntryResult
        In the order of the entries.
    """
    make_folder(out)
    results: dict[int, EntryResult] = {}
    for position, result in _results(entries, out, min(jobs, len(entries))):
        results[position] = result
        on_result(result)
    return [results[position] for position in range(len(entries))]


def _results(entries: Sequence[CatalogEntry], out: Path, jobs: int) -> Iterator[tuple[int, EntryResult]]:
    if jobs <= 1:
        for position, entry in enumerate(entries):
            yield position, fit_entry(entry, out)
        return
    threads = max(1, usable_processors() // jobs)
    fit = partial(_fit_with_threads, out=out, threads=threads)
    for position, result in run_in_processes(fit, entries, jobs=jobs):
        yield position, failed(entries[position], DIED) if result is None else result


def _fit_with_threads(entry: CatalogEntry, *, out: Path, threads: int) -> EntryResult:
    torch.set_num_threads(threads)
    return fit_entry(entry, out)
