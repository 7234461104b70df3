"""Terminal output: sentences, tables and progress bars."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import rich.console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ganomaly.errors import printable
from ganomaly.training.observers import SilentObserver

if TYPE_CHECKING:
    from ganomaly.training.observers import TrainingProgress


SECONDS_BETWEEN_LINES = 30  # where the output is no terminal that could show a bar


class Console:
    """Sentences and progress bars on standard error, result tables on standard output."""

    def __init__(self) -> None:
        self._terminal = rich.console.Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, sentence: str) -> None:
        """Print a sentence."""
        self._terminal.print(printable(sentence), markup=False)

    def warn(self, sentence: str) -> None:
        """Print a sentence that the user should not miss, marked as a note."""
        self._terminal.print(f"note: {printable(sentence)}", style="yellow", markup=False)

    def table(self, rows: Mapping[str, Any], title: str | None = None) -> None:
        """Print names and values on standard output."""
        table = Table(title=title, title_justify="left", show_header=False)
        table.add_column()
        table.add_column(overflow="fold")
        for name, value in rows.items():
            # a mapping takes one line per item
            items = value if isinstance(value, Mapping) else {"": value}
            for number, (item_name, item) in enumerate(items.items()):
                text = printable(_in_words(item))
                label = f"{item_name.replace('_', ' ')}: " if item_name else ""
                # as `Text`: Rich would take an extra in brackets, as of `ganomaly[dicom]`, for its own markup
                table.add_row(Text(name.replace("_", " ") if number == 0 else ""), Text(label + text))
        rich.console.Console(highlight=False).print(table)

    def print_table(self, table: Table) -> None:
        """Print a table on standard output."""
        rich.console.Console(highlight=False).print(table)

    @contextmanager
    def counting(self, total: int, what: str) -> Iterator[Callable[[int], None]]:
        """Show a progress bar; the block calls the function it gets with the number done.

        Without a terminal a line is printed every `SECONDS_BETWEEN_LINES` seconds, and one at the end of what took
        longer.
        """
        with self._bar() as bars:
            task = bars.add_task(what, total=total)
            last_line = time.monotonic()
            done_so_far = said = 0

            def count(done: int) -> None:
                nonlocal last_line, done_so_far, said
                done_so_far = done
                bars.update(task, completed=done)
                if bars.disable and time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
                    self.say(f"{what}: {done} of {total}")
                    last_line, said = time.monotonic(), done

            yield count
            if 0 < said < done_so_far:
                self.say(f"{what}: {done_so_far} of {total}")

    @contextmanager
    def fitting(self) -> Iterator["FittingDisplay"]:
        """Show the progress of decoding and training."""
        with self._bar() as bars:
            yield FittingDisplay(self, bars, is_terminal=self._terminal.is_terminal)

    def _bar(self) -> "_Bars":
        # a bar needs a terminal; sentences do not
        return _Bars(console=self._terminal, disable=not self._terminal.is_terminal)


def _in_words(value: Any) -> str:
    """A value of a table: nothing as a dash, numbers without digits that say nothing."""
    if value is None or value in ("", [], {}):
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


class _TimeLeft(TimeRemainingColumn):
    """The time that a task says is left; Rich's own estimate where it says nothing."""

    def render(self, task: Task) -> Text:
        seconds = task.fields.get("seconds_left")
        if seconds is None:
            return super().render(task)
        return Text(str(timedelta(seconds=round(seconds))), style="progress.remaining")


class _Bars(Progress):
    """Progress bars with a line of details below, so that both fit into 80 columns."""

    def __init__(self, console: rich.console.Console, disable: bool) -> None:
        self.details = ""
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("·"),
            _TimeLeft(),
            TextColumn("left"),
            console=console,
            disable=disable,
        )

    def get_renderables(self) -> Iterable[rich.console.RenderableType]:
        """Draw the bars, and the details."""
        yield from super().get_renderables()
        if self.details:
            yield Text(self.details, style="dim")


class FittingDisplay(SilentObserver):
    """A training observer that draws progress bars.

    Without a terminal it prints a line per epoch, and one every `SECONDS_BETWEEN_LINES` seconds in long ones.
    """

    def __init__(self, console: Console, bars: _Bars, *, is_terminal: bool) -> None:
        self._console, self._bars, self._is_terminal = console, bars, is_terminal
        self._decoding: TaskID | None = None
        self._training: TaskID | None = None
        self._finishing: dict[str, TaskID] = {}
        self._last_line = time.monotonic()

    def say(self, sentence: str) -> None:
        """Print a sentence above the bars."""
        self._console.say(sentence)

    def warn(self, sentence: str) -> None:
        """Print a note above the bars."""
        self._console.warn(sentence)

    def decoded(self, done: int, total: int) -> None:
        """Update the bar of decoding."""
        if self._decoding is None:
            self._decoding = self._bars.add_task("decoding", total=total)
        self._bars.update(self._decoding, completed=done)

    def trained(self, progress: "TrainingProgress") -> None:
        """Update the bar of training."""
        if self._training is None:
            self._last_line = time.monotonic()
            self._training = self._bars.add_task("training", total=progress.steps)
        losses = ", ".join(f"{name} {value:.3g}" for name, value in progress.losses.items())
        speed = f"{progress.images_per_second:.0f} images/s"
        self._bars.details = f"{speed}; losses: {losses}" if losses else speed
        epoch = f"epoch {progress.epoch}/{progress.epochs}"
        self._bars.update(
            self._training,
            completed=progress.step,
            description=f"training, {epoch}",
            seconds_left=progress.seconds_left,
        )
        if self._is_terminal:
            return
        is_last_of_epoch = progress.step * progress.epochs == progress.epoch * progress.steps
        if is_last_of_epoch or time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            steps = f"step {progress.step:,} of {progress.steps:,}"
            self._console.say(f"{epoch}, {steps}: {self._bars.details}; {progress.seconds_left:.0f} s left")
            self._last_line = time.monotonic()

    def finishing(self, stage: str, done: int, total: int) -> None:
        """Update the bar of the stage; that of statistics moves to and fro once their images are read."""
        if stage not in self._finishing:
            for task in self._finishing.values():
                self._bars.update(task, total=self._bars.tasks[task].completed)
            self._finishing[stage] = self._bars.add_task(stage)
            if not self._is_terminal:
                self._console.say(f"{stage}: {total} images")
        is_computing = stage == "statistics" and done == total
        self._bars.update(self._finishing[stage], completed=done, total=None if is_computing else total)
