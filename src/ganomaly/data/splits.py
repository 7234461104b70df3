"""Which normal images train and which are held out for calibration.

Where images come in groups, as those of one patient, the groups are drawn and not the images. Images of one patient
are alike: a network that trained on some of them gives the others lower scores than those of a new patient, and many
of them calibrate no better than one. What is exchangeable with the image of a new patient is one image of each
patient, so each group that calibrates does so with one image, drawn at random, and its others are left out
(Dunn, Wasserman, Ramdas, *Distribution-free prediction sets for two-layer hierarchical models*, 2023, section 3).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganomaly.errors import DataError

SMALLEST_DATASET = 10
"""Normal images; with fewer, neither training nor calibration means anything."""

SMALLEST_NUMBER_OF_GROUPS = 3
"""Groups, as patients; with fewer, none could calibrate while two thirds train."""

LARGEST_SHARE = 1 / 3
"""Of the normal images for calibration: training keeps at least two thirds."""


@dataclass(frozen=True, eq=False)
class TrainingSplit:
    """The normal images to train on and those that calibrate the threshold.

    Attributes
    ----------
    training, calibration : ndarray
        `int64[n]`, sorted indices into the dataset; no image is in both, and no group.
    n_groups : int or None
        How many groups the images form; None where none of them is in a group with others.
    """

    training: NDArray[np.int64]
    calibration: NDArray[np.int64]
    n_groups: int | None = None


def check_enough_images(n_images: int) -> None:
    """Raise `DataError` if this many normal images are too few to train and calibrate with."""
    if n_images < SMALLEST_DATASET:
        images = "image" if n_images == 1 else "images"
        raise DataError(
            f"found {n_images} normal {images} that can be read, but at least {SMALLEST_DATASET} are needed "
            "to train and to calibrate (some hundreds are better); add normal images"
        )


def split_normal_images(
    indices: NDArray[np.int64],
    *,
    share: float,
    at_least: int,
    seed: int,
    groups: Mapping[int, int] | None = None,
) -> TrainingSplit:
    """Draw the calibration images at random; the others train.

    With groups, those that calibrate are drawn, and one image of each; their other images are on neither side.

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
        The draw depends on it, on n and on the groups alone.
    groups : mapping of int to int, optional
        Group of each image, by its index; an image without one is a group of its own. `share` and `at_least` then
        count groups.

    Raises
    ------
    DataError
        With fewer than ten images, or three groups.
    """
    n_images = len(indices)
    check_enough_images(n_images)
    members = _members(indices, groups or {})
    if len(members) < n_images:
        return _split_groups(members, _n_calibration(len(members), share, at_least), seed)
    n_calibration = _n_calibration(n_images, share, at_least)
    order = np.random.default_rng([seed, n_images]).permutation(n_images)
    training, calibration = np.sort(order[n_calibration:]), np.sort(order[:n_calibration])
    return TrainingSplit(indices[training], indices[calibration])


def joined_split(splits: Sequence[TrainingSplit], groups: Mapping[int, int]) -> TrainingSplit:
    """The split of all products from those of each; a group that calibrates one product trains none of them."""
    training, calibration = (
        np.sort(np.concatenate(parts))
        for parts in ([split.training for split in splits], [split.calibration for split in splits])
    )
    calibrating = {groups[index] for index in calibration.tolist() if index in groups}
    stays = [groups.get(index, -1) not in calibrating for index in training.tolist()]
    is_grouped = any(split.n_groups is not None for split in splits)
    n_groups = len(set(groups.values())) if is_grouped else None  # a group may be of several products
    return TrainingSplit(training[np.array(stays, dtype=bool)], calibration, n_groups)


def _n_calibration(n: int, share: float, at_least: int) -> int:
    return min(max(math.ceil(share * n), at_least), int(LARGEST_SHARE * n))


def _members(indices: NDArray[np.int64], groups: Mapping[int, int]) -> list[list[int]]:
    """The images of each group, groups in the order of their first images."""
    members: dict[int, list[int]] = {}
    for index in indices.tolist():
        # groups are numbered from 0, so the negative numbers are free for images on their own
        members.setdefault(groups.get(index, -1 - index), []).append(index)
    return list(members.values())


def _split_groups(members: list[list[int]], n_calibration: int, seed: int) -> TrainingSplit:
    if len(members) < SMALLEST_NUMBER_OF_GROUPS:
        patients = "one patient" if len(members) == 1 else f"{len(members)} patients"
        raise DataError(
            f"all images are of {patients}, but at least {SMALLEST_NUMBER_OF_GROUPS} are needed, since images of one "
            "patient may not both train and calibrate; add other patients, or remove PatientID from the files if it "
            "is a placeholder: then studies are kept together"
        )
    generator = np.random.default_rng([seed, len(members)])
    order = generator.permutation(len(members))
    training = [index for number in order[n_calibration:] for index in members[number]]
    calibration = [int(generator.choice(members[number])) for number in order[:n_calibration]]
    return TrainingSplit(
        np.array(sorted(training), dtype=np.int64),
        np.array(sorted(calibration), dtype=np.int64),
        len(members),
    )
