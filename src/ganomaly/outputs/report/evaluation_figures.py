"""The figures of an evaluation: score histogram, ROC curve, reconstructions."""

from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganomaly.calibration import Calibration
from ganomaly.data import ImageRecord
from ganomaly.files import make_folder
from ganomaly.output_checks import FIGURE, check_replaceable
from ganomaly.outputs.panels import panels
from ganomaly.outputs.report.figures import (
    GridImage,
    reconstruction_grid,
    roc_figure,
    save_figure,
    score_histogram,
)
from ganomaly.prediction import Prediction

GRID_IMAGES_PER_CLASS = 8
HISTOGRAM, ROC, RECONSTRUCTIONS = "score_histogram.png", "roc.png", "reconstructions.png"


def check_figure_folder(folder: Path) -> None:
    """Raise `UsageError` if the figures would replace files in the folder that this package did not write."""
    for name in (HISTOGRAM, ROC, RECONSTRUCTIONS):
        check_replaceable(folder / name, FIGURE)


class EvaluationFigures:
    """Takes predictions one at a time, then writes the figures.

    It holds the first images of each class and kind, for the grid of reconstructions.
    """

    def __init__(self) -> None:
        self._normal: list[GridImage] = []
        self._anomalous: dict[str, list[GridImage]] = {}  # by kind

    def add(self, prediction: Prediction, record: ImageRecord) -> None:
        """Add a prediction with details, and the record of its image."""
        if prediction.reconstruction is None:
            return
        kind = record.kind or "anomalous"
        images = self._anomalous.setdefault(kind, []) if record.is_anomalous else self._normal
        if len(images) < GRID_IMAGES_PER_CLASS:
            caption = f"{kind}, A(x) = {prediction.score:.3g}"
            images.append(GridImage(panels(prediction), bool(record.is_anomalous), caption))

    def write(
        self,
        folder: Path,
        scores: NDArray[np.float64],
        is_anomalous: NDArray[np.bool_],
        auroc: float | None,
        calibration: Calibration,
    ) -> None:
        """Write the figures as PNG.

        Parameters
        ----------
        folder : Path
            Made if it is missing.
        scores, is_anomalous : ndarray
            `float64[n]`, A(x), and `bool[n]`, the labels.
        auroc : float or None
            Without it, as where all images are of one class, there is no ROC curve.
        calibration : Calibration
            Its scores and threshold are drawn into the histogram.

        Raises
        ------
        OutputError
            If the folder cannot be made or a file cannot be written.
        """
        make_folder(folder, " for figures")
        histogram = score_histogram(calibration.scores, scores, is_anomalous, calibration.threshold)
        save_figure(histogram, folder / HISTOGRAM)
        if auroc is not None:
            save_figure(roc_figure(scores, is_anomalous, auroc), folder / ROC)
        images = self._grid_images()
        if images:
            save_figure(reconstruction_grid(images), folder / RECONSTRUCTIONS)

    def _grid_images(self) -> list[GridImage]:
        """Normal images, and as many anomalous ones, in turn from each kind."""
        turns = zip_longest(*self._anomalous.values())
        anomalous = [image for turn in turns for image in turn if image is not None]
        return self._normal + anomalous[:GRID_IMAGES_PER_CLASS]
