"""What is learned and what is told apart: the data sets of the publications, one class against the rest.

Source of the protocol: Akcay, Atapour-Abarghouei, Breckon, *GANomaly*, ACCV 2018, "Experimental Setup".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganomaly.data import (
    CIFAR10_NAMES,
    ImageArrays,
    ImageDataset,
    load_labelled_arrays,
    open_test_images,
    open_training_images,
)
from ganomaly.data.baggage import THREAT_KINDS, write_simulated_baggage
from ganomaly.errors import UsageError

ARRAYS = ("mnist", "cifar10")
BAGGAGE = "baggage"
OVERALL = "overall"
WHOLE_WEAPON = "whole weapon"
_BAGGAGE_TRAIN, _BAGGAGE_TEST_NORMAL, _BAGGAGE_TEST_PER_THREAT = 4000, 1000, 500  # images


@dataclass(frozen=True, eq=False)
class Problem:
    """Normal images to learn from, and labelled images to tell apart.

    Attributes
    ----------
    train : ImageDataset
        Normal images.
    test : ImageDataset
        Normal and anomalous images.
    classes : mapping of str to ndarray
        For each class that counts as anomalous, `float[N]` over the test images: 1 is anomalous, 0 normal, NaN plays
        no part in it.
    """

    train: ImageDataset
    test: ImageDataset
    classes: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Source:
    """A data set on disk.

    Parameters
    ----------
    name : str
        `mnist`, `cifar10`, `baggage`, or what to call a folder in MVTec AD layout.
    folder : Path
        Where it is; for `baggage` where the simulated images shall be, unless it is a data set folder already.
        Simulated are both of the publication's data sets: UBA with its kinds of threat, and FFOB with whole weapons.
    """

    name: str
    folder: Path

    def groups(self, wanted: Sequence[str] | None) -> list[tuple[str, ...]]:
        """Classes that count as anomalous, in groups that share one training.

        Parameters
        ----------
        wanted : sequence of str, optional
            Names or numbers of classes; all if left out.

        Raises
        ------
        UsageError
            If a class is not there; it names those that are.
        """
        if self.name in ARRAYS:
            return [(name,) for name in self._chosen(wanted, _array_classes(self.name))]
        if self._simulated:
            known = [*THREAT_KINDS, OVERALL, WHOLE_WEAPON]
            chosen = self._chosen(wanted, known)
            parts = [
                tuple(name for name in chosen if (name == WHOLE_WEAPON) is whole) for whole in (False, True)
            ]
            return [part for part in parts if part]
        kinds = [*sorted(_folder_kinds(self.folder)), OVERALL]
        return [tuple(self._chosen(wanted, kinds))]

    def problem(self, group: Sequence[str]) -> Problem:
        """The images for a group of classes."""
        if self.name in ARRAYS:
            return _one_against_rest(self.name, self.folder, group[0])
        folder = self._simulation(group) if self._simulated else self.folder
        test = open_test_images(str(folder))
        kinds = np.array([record.kind or "" for record in test.records])
        anomalous = np.array([bool(record.is_anomalous) for record in test.records])
        classes = {
            name: np.where(
                anomalous,
                1.0 if name in (OVERALL, WHOLE_WEAPON) else np.where(kinds == name, 1.0, np.nan),
                0.0,
            )
            for name in group
        }
        return Problem(open_training_images(str(folder)), test, classes)

    def prepare(self, group: Sequence[str]) -> None:
        """Simulate the images of a group if they are to be simulated and are not there yet."""
        if self._simulated:
            self._simulation(group)

    @property
    def _simulated(self) -> bool:
        return self.name == BAGGAGE and not (self.folder / "train").is_dir()

    def _simulation(self, group: Sequence[str]) -> Path:
        """The folder with the simulated images of a group; it is made when it is asked for first."""
        whole = WHOLE_WEAPON in group
        folder = self.folder / ("simulated_whole_weapons" if whole else "simulated_baggage")
        if not (folder / "train").is_dir():  # what comes to lie there last
            self.folder.mkdir(parents=True, exist_ok=True)
            write_simulated_baggage(
                folder,
                kind="whole weapons" if whole else "patches",
                n_train=_BAGGAGE_TRAIN,
                n_test_normal=_BAGGAGE_TEST_NORMAL,
                n_test_per_threat=_BAGGAGE_TEST_PER_THREAT,
                seed=0,
            )
        return folder

    def _chosen(self, wanted: Sequence[str] | None, known: Sequence[str]) -> list[str]:
        if wanted is None:
            return list(known)
        by_number = {str(number): name for number, name in enumerate(known)} if self.name in ARRAYS else {}
        chosen = [name if name in known else by_number.get(name, "") for name in wanted]
        if "" in chosen:
            missing = wanted[chosen.index("")]
            raise UsageError(f"there is no class {missing!r} in {self.name}; there are: {', '.join(known)}")
        return chosen


def _array_classes(name: str) -> tuple[str, ...]:
    return CIFAR10_NAMES if name == "cifar10" else tuple("0123456789")


def _folder_kinds(folder: Path) -> set[str]:
    found = {record.kind for record in open_test_images(str(folder)).records if record.is_anomalous}
    return {kind for kind in found if kind is not None}


def _one_against_rest(name: str, folder: Path, anomaly_class: str) -> Problem:
    """Train on the other nine; test on their test images and on every image of the class."""
    (train, train_labels), (test, test_labels) = _splits(name, folder)
    is_class, is_class_in_test = train_labels == anomaly_class, test_labels == anomaly_class
    everything = np.concatenate([test, train[is_class]])
    truth = np.concatenate([is_class_in_test, np.ones(int(is_class.sum()), bool)]).astype(np.float64)
    return Problem(ImageArrays(train[~is_class]), ImageArrays(everything), {anomaly_class: truth})


@lru_cache(maxsize=1)
def _splits(
    name: str, folder: Path
) -> tuple[tuple[NDArray[np.uint8], NDArray[np.str_]], tuple[NDArray[np.uint8], NDArray[np.str_]]]:
    """Both splits with the classes' names as labels; kept, since each class of a grid needs them."""
    found = []
    for split in ("train", "test"):
        arrays = load_labelled_arrays(folder, split)
        names = np.array(_array_classes(name))
        labels = arrays.labels
        if np.char.isdigit(labels).all():
            labels = names[labels.astype(np.int64)]
        found.append((arrays.images, labels))
    return found[0], found[1]
