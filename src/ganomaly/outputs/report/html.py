"""The report: one HTML file that opens offline, with the highest scores first and a threshold to move."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ganomaly.errors import UsageError, package_needed
from ganomaly.files import written_whole
from ganomaly.outputs.panels import Panels
from ganomaly.outputs.report.audit import ReportAudit
from ganomaly.outputs.report.templates import page_template
from ganomaly.outputs.report.thumbnails import ThumbnailStore
from ganomaly.prediction import Prediction
from ganomaly.remote import Location
from ganomaly.version import __version__

if TYPE_CHECKING:
    from ganomaly.metrics import Evaluation


class _Row(NamedTuple):
    """What the report holds of one image; a prediction would hold its pixels too."""

    path: str
    score: float
    normalized_score: float | None
    p_value: float | None
    kind: str | None
    labelled_anomalous: bool | None


class _Failure(NamedTuple):
    path: str
    error: str | None


class ReportBuilder:
    """Takes predictions one at a time, then writes the report.

    It holds the numbers of all images and the thumbnails of at most `max_thumbnails`, so that memory is bounded by
    about 100 bytes per image and 20 kB per image with thumbnails.

    Parameters
    ----------
    title : str
        Headline.
    threshold : float
        φ of the model.
    false_alarm_rate : float
        The rate that the user chose, in (0, 1).
    calibration_scores : array_like
        `float[n]`, A(x) of the calibration images.
    model_summary : mapping of str to str
        Names and values to show of the model, in this order.
    notice : str, optional
        A sentence to show at the top, such as that the images are simulated.
    max_thumbnails : int
        Images with thumbnails: those with the highest scores, and up to a quarter of labelled anomalous images with
        the lowest.
    calibration_unit : str
        What a calibration score is of: "image" or "patient".

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
        calibration_unit: str = "image",
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
        self._calibration_unit = calibration_unit
        self._model_summary = dict(model_summary)
        self._notice = notice
        self._max_thumbnails = max_thumbnails
        self._thumbnails = ThumbnailStore(max_thumbnails)
        self._rows: list[_Row] = []
        self._failures: list[_Failure] = []

    def add(
        self,
        prediction: Prediction,
        panels: Callable[[], Panels] | Panels,
        *,
        kind: str | None = None,
        labelled_anomalous: bool | None = None,
    ) -> None:
        """Add the prediction of an image.

        Parameters
        ----------
        prediction : Prediction
            One with an error goes to the list of images that could not be read.
        panels : mapping or callable that returns one
            Name to `uint8[H, W]`, `[H, W, 1]` or `[H, W, 3]`, in the order to show them. Called only if the image
            gets thumbnails.
        kind : str, optional
            Kind of the image, such as "scratch", or the group of a normal one.
        labelled_anomalous : bool, optional
            The label; None where the image has none.

        Raises
        ------
        UsageError
            If the score is not finite, or a panel has another shape or type.
        """
        path, score = prediction.path, prediction.score
        if score is None:
            self._failures.append(_Failure(path, prediction.error))
            return
        if not math.isfinite(score):
            raise UsageError(f"the score of {path} is {score}, but the report needs finite scores")
        self._thumbnails.offer(len(self._rows), score, labelled_anomalous, panels)
        normalized_score, p_value = prediction.normalized_score, prediction.p_value
        self._rows.append(_Row(path, score, normalized_score, p_value, kind, labelled_anomalous))

    def write(
        self,
        path: str | Location,
        *,
        evaluation: "Evaluation | None" = None,
        audit: ReportAudit | None = None,
    ) -> None:
        """Write the report, whole or not at all.

        Parameters
        ----------
        path : str, Path or RemoteFile
            An HTML file, in a folder that exists or in a store.
        evaluation : Evaluation, optional
            Metrics to show; computed from the labels, if any, where it is left out.
        audit : ReportAudit, optional
            An audit to show.

        Raises
        ------
        UsageError, OutputError
            If the file cannot be written.
        """
        evaluation = evaluation or self._evaluate_labels()
        page = page_template("report.html.j2").stream(
            title=self._title,
            notice=self._notice,
            model_summary=self._model_summary,
            failures=self._failures,
            version=__version__,
            data=self._numbers(evaluation),
            thumbnails=self._thumbnail_data(),
            audit=None if audit is None else audit.template_data(),
        )
        with written_whole(path) as part, part.open("w", encoding="utf-8", errors="replace") as file:
            file.writelines(page)

    def _evaluate_labels(self) -> "Evaluation | None":
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
        """Everything but the thumbnails, by column, which is shorter than by row."""
        return {
            "threshold": self._threshold,
            "false_alarm_rate": self._false_alarm_rate,
            "calibration_scores": self._calibration_scores.tolist(),
            "calibration_unit": self._calibration_unit,
            "evaluation": None if evaluation is None else evaluation.to_json_dict(),
            "max_thumbnails": self._max_thumbnails,
            "n_errors": len(self._failures),
            "path": [row.path for row in self._rows],
            "kind": [row.kind for row in self._rows],
            "labelled_anomalous": [row.labelled_anomalous for row in self._rows],
            "score": [row.score for row in self._rows],
            "normalized_score": [row.normalized_score for row in self._rows],
            "p_value": [row.p_value for row in self._rows],
        }

    def _thumbnail_data(self) -> dict[str, Any]:
        """Thumbnails by row number: [name's position, width, height, data URI]."""
        names: dict[str, int] = {}
        by_row = {
            row: [
                [
                    names.setdefault(thumbnail.name, len(names)),
                    thumbnail.width,
                    thumbnail.height,
                    thumbnail.uri,
                ]
                for thumbnail in thumbnails
            ]
            for row, thumbnails in self._thumbnails.by_row().items()
        }
        return {"names": list(names), "by_row": by_row}
