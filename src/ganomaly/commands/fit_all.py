"""`ganomaly fit-all`."""

from pathlib import Path

from rich.table import Table
from rich.text import Text

from ganomaly.catalog import (
    EntryResult,
    check_result_tables,
    fit_catalog,
    read_catalog,
    write_result_tables,
)
from ganomaly.commands.console import Console
from ganomaly.errors import TrainingError, printable
from ganomaly.locks import locked_folder
from ganomaly.remote import Location, RemoteFile
from ganomaly.remote.transfer import check_folder
from ganomaly.workers import TaskRunner


def fit_all(console: Console, catalog: Path, out: Location, *, run: TaskRunner) -> bool:
    """Fit the models of a catalogue; return whether all images could be read."""
    entries = read_catalog(catalog)
    if isinstance(out, RemoteFile):
        check_folder(out)
    check_result_tables(out)
    done: list[EntryResult] = []

    def on_result(result: EntryResult) -> None:
        done.append(result)
        count(len(done))
        write_result_tables(done, out)  # so that a run that is stopped leaves what came out so far
        if result.error is not None:
            console.warn(f"{result.model} failed: {result.error}")

    with locked_folder(out, "ganomaly fit-all"), console.counting(len(entries), "models") as count:
        results = fit_catalog(entries, out, run=run, on_result=on_result)
        write_result_tables(results, out)
    console.print_table(_table(results))
    for result in results:
        if result.note is not None:
            console.warn(f"{result.model}: {result.note}")
    console.say(f"wrote {out / 'models.csv'} and {out / 'models.json'}")
    failures = [result for result in results if result.status == "failed"]
    if failures:
        raise TrainingError(
            f"{len(failures)} of {len(results)} models failed, the first {failures[0].model}: {failures[0].error}; "
            "the same command tries them again"
        )
    return not any(result.unreadable for result in results)


def _table(results: list[EntryResult]) -> Table:
    table = Table(title=f"{len(results)} models", title_justify="left")
    table.add_column("model", overflow="fold")
    table.add_column("status")
    for name in ("images", "φ", "rate", "s"):
        table.add_column(name, justify="right")
    for result in results:
        images = "–"
        if result.training_images is not None and result.calibration_images is not None:
            images = f"{result.training_images} + {result.calibration_images}"
            images += f", {result.unreadable} unreadable" if result.unreadable else ""
        numbers = (result.threshold, result.attained_rate)
        table.add_row(
            Text(printable(result.model)),
            result.status,
            images,
            *("–" if number is None else f"{number:.3g}" for number in numbers),
            f"{result.seconds:.0f}",
        )
    return table
