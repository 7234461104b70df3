"""The data sets of the publications and their tasks: one class, or one kind of threat, against normal images.

Source of the protocol: Akcay, Atapour-Abarghouei, Breckon, *GANomaly*, ACCV 2018, "Experimental Setup".
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ganomaly.benchmark.elpv import find_elpv, split_elpv
from ganomaly.config import SEED
from ganomaly.data import (
    CIFAR10_NAMES,
    ImageArrays,
    ImageDataset,
    check_labelled_arrays,
    load_labelled_arrays,
    open_test_images,
    open_training_images,
)
from ganomaly.data.baggage import THREAT_KINDS, write_simulated_baggage
from ganomaly.errors import DataError, UsageError
from ganomaly.files import make_folder
from ganomaly.locks import locked_file
from ganomaly.remote import Location, RemoteFile
from ganomaly.remote.transfer import named_as

ARRAYS = ("mnist", "cifar10")
BAGGAGE = "baggage"
ELPV = "elpv"
WITHOUT_FOLDER = (BAGGAGE, ELPV)
"""Data sets that are simulated, or come with a package."""
OVERALL = "overall"
WHOLE_WEAPON = "whole weapon"
NAMES = (*ARRAYS, *WITHOUT_FOLDER)
"""Data sets with a name of their own; other names are those of folders."""
_BAGGAGE_TRAIN, _BAGGAGE_TEST_NORMAL, _BAGGAGE_TEST_PER_THREAT = 4000, 1000, 500  # images


@dataclass(frozen=True, eq=False)
class Task:
    """Normal training images, and labelled test images.

    Attributes
    ----------
    train : ImageDataset
        Normal images.
    test : ImageDataset
        Normal and anomalous images.
    labels : mapping of str to ndarray
        For each class that counts as anomalous `float[N]` over the test images: 1 anomalous, 0 normal, NaN not part
        of its test set.
    """

    train: ImageDataset
    test: ImageDataset
    labels: Mapping[str, NDArray[np.float64]]


def check_dataset_name(name: str, folder: Location | None) -> None:
    """Raise `UsageError` for a name that needs a folder and has none, or one in another layout, as after a typo.

    The layout of a folder in a store is not looked at: who lists it calls `check_layout`.
    """
    if name in WITHOUT_FOLDER:
        return
    if folder is None:
        named = f"the dataset {name}" if name in NAMES else f"{name}, which is none of {', '.join(NAMES)},"
        raise UsageError(f"{named} needs --data FOLDER")
    if not isinstance(folder, RemoteFile) and folder.is_dir():
        check_layout(name, folder, {part for part in ("train", "test") if (folder / part).is_dir()})


def check_layout(name: str, folder: Location, subfolders: Collection[str]) -> None:
    """Raise `UsageError` if a folder with these subfolders is not in the layout that its data set must have."""
    if name not in NAMES and not {"train", "test"}.issubset(subfolders):
        raise UsageError(
            f"there is no dataset {name!r}: the names are {', '.join(NAMES)}, and with any other name --data must be "
            f"a folder in MVTec AD layout, with train/good and test/<kind>, which {folder} is not"
        )


@dataclass(frozen=True)
class BenchmarkDataset:
    """A data set on disk, or one that is simulated.

    Parameters
    ----------
    name : str
        `mnist`, `cifar10`, `baggage`, `elpv`, or what to call a folder in MVTec AD layout.
    folder : Path
        Where it is; not used for `elpv`, which is found where its package is installed. For `baggage` the folder for
        the simulated images, unless it is a data set folder itself. Both of the publication's data sets are
        simulated: UBA with its kinds of threat, and FFOB with whole weapons.
    source : RemoteFile or None
        The folder in a store that `folder` is a copy of, if it is one.
    """

    name: str
    folder: Path
    source: RemoteFile | None = None

    @contextmanager
    def named_as_given(self) -> Iterator[None]:
        """Errors of the block name the folder in the store, not its copy.

        Raises
        ------
        DataError
            If the copy is missing, as on another machine than that of the command.
        """
        if self.source is None:
            yield
            return
        if not self.folder.is_dir():
            raise DataError(
                f"{self.source} was copied to the machine of the command, and this one has no copy; let --data be a "
                "folder that all machines share"
            )
        with named_as(self.folder, self.source):
            yield

    def class_groups(self, classes: Sequence[str] | None) -> list[tuple[str, ...]]:
        """Classes that count as anomalous, in groups that share one training.

        Parameters
        ----------
        classes : sequence of str, optional
            Names or numbers of classes; all if left out.

        Raises
        ------
        UsageError
            If there is no such class; it names those that there are. If the files of the data set are missing.
        """
        if self.name in ARRAYS:
            check_labelled_arrays(self.folder)
            return [(name,) for name in self._select(classes, _array_classes(self.name))]
        if self._is_simulated:
            selected = self._select(classes, [*THREAT_KINDS, OVERALL, WHOLE_WEAPON])
            groups = [
                tuple(name for name in selected if (name == WHOLE_WEAPON) is whole) for whole in (False, True)
            ]
            return [group for group in groups if group]
        if self.name == ELPV:
            find_elpv()
            return [tuple(self._select(classes, [OVERALL]))]
        kinds = [*sorted(_folder_kinds(self.folder)), OVERALL]
        return [tuple(self._select(classes, kinds))]

    def task(self, classes: Sequence[str], seed: int = SEED) -> Task:
        """The images and labels for a group of classes.

        Parameters
        ----------
        classes : sequence of str
            One of `class_groups`.
        seed : int
            Splits the normal images of a data set that has no split of its own.
        """
        if self.name in ARRAYS:
            return _one_against_rest(self.name, self.folder, classes[0])
        if self.name == ELPV:
            train, cells = split_elpv(find_elpv(), seed)
            is_defective = np.array([bool(record.is_anomalous) for record in cells.records])
            return Task(train, cells, {OVERALL: is_defective.astype(np.float64)})
        folder = self._simulate(classes) if self._is_simulated else self.folder
        test = open_test_images(str(folder))
        kinds = np.array([record.kind or "" for record in test.records])
        is_anomalous = np.array([bool(record.is_anomalous) for record in test.records])
        labels = {
            name: np.where(
                is_anomalous,
                1.0 if name in (OVERALL, WHOLE_WEAPON) else np.where(kinds == name, 1.0, np.nan),
                0.0,
            )
            for name in classes
        }
        return Task(open_training_images(str(folder)), test, labels)

    def simulate_if_missing(self, classes: Sequence[str]) -> None:
        """Simulate the images for a group of classes, if they are simulated and not on disk yet."""
        if self._is_simulated:
            self._simulate(classes)
            # removes the lock of a run that was killed when the images were complete
            with locked_file(self._simulated_folder(classes), "ganomaly benchmark"):
                pass

    @property
    def _is_simulated(self) -> bool:
        return self.name == BAGGAGE and not (self.folder / "train").is_dir()

    def _simulate(self, classes: Sequence[str]) -> Path:
        """The folder with the simulated images for a group of classes, which the first call makes."""
        folder = self._simulated_folder(classes)
        if not (folder / "train").is_dir():  # written last
            make_folder(self.folder)
            write_simulated_baggage(
                folder,
                kind="whole weapons" if WHOLE_WEAPON in classes else "patches",
                n_train=_BAGGAGE_TRAIN,
                n_test_normal=_BAGGAGE_TEST_NORMAL,
                n_test_per_threat=_BAGGAGE_TEST_PER_THREAT,
                seed=0,
            )
        return folder

    def _simulated_folder(self, classes: Sequence[str]) -> Path:
        return self.folder / ("simulated_whole_weapons" if WHOLE_WEAPON in classes else "simulated_baggage")

    def _select(self, classes: Sequence[str] | None, available: Sequence[str]) -> list[str]:
        if classes is None:
            return list(available)
        by_number = (
            {str(number): name for number, name in enumerate(available)} if self.name in ARRAYS else {}
        )
        selected = [name if name in available else by_number.get(name, "") for name in classes]
        if "" in selected:
            missing = classes[selected.index("")]
            raise UsageError(
                f"there is no class {missing!r} in {self.name}; there are: {', '.join(available)}"
            )
        return selected


class _Split(NamedTuple):
    images: NDArray[np.uint8]  # [N, H, W, C]
    classes: NDArray[np.str_]  # [N]


def _array_classes(name: str) -> tuple[str, ...]:
    return CIFAR10_NAMES if name == "cifar10" else tuple("0123456789")


def _folder_kinds(folder: Path) -> set[str]:
    records = open_test_images(str(folder)).records
    return {record.kind for record in records if record.is_anomalous and record.kind is not None}


def _one_against_rest(name: str, folder: Path, anomaly_class: str) -> Task:
    """Train on the other nine; test on their test images and on every image of the class."""
    train, test = _load_splits(name, folder)
    is_anomalous = train.classes == anomaly_class
    images = np.concatenate([test.images, train.images[is_anomalous]])
    labels = np.concatenate([test.classes == anomaly_class, np.ones(int(is_anomalous.sum()), bool)])
    return Task(
        ImageArrays(train.images[~is_anomalous]),
        ImageArrays(images),
        {anomaly_class: labels.astype(np.float64)},
    )


@lru_cache(maxsize=1)
def _load_splits(name: str, folder: Path) -> tuple[_Split, _Split]:
    """The training and the test split with the names of their classes; cached, since all cells of a grid use them."""
    return _load_split(name, folder, "train"), _load_split(name, folder, "test")


def _load_split(name: str, folder: Path, split: str) -> _Split:
    arrays = load_labelled_arrays(folder, split)
    classes = arrays.labels
    if np.char.isdigit(classes).all():
        classes = np.array(_array_classes(name))[classes.astype(np.int64)]
    return _Split(arrays.images, classes)
