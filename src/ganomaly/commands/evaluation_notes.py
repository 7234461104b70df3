"""What `ganomaly evaluate` tells a user to doubt: more false alarms than chance explains, or nothing found."""

from ganomaly.calibration import Calibration, ProductCalibration
from ganomaly.commands.console import Console
from ganomaly.metrics import Evaluation, chance_of_alarms

UNLIKELY = 0.05  # chance of as many false alarms, below which a note says so


def warn_of_evaluation(
    console: Console, evaluation: Evaluation, calibration: Calibration | ProductCalibration
) -> None:
    """Print what the figures of an evaluation do not say by themselves."""
    if not isinstance(calibration, ProductCalibration):  # which has a threshold for each product
        _warn_of_alarms(console, evaluation, calibration)
        _warn_of_misses(console, evaluation, calibration)
    if evaluation.n_anomalous == 0:
        console.warn(
            "no image is labelled as anomalous, so false alarms alone are counted; images that the model was fitted "
            "with raise fewer than new ones"
        )


def _warn_of_alarms(console: Console, evaluation: Evaluation, calibration: Calibration) -> None:
    """Say so where there are more false alarms than chance explains."""
    if evaluation.false_alarm_rate is None:
        return
    n, scores = evaluation.n_normal, calibration.scores
    n_alarms = round(evaluation.false_alarm_rate * n)
    chance = chance_of_alarms(n_alarms, n, int((scores > calibration.threshold).sum()), len(scores))
    if chance < UNLIKELY:
        console.warn(
            f"{n_alarms} of {n} normal images are above the threshold, where about "
            f"{calibration.attained_rate * n:.2g} were to be expected (by chance so many in {chance:.1%} of cases): "
            "these images score higher than those that the model was calibrated with, as those of another lot, lamp "
            "or day do; `ganomaly update` with normal images like these, or fit with them"
        )


def _warn_of_misses(console: Console, evaluation: Evaluation, calibration: Calibration) -> None:
    """Say what can be done where no anomalous image is found."""
    if evaluation.detection_rate != 0:
        return
    remedy = "a higher false-alarm rate finds more"
    *lower, highest = calibration.scores[-2:]  # in ascending order
    if lower and calibration.threshold > lower[0]:
        remedy = (
            f"one calibration image sets it, at {highest:.4g}, where the next has {lower[0]:.4g}: look whether one "
            "of the normal images shows a defect, or ask for a higher false-alarm rate"
        )
    console.warn(f"no anomalous image is above the threshold of {calibration.threshold:.4g}; {remedy}")
