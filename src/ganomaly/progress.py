"""What a person sees in the terminal while the work goes on."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import rich.console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ganomaly.training import TrainingProgress


class Console:
    """Sentences, tables and progress bars on standard error; results belong to files and standard output."""

    def __init__(self) -> None:
        self._terminal = rich.console.Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, sentence: str) -> None:
        """Print a sentence."""
        self._terminal.print(sentence, markup=False)

    def warn(self, sentence: str) -> None:
        """Print a sentence that the user should not miss."""
        self._terminal.print(f"note: {sentence}", style="yellow", markup=False)

    def table(self, rows: Mapping[str, Any], title: str | None = None) -> None:
        """Print names and values on standard output."""
        table = Table(title=title, title_justify="left", show_header=False)
        for name, value in rows.items():
            table.add_row(name.replace("_", " "), "–" if value is None else str(value))
        rich.console.Console(highlight=False).print(table)

    def print_table(self, table: Table) -> None:
        """Print a table on standard output."""
        rich.console.Console(highlight=False).print(table)

    @contextmanager
    def counting(self, total: int, what: str) -> Iterator[Callable[[int], None]]:
        """Show a progress bar; the block calls what it is given with the number done."""
        with self._bar() as bar:
            task = bar.add_task(what, total=total, details="")
            yield lambda done: bar.update(task, completed=done)

    @contextmanager
    def fitting(self) -> Iterator["FittingDisplay"]:
        """Show decoding and training while a model is fitted."""
        with self._bar() as bar:
            yield FittingDisplay(self, bar)

    def _bar(self) -> Progress:
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[details]}"),
            console=self._terminal,
        )


class FittingDisplay:
    """An observer of fitting that draws progress bars."""

    def __init__(self, console: Console, bar: Progress) -> None:
        self._console, self._bar = console, bar
        self._decoding: TaskID | None = None
        self._training: TaskID | None = None

    def say(self, sentence: str) -> None:
        """Print it above the bars."""
        self._console.say(sentence)

    def warn(self, sentence: str) -> None:
        """Print it above the bars."""
        self._console.warn(sentence)

    def decoded(self, done: int, total: int) -> None:
        """Move the bar of decoding."""
        if self._decoding is None:
            self._decoding = self._bar.add_task("decoding", total=total, details="")
        self._bar.update(self._decoding, completed=done)

    def trained(self, progress: TrainingProgress) -> None:
        """Move the bar of training."""
        if self._training is None:
            self._training = self._bar.add_task("training", total=progress.steps, details="")
        losses = " ".join(f"{name} {value:.3g}" for name, value in progress.losses.items())
        self._bar.update(
            self._training,
            completed=progress.step,
            description=f"training, epoch {progress.epoch}/{progress.epochs}",
            details=f"{progress.images_per_second:.0f} images/s  {losses}",
        )
