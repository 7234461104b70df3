"""Fits the models of a catalogue: one after the other, in several processes, or on several machines."""

from collections.abc import Callable, Sequence
from functools import partial

from ganomaly.catalog.entry import CatalogEntry, EntryResult, failed, fit_entry
from ganomaly.files import make_folder
from ganomaly.remote import Location, RemoteFile
from ganomaly.workers import DIED, TaskRunner, run_tasks


def fit_catalog(
    entries: Sequence[CatalogEntry],
    out: Location,
    *,
    run: TaskRunner = run_tasks,
    on_result: Callable[[EntryResult], None] = lambda result: None,
) -> list[EntryResult]:
    """Fit all models; one that fails does not stop the others.

    Parameters
    ----------
    entries : sequence of CatalogEntry
        What to fit.
    out : Path or RemoteFile
        Folder of the models; made if it is missing.
    run : callable
        Where they are fitted: here, unless it is another one.
    on_result : callable
        Called with each result as it comes.

    Returns
    -------
    list of EntryResult
        In the order of the entries.
    """
    make_folder(out)
    results: dict[int, EntryResult] = {}
    folder = out if isinstance(out, RemoteFile) else out.absolute()
    for position, result in run(partial(fit_entry, out=folder), entries):
        results[position] = failed(entries[position], DIED) if result is None else result
        on_result(results[position])
    return [results[position] for position in range(len(entries))]
