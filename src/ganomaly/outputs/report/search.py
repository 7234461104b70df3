"""The report of a search for options: one HTML page that opens offline, without JavaScript."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ganomaly.files import written_whole
from ganomaly.outputs.report.search_figures import (
    MOST_DEPENDENCES,
    SearchTrial,
    dependence_figure,
    history_figure,
    importance_figure,
)
from ganomaly.outputs.report.templates import page_template
from ganomaly.remote import Location
from ganomaly.version import __version__


@dataclass(frozen=True)
class SearchReport:
    """What the report of a search shows.

    Attributes
    ----------
    title : str
        Headline.
    objective : str
        What was maximised.
    trials : sequence of SearchTrial
        In order; the first is the preset.
    best : SearchTrial
        The one that was chosen.
    importances : mapping of str to float
        Share of the differences between trials that each option explains; empty if there are too few trials.
    notice : str, optional
        A sentence to show at the top, such as that labels leaked.
    """

    title: str
    objective: str
    trials: Sequence[SearchTrial]
    best: SearchTrial
    importances: Mapping[str, float]
    notice: str | None = None

    def write(self, path: str | Location) -> None:
        """Write the page, whole or not at all; raises `UsageError` or `OutputError` if that is not possible."""
        page = page_template("search.html.j2").render(
            title=self.title,
            notice=self.notice,
            objective=self.objective,
            version=__version__,
            trials=self.trials,
            best=self.best,
            start=self.trials[0],
            counts=[sum(trial.state == state for trial in self.trials) for state in ("complete", "pruned")],
            in_words=_in_words,
            **self._figures(),
        )
        with written_whole(path) as part, part.open("w", encoding="utf-8", errors="replace") as file:
            file.write(page)

    def _figures(self) -> dict[str, Any]:
        names = list(self.importances or self.best.values)[:MOST_DEPENDENCES]
        return {
            "history": _image(history_figure(self.trials)),
            "importance": _image(importance_figure(self.importances)) if self.importances else None,
            "dependences": {name: _image(dependence_figure(self.trials, name)) for name in names},
        }


def _image(figure: Figure) -> str:
    """A figure as a data URI, the same for the same figure."""
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "ganomaly", "svg.fonttype": "path"}):
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(content.getvalue()).decode()}"


def _in_words(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "–" if value is None else str(value)
