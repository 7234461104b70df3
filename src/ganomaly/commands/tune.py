"""`ganomaly tune`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ganomaly.commands.console import Console
from ganomaly.commands.fit import fit
from ganomaly.commands.process import InterruptionError
from ganomaly.config import FitOptions
from ganomaly.locks import local_name
from ganomaly.loggers import open_loggers, run_name
from ganomaly.output_checks import REPORT, check_outputs
from ganomaly.outputs.report.search import SearchReport
from ganomaly.prediction.model_file import check_model_path
from ganomaly.remote import Location, RemoteFile
from ganomaly.tuning import SearchOptions, SearchResult, TrialSummary, search

LEAK = (
    "The labels of these images chose the options, so figures of the model on the same images are too high: measure "
    "it on others."
)
_TELLS_NOTHING = 0.995  # AUROC of the preset above which there is nothing to improve
_CHANCE = 0.55  # AUROC of the best below which differences between trials are chance


def tune(
    console: Console,
    data: str,
    path: Location,
    options: FitOptions,
    asked: SearchOptions,
    *,
    storage: str | None,
    report: Location | None,
    loggers: Sequence[str] = (),
) -> bool:
    """Search, fit with the best options and report; return whether all images could be read.

    Loggers are told of the fit, not of the trials.
    """
    check_model_path(path)
    check_outputs({"--report": (report, REPORT)})
    open_loggers(loggers, run_name(path))  # says before the search what cannot be used
    if asked.labelled is not None:
        console.warn(f"searching with labels. {LEAK}")
    # of a model in a store the trials are in the current folder, as its checkpoint is
    folder, name = (Path(), local_name(path)) if isinstance(path, RemoteFile) else (path.parent, path.name)
    url = storage or f"sqlite:///{folder / f'{name}.tuning.db'}"
    with console.counting(asked.trials, "trials") as count:
        result = search(data, options, asked, url, folder=folder, say=console.say, on_trial=count)
    if not result.is_last or result.best is None:
        console.say(
            "Other processes are still at their trials, and the one that ends the last of them fits the model; if "
            "they have died, the same command goes on."
        )
        return True
    best = result.best
    console.print_table(_table(result, best))
    _compare(console, result, best)
    if report is not None:
        title = f"Search for {path.name}: {len(result.trials)} trials of the preset {result.options.preset}"
        notice = None if asked.labelled is None else LEAK
        SearchReport(title, result.objective, result.trials, best, result.importances, notice).write(report)
        console.say(f"wrote {report}")
    tuning = {
        "study": result.study,
        "objective": result.objective,
        "saw_labels": asked.labelled is not None,
        "trials": len(result.trials),
        "auroc": best.value,
        "preset_auroc": result.trials[0].value,
    }
    console.say("Fits the model with these options and the whole training.")
    try:
        return fit(
            console,
            result.dataset,  # not `data`, which would be copied from a store again
            path,
            result.options,
            resume=True,
            loggers=loggers,
            provenance={"tuning": tuning},
        )
    except InterruptionError as error:
        raise InterruptionError(f"{error} with this fit; the trials of the search are kept") from None


def _compare(console: Console, result: SearchResult, best: TrialSummary) -> None:
    start = result.trials[0]
    if best.place == 0:
        console.say("No trial was better than the preset as it is.")
    elif start.value is not None and best.value is not None:
        console.say(
            f"Trial {best.place} has an AUROC of {best.value:.3f}, the preset as it is {start.value:.3f}. The best "
            "of many trials is lucky in part: on new defects expect a smaller difference."
        )
    if start.value is not None and start.value > _TELLS_NOTHING:
        console.warn("the preset finds nearly all of these defects, so the search cannot tell what is better")
    if best.value is not None and best.value < _CHANCE:
        console.warn(
            "no trial finds these defects much better than by chance, so what was found says little; another preset "
            "or a larger image size may see them"
        )


def _table(result: SearchResult, best: TrialSummary) -> Table:
    """The options of the best trial beside the preset's."""
    table = Table(title=Text(f"best of {len(result.trials)} trials"), title_justify="left")
    for name in ("", "preset", "best"):
        table.add_column(name, overflow="fold")
    start = result.trials[0]
    table.add_row("AUROC", _text(start.value), _text(best.value))
    table.add_row("ms per image", _text(start.milliseconds), _text(best.milliseconds), end_section=True)
    for name, value in best.values.items():
        table.add_row(name.replace("_", " "), Text(_text(start.values.get(name))), Text(_text(value)))
    return table


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
