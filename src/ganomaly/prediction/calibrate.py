"""Calibrate on the predictions of normal images held out of training."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ganomaly.calibration import ROUNDING, Calibration, MapCalibration
from ganomaly.prediction.prediction import Prediction

_TINY = 1e-12


def calibrate(
    predictions: Iterable[Prediction], false_alarm_rate: float
) -> tuple[Calibration, MapCalibration | None]:
    """From predictions with details to the calibration of scores and of maps.

    Parameters
    ----------
    predictions : iterable of Prediction
        Of the calibration set, with details; those with an error are left out.
    false_alarm_rate : float
        In (0, 1), the rate that the user asked for.

    Returns
    -------
    calibration : Calibration
        Scores are raised by `ROUNDING`: other batches, processors and graphs round differently, and a calibration
        image must not exceed itself there.
    map_calibration : MapCalibration or None
        None where the method has no anomaly map.

    Raises
    ------
    TrainingError
        If there is no score, or the scores do not differ.
    """
    scores: list[float] = []
    medians: list[float] = []
    maxima: list[float] = []
    for prediction in predictions:
        if prediction.score is None:
            continue
        scores.append(prediction.score)
        if prediction.anomaly_map is not None:
            medians.append(_lower_median(prediction.anomaly_map))
            maxima.append(float(prediction.anomaly_map.max()))
    maps = MapCalibration(np.array(medians), np.array(maxima), false_alarm_rate) if maxima else None
    return Calibration(np.array(scores) * (1 + ROUNDING), false_alarm_rate), maps


def joined_relative(products: Sequence[MapCalibration]) -> MapCalibration | None:
    """The calibration of maps that are divided by the map's threshold of their product; None without maps."""
    if not products:
        return None
    thresholds = [max(part.threshold, _TINY) for part in products]
    medians, maxima = (
        np.concatenate([values / threshold for values, threshold in zip(parts, thresholds, strict=True)])
        for parts in ([part.medians for part in products], [part.maxima for part in products])
    )
    return MapCalibration(medians, maxima, products[0].false_alarm_rate)


def _lower_median(anomaly_map: NDArray[np.float32]) -> float:
    """The median; of an even number of values the lower of the two in the middle."""
    middle = (anomaly_map.size - 1) // 2
    return float(np.partition(anomaly_map, middle, axis=None)[middle])
