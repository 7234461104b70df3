"""What a notebook shows: image strips of predictions, a few numbers of a model or an evaluation; no wall of text."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ganomaly.calibration import Calibration, MapCalibration
from ganomaly.outputs.panels import panels
from ganomaly.outputs.report.thumbnails import encode
from ganomaly.prediction import Prediction, Predictor

MOST_SHOWN = 12
"""Predictions that are shown of many, those with the highest scores."""

_CELL = 'style="display:inline-block;margin:0 4px 0 0;text-align:center;font-size:11px"'
_BINS = 40
_WIDTH, _HEIGHT = 320, 60  # px of the histogram


class Predictions(Sequence[Prediction]):
    """Predictions with details, in the order of their images; a notebook shows the most anomalous as strips.

    Parameters
    ----------
    predictions : iterable of Prediction
        All of them; images, maps and reconstructions are held at the size of the network input.
    map_calibration : MapCalibration or None
        The scale of their maps.
    """

    def __init__(self, predictions: Iterable[Prediction], map_calibration: MapCalibration | None) -> None:
        self._predictions = list(predictions)
        self._map_calibration = map_calibration

    def __len__(self) -> int:
        return len(self._predictions)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> "Predictions": ...
    def __getitem__(self, index: int | slice) -> "Prediction | Predictions":
        if isinstance(index, slice):
            return Predictions(self._predictions[index], self._map_calibration)
        return self._predictions[index]

    def __repr__(self) -> str:
        return f"<{self._in_words()}>"

    def _repr_html_(self) -> str:
        """Strips of the highest scores; then what could not be read."""
        readable = [prediction for prediction in self._predictions if prediction.score is not None]
        shown = sorted(readable, key=lambda prediction: -(prediction.score or 0))[:MOST_SHOWN]
        rows = [strip_html(prediction, self._map_calibration) for prediction in shown]
        failed = [prediction for prediction in self._predictions if prediction.error is not None]
        rows += [f"<div>{escape(str(prediction.error))}</div>" for prediction in failed[:MOST_SHOWN]]
        return f"<div><div>{escape(self._in_words())}</div>{''.join(rows)}</div>"

    def _in_words(self) -> str:
        anomalous = sum(bool(prediction.is_anomaly) for prediction in self._predictions)
        failed = sum(prediction.error is not None for prediction in self._predictions)
        unreadable = f", {failed} could not be read" if failed else ""
        highest = f"; the {MOST_SHOWN} highest scores" if len(self) - failed > MOST_SHOWN else ""
        return f"{len(self)} images, {anomalous} anomalous{unreadable}{highest}"


def strip_html(prediction: Prediction, map_calibration: MapCalibration | None) -> str:
    """One prediction: its panels side by side, and a line with path, score, p-value and verdict."""
    thumbnails = [encode(name, panel) for name, panel in panels(prediction, map_calibration).items()]
    images = "".join(
        f'<span {_CELL}><img src="{each.uri}" width="{each.width}" height="{each.height}" '
        f'alt="{escape(each.name)}"><br>{escape(each.name)}</span>'
        for each in thumbnails
    )
    verdict = {True: "anomalous", False: "normal", None: ""}[prediction.is_anomaly]
    p_value = "" if prediction.p_value is None else f", p = {prediction.p_value:.3g}"
    product = "" if prediction.product is None else f", {prediction.product}"
    line = f"{prediction.path}: A(x) = {prediction.score:.4g}{p_value}, {verdict}{product}"
    return f'<div style="margin:6px 0"><div>{escape(line)}</div>{images}</div>'


def model_html(model: Predictor) -> str:
    """A trained model: method, threshold, and its calibration scores as a histogram."""
    calibration = model.calibration
    line = (
        f"{model.method_name} (preset {model.preset}), threshold φ = {calibration.threshold:.4g} for a false-alarm "
        f"rate of {calibration.attained_rate:.2g}, from {len(calibration.scores)} calibration images"
    )
    return f"<div><div>{escape(line)}</div>{_histogram(calibration, {'#4477aa': calibration.scores})}</div>"


def evaluation_html(
    figures: Mapping[str, Any],
    calibration: Calibration,
    normal: NDArray[np.float64],
    anomalous: NDArray[np.float64],
) -> str:
    """Figures of an evaluation in one table row, and a histogram: normal images blue, anomalous ones red.

    Parameters
    ----------
    figures : mapping of str to float or None
        By name; those that are None are left out.
    calibration : Calibration
        Gives the threshold.
    normal, anomalous : ndarray
        `float64[n]`, A(x) of the images of each class.
    """
    known = {name.replace("_", " "): value for name, value in figures.items() if value is not None}
    names = "".join(f"<th>{escape(name)}</th>" for name in known)
    values = "".join(
        f"<td>{value:.4g}</td>" if isinstance(value, float) else f"<td>{value}</td>"
        for value in known.values()
    )
    table = f"<table><tr>{names}</tr><tr>{values}</tr></table>"
    return f"<div>{table}{_histogram(calibration, {'#4477aa': normal, '#ee6677': anomalous})}</div>"


def _histogram(calibration: Calibration, scores: Mapping[str, NDArray[np.float64]]) -> str:
    """Scores by colour as bars of an SVG; the threshold φ is a dashed line."""
    every = np.concatenate(list(scores.values()))
    if not len(every):
        return ""
    low, high = float(every.min()), float(max(every.max(), calibration.threshold))
    counts = {
        colour: np.histogram(some, bins=_BINS, range=(low, max(high, low + 1e-12)))[0]
        for colour, some in scores.items()
    }
    tallest = max(int(count.max()) for count in counts.values())
    width = _WIDTH / _BINS
    bars = "".join(
        f'<rect x="{number * width:.1f}" y="{_HEIGHT * (1 - n / tallest):.1f}" width="{width - 1:.1f}" '
        f'height="{_HEIGHT * n / tallest:.1f}" fill="{colour}" fill-opacity="0.7"/>'
        for colour, count in counts.items()
        for number, n in enumerate(count)
        if n
    )
    x = _WIDTH * (calibration.threshold - low) / max(high - low, 1e-12)
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT}" stroke="black" stroke-dasharray="3"/>'
    return (
        f'<svg width="{_WIDTH + 2}" height="{_HEIGHT + 2}" role="img" aria-label="scores, and the threshold">'
        f"{bars}{line}</svg>"
    )
