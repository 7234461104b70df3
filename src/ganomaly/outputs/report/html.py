"""The report: one HTML file that opens offline, with the worst images first and a threshold to move."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from numpy.typing import ArrayLike

from ganomaly.errors import UsageError, package_needed
from ganomaly.files import written_whole
from ganomaly.outputs.report.thumbnails import Panels, ThumbnailStore
from ganomaly.outputs.tables import ScoreRow
from ganomaly.version import __version__

if TYPE_CHECKING:
    from ganomaly.metrics import Evaluation


@dataclass(frozen=True)
class ReportRow(ScoreRow):
    """A scored image, and what is known of it from its label.

    Attributes
    ----------
    kind : str or None
        Of anomaly, such as "scratch"; or the name of a group of normal images.
    labelled_anomalous : bool or None
        The truth; None where the image has no label.
    """

    kind: str | None = None
    labelled_anomalous: bool | None = None


class ReportBuilder:
    """Takes scored images one at a time, then writes the report.

    Numbers are kept for every image, pictures for at most `max_thumbnails` of them, so that memory is
    bounded by some 100 bytes for each image and 20 kB for each thumbnail.

    Parameters
    ----------
    title : str
        Headline.
    threshold : float
        φ of the model.
    false_alarm_rate : float
        The rate that was asked for, in (0, 1).
    calibration_scores : array_like
        `float[n]`, A(x) of the calibration images.
    model_summary : mapping of str to str
        What to say of the model, in this order.
    notice : str, optional
        A sentence that nobody may overlook, such as that the images are simulated.
    max_thumbnails : int
        Images to keep pictures of: the highest scores, and up to a quarter of anomalous images that score
        lowest.

    Raises
    ------
    UsageError
        If the threshold or a calibration score is not finite, or `max_thumbnails` is below 1.
    """

    def __init__(
        self,
        *,
        title: str,
        threshold: float,
        false_alarm_rate: float,
        calibration_scores: ArrayLike,
        model_summary: Mapping[str, str],
        notice: str | None = None,
        max_thumbnails: int = 2000,
    ) -> None:
        calibration = np.sort(np.asarray(calibration_scores, dtype=np.float64).ravel())
        if not math.isfinite(threshold) or not np.isfinite(calibration).all():
            raise UsageError("the report needs a finite threshold and finite calibration scores")
        if max_thumbnails < 1:
            raise UsageError(f"max_thumbnails is {max_thumbnails}, but it must be at least 1")
        self._title = title
        self._threshold = float(threshold)
        self._false_alarm_rate = float(false_alarm_rate)
        self._calibration_scores = calibration
        self._model_summary = dict(model_summary)
        self._notice = notice
        self._max_thumbnails = max_thumbnails
        self._thumbnails = ThumbnailStore(max_thumbnails)
        self._rows: list[ReportRow] = []
        self._errors: list[ReportRow] = []

    def add(self, row: ReportRow, panels: Callable[[], Panels] | Panels) -> None:
        """Add an image.

        Parameters
        ----------
        row : ReportRow
            A row without a score goes to the list of images that could not be read.
        panels : mapping or callable that returns one
            Name to picture, in the order to show them; `uint8[H, W]`, `[H, W, 1]` or `[H, W, 3]`.
            Called only if the picture is kept.

        Raises
        ------
        UsageError
            If the score is not finite, or a picture cannot be shown.
        """
        if row.score is None:
            self._errors.append(row)
            return
        if not math.isfinite(row.score):
            raise UsageError(f"the score of {row.path} is {row.score}, but the report needs finite scores")
        self._thumbnails.offer(len(self._rows), row.score, row.labelled_anomalous, panels)
        self._rows.append(row)

    def write(self, path: str | Path, *, evaluation: "Evaluation | None" = None) -> None:
        """Write the report, whole or not at all.

        Parameters
        ----------
        path : str or Path
            An HTML file in a folder that exists.
        evaluation : Evaluation, optional
            Figures to show. Where it is left out they are computed from the labels of the rows, if any.

        Raises
        ------
        UsageError, OutputError
            If the file cannot be written.
        """
        evaluation = evaluation or self._evaluated()
        page = _template().stream(
            title=self._title,
            notice=self._notice,
            model_summary=self._model_summary,
            errors=self._errors,
            version=__version__,
            data=self._numbers(evaluation),
            thumbnails=self._pictures(),
        )
        with written_whole(path) as part, part.open("w", encoding="utf-8", errors="replace") as file:
            file.writelines(page)

    def _evaluated(self) -> "Evaluation | None":
        labelled = [row for row in self._rows if row.labelled_anomalous is not None]
        if not labelled:
            return None
        with package_needed("a report on labelled images"):
            from ganomaly.metrics import image_metrics
        return image_metrics(
            np.array([row.score for row in labelled], dtype=np.float64),
            np.array([row.labelled_anomalous for row in labelled], dtype=np.bool_),
            self._threshold,
            [row.kind for row in labelled],
        )

    def _numbers(self, evaluation: "Evaluation | None") -> dict[str, Any]:
        """Everything but the pictures, by column, since that is shorter than by row."""
        return {
            "threshold": self._threshold,
            "false_alarm_rate": self._false_alarm_rate,
            "calibration_scores": self._calibration_scores.tolist(),
            "evaluation": None if evaluation is None else evaluation.to_json_dict(),
            "max_thumbnails": self._max_thumbnails,
            "n_errors": len(self._errors),
            "path": [row.path for row in self._rows],
            "kind": [row.kind for row in self._rows],
            "labelled_anomalous": [row.labelled_anomalous for row in self._rows],
            "score": [row.score for row in self._rows],
            "normalized_score": [row.normalized_score for row in self._rows],
            "p_value": [row.p_value for row in self._rows],
        }

    def _pictures(self) -> dict[str, Any]:
        """Thumbnails by row number: [name's position, width, height, data URI]."""
        names: dict[str, int] = {}
        by_row = {
            row: [
                [names.setdefault(each.name, len(names)), each.width, each.height, each.uri]
                for each in thumbnails
            ]
            for row, thumbnails in self._thumbnails.by_row().items()
        }
        return {"names": list(names), "by_row": by_row}


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("ganomaly.outputs.report", package_path="template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # compact, in the order given, and never the NaN that no browser reads
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.get_template("report.html.j2")
