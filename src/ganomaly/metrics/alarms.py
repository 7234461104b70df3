"""Whether there are more false alarms than the calibration promises."""


def chance_of_alarms(n_alarms: int, n_normal: int, n_above: int, n_calibration: int) -> float:
    """How likely chance alone gives as many false alarms, where test and calibration images are exchangeable.

    Source: of m exchangeable scores, those above the (k + 1)-th largest of n others are beta-binomial, with k + 1 and
    n − k.

    Parameters
    ----------
    n_alarms, n_normal : int
        Normal test images above the threshold, and all of them.
    n_above, n_calibration : int
        Calibration images above the threshold, and all of them; one at least is not above it.

    Returns
    -------
    float
        From 0 to 1.
    """
    from scipy.stats import betabinom

    return float(betabinom.sf(n_alarms - 1, n_normal, n_above + 1, n_calibration - n_above))
