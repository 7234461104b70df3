"""Which normal images train and which are held out for calibration."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganomaly.errors import DataError

SMALLEST_DATASET = 10
"""Normal images; with fewer, neither training nor calibration means anything."""

LARGEST_SHARE = 1 / 3
"""Of the normal images for calibration: training keeps at least two thirds."""


@dataclass(frozen=True, eq=False)
class TrainingSplit:
    """The normal images to train on and those that calibrate the threshold.

    Attributes
    ----------
    training, calibration : ndarray
        `int64[n]`, sorted indices into the dataset; no image is in both.
    """

    training: NDArray[np.int64]
    calibration: NDArray[np.int64]


def check_enough_images(n_images: int) -> None:
    """Raise `DataError` if this many normal images are too few to train and calibrate with."""
    if n_images < SMALLEST_DATASET:
        images = "image" if n_images == 1 else "images"
        raise DataError(
            f"found {n_images} normal {images} that can be read, but at least {SMALLEST_DATASET} are needed "
            "to train and to calibrate (some hundreds are better); add normal images"
        )


def split_normal_images(
    indices: NDArray[np.int64], *, share: float, at_least: int, seed: int
) -> TrainingSplit:
    """Draw the calibration images at random; the others train.

    Parameters
    ----------
    indices : ndarray
        `int64[n]`, sorted, of the normal images in their dataset.
    share : float
        Share of them that calibrates.
    at_least : int
        Number of calibration images needed, which may be more than the share gives. In any case at most a third
        of the images calibrate.
    seed : int
        The draw depends on it and on n alone.

    Raises
    ------
    DataError
        With fewer than ten images.
    """
    n_images = len(indices)
    check_enough_images(n_images)
    n_calibration = min(max(math.ceil(share * n_images), at_least), int(LARGEST_SHARE * n_images))
    order = np.random.default_rng([seed, n_images]).permutation(n_images)
    training, calibration = np.sort(order[n_calibration:]), np.sort(order[:n_calibration])
    return TrainingSplit(indices[training], indices[calibration])
