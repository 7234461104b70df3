"""Anomaly maps on disk."""

import os
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganomaly.calibration.conformal import MapCalibration
from ganomaly.errors import OutputError
from ganomaly.files import written_whole
from ganomaly.outputs.heat import overlay

MapFormat = Literal["png", "npy"]


def at_image_size(anomaly_map: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Bring a map from the network's size to that of the user's image, `float32[height, width]`, bilinearly."""
    resized = Image.fromarray(anomaly_map.astype(np.float32, copy=False)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    return np.asarray(resized, dtype=np.float32)


class ImageFolders:
    """Which folders images lie in, so that maps can lie as they do, and never on them.

    Parameters
    ----------
    paths : iterable of str
        Of the images.

    Attributes
    ----------
    root : Path or None
        Absolute folder that all of them lie in or below; None if there is none, as on two drives.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        as_given, real = set(), set()
        for path in paths:
            as_given.add(_absolute(path).parent)
            real.add(Path(os.path.realpath(path)).parent)
        self._as_given = as_given
        # a map would replace an image, or what an image that is a link leads to
        self._places = {_place(folder) for folder in as_given | real}
        try:
            self.root: Path | None = Path(os.path.commonpath(as_given))
        except ValueError:
            self.root = None

    def would_hold_maps(self, folder: Path) -> bool:
        """Whether maps below a folder, laid as the images are, would come to lie in a folder of images."""
        inner = [Path() if self.root is None else each.relative_to(self.root) for each in self._as_given]
        return any(_place(folder / each) in self._places for each in inner)


def _absolute(path: str) -> Path:
    """An absolute path without `..`, and with links as they are: `Path.resolve` would follow them."""
    return Path(os.path.normpath(Path(path).absolute()))


def _place(folder: Path) -> tuple[int, int] | Path:
    """What tells a folder from others, whatever it is called, as in another case."""
    folder = folder.resolve()
    try:
        found = folder.stat()
    except OSError:  # not there yet
        return folder
    return found.st_dev, found.st_ino


class MapFolder:
    """A folder of anomaly maps at the user's image size, each with its heat over the image.

    Maps lie below it as their images lie below `root`: that of `root/a/7.jpg` is `a/7.png`, that of the row
    `root/train.parquet#7` is `train_7.png`.

    As `png` a map is 16 bit gray: 0 is what is usual in normal images or less, 32,768 is the map's threshold, 65,535
    is twice as far above; as `npy` it is `float32[H, W]`, the method's own numbers. The overlay is
    `<name>_overlay.png`.

    Parameters
    ----------
    folder : str or Path
        Made if it is missing.
    calibration : MapCalibration
        What is usual in a map, and what is not.
    file_format : {'png', 'npy'}
        Of the maps.
    root : Path, optional
        Absolute folder that all images lie in or below. Without it their folders do not count.

    Raises
    ------
    OutputError
        If the folder cannot be made.
    """

    def __init__(
        self,
        folder: str | Path,
        calibration: MapCalibration,
        file_format: MapFormat = "png",
        root: Path | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._calibration = calibration
        self._format = file_format
        self._root = root
        self._taken: set[PurePath] = set()
        self._same: dict[PurePath, int] = {}  # how many images asked for a name
        _make(self.folder)

    def write(self, path: str, anomaly_map: NDArray[np.float32], image: NDArray[np.uint8]) -> Path:
        """Write the map of one image, and the overlay; a name that is taken, as by 7.png for 7.jpg, gets a number.

        Parameters
        ----------
        path : str
            Path of the image.
        anomaly_map : ndarray
            `float32[H, W]`.
        image : ndarray
            `uint8[H, W, C]`.

        Returns
        -------
        Path
            Of the map.
        """
        name, overlaid = self._names(path)
        target = self.folder / name.with_name(f"{name.name}.{self._format}")
        _make(target.parent)
        with written_whole(target) as part, part.open("wb") as file:
            if self._format == "npy":
                np.save(file, anomaly_map, allow_pickle=False)
            else:
                gray = np.rint(np.clip(self._calibration.level(anomaly_map) / 2, 0, 1) * 65535)
                Image.fromarray(gray.astype(np.uint16)).save(file, "PNG")
        with written_whole(self.folder / f"{overlaid}.png") as part, part.open("wb") as file:
            Image.fromarray(overlay(image, anomaly_map, self._calibration)).save(file, "PNG")
        return target

    def _names(self, path: str) -> tuple[PurePath, PurePath]:
        """What map and overlay of an image are called, without endings, below the folder."""
        image = _absolute(path)
        image = Path(image.name) if self._root is None else image.relative_to(self._root)
        row = image.suffix.partition("#")[2]  # of parquet
        wanted = image.with_name(f"{image.stem}_{row}" if row else image.stem)
        while True:
            self._same[wanted] = number = self._same.get(wanted, 0) + 1
            name = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
            names = name, name.with_name(f"{name.name}_overlay")
            if self._taken.isdisjoint(names):
                self._taken.update(names)
                return names


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder} for maps: {error.strerror or error}") from error
