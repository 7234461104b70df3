"""Anomaly maps on disk."""

import os
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from pathlib import Path, PurePath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ganomaly.calibration import MapCalibration
from ganomaly.config import MAP_FORMAT, MapFormat
from ganomaly.data import ImageDataset
from ganomaly.data.large_images import one_large_image
from ganomaly.data.readers.physical_values import ValueRange
from ganomaly.errors import ImageError, UsageError
from ganomaly.files import make_folder, written_whole
from ganomaly.output_checks import MAP, PNG_SOFTWARE, check_replaceable
from ganomaly.outputs.heat import blended_with_heat, to_8_bit
from ganomaly.outputs.secondary_capture import source_of_capture, write_capture
from ganomaly.prediction import Prediction
from ganomaly.remote import Location, RemoteFile, list_files, location

OVERLAY = "_overlay"


class MapFolder:
    """A folder of anomaly maps at the size of the user's images, each with an overlay on its image.

    Maps keep the folder structure of their images below `root`: the map of `root/a/7.jpg` is `a/7.png`, that of the
    row `root/train.parquet#7` is `train_7.png`. The overlay is `<name>_overlay.png`.

    A `png` map is 16-bit gray: 0 is the level of normal images, 32,768 the map's threshold, 65,535 twice as far
    above. An `npy` map is `float32[H, W]`, the method's own numbers. A `dcm` map is the overlay as a DICOM Secondary
    Capture, see `secondary_capture`.

    Parameters
    ----------
    folder : str, Path or RemoteFile
        Made if it is missing.
    calibration : MapCalibration
        The scale of the maps.
    file_format : {'png', 'npy', 'dcm'}
        Format of the maps.
    root : Path, optional
        Absolute folder that contains all images. Without it their folders are ignored.

    Raises
    ------
    OutputError
        If the folder cannot be made.
    """

    def __init__(
        self,
        folder: str | Location,
        calibration: MapCalibration,
        file_format: MapFormat = MAP_FORMAT,
        root: Path | None = None,
    ) -> None:
        self.folder = location(folder)
        self._calibration = calibration
        self._format = file_format
        self._root = root
        self._taken: set[PurePath] = set()
        self._requests: dict[PurePath, int] = {}  # images so far that would have a name
        make_folder(self.folder, " for maps")

    def write(
        self, prediction: Prediction, image: NDArray[np.uint8], source: tuple[Any, int] | None = None
    ) -> Location:
        """Write map and overlay of one prediction; a name that is taken, as by 7.png for 7.jpg, gets a number.

        Parameters
        ----------
        prediction : Prediction
            With its anomaly map.
        image : ndarray
            `uint8[H, W, C]`, the user's image.
        source : tuple, optional
            Of `dcm` maps: what `source_of_capture` gives for the image.

        Returns
        -------
        Path or RemoteFile
            Of the map.

        Raises
        ------
        UsageError
            If the prediction has no map, or a `dcm` map no source.
        OutputError
            If a file cannot be written.
        """
        if prediction.anomaly_map is None:
            raise UsageError(f"the prediction of {prediction.path} has no anomaly map; predict with details")
        map_name, overlay_name = self._names(prediction.path)
        if self._format == "dcm" and source is None:
            raise UsageError(f"a dcm map of {prediction.path} needs the source of its image")
        target = self.folder / map_name.with_name(f"{map_name.name}.{self._format}")
        make_folder(target.parent, " for maps")
        # the overlay first: by it the next run knows an array as its own
        overlay = self._overlay(prediction, image)
        with written_whole(self.folder / f"{overlay_name}.png") as part, part.open("wb") as file:
            _save_png(overlay, file)
        with written_whole(target) as part, part.open("wb") as file:
            if self._format == "dcm" and source is not None:
                write_capture(file, np.asarray(overlay), *source)
            elif self._format == "npy":
                header = {
                    "descr": "<f4",
                    "fortran_order": False,
                    "shape": (prediction.height, prediction.width),
                }
                np.lib.format.write_array_header_1_0(file, header)
                for _, anomaly_map in prediction.map_strips():
                    file.write(anomaly_map.astype("<f4", copy=False).tobytes())
            else:
                _save_png(self._gray(prediction), file)
        return target

    def draw_all(
        self,
        predictions: Iterable[Prediction],
        dataset: ImageDataset,
        white_level: int,
        value_range: ValueRange | None = None,
    ) -> Iterator[Prediction]:
        """Write map and overlay of each prediction without an error.

        Parameters
        ----------
        predictions : iterable of Prediction
            With their anomaly maps.
        dataset : ImageDataset
            Their images.
        white_level : int
            Of 16-bit images: the value that is white.
        value_range : (float, float), optional
            Of images with physical values: those that are black and white.

        Yields
        ------
        Prediction
            The same, or one with an error where the image can no longer be read, or does not fit in memory beside its
            map.
        """
        for prediction in predictions:
            if prediction.error:
                yield prediction
            else:
                yield self._drawn(prediction, dataset, white_level, value_range)

    def _drawn(
        self,
        prediction: Prediction,
        dataset: ImageDataset,
        white_level: int,
        value_range: ValueRange | None,
    ) -> Prediction:
        try:
            with one_large_image(prediction.height, prediction.width):
                source = None
                if self._format == "dcm":
                    with dataset.open(prediction.index) as encoded:
                        source = source_of_capture(encoded)
                image = to_8_bit(dataset.read(prediction.index, value_range=value_range), white_level)
                self.write(prediction, image, source)
        except ImageError as error:
            return Prediction(prediction.index, prediction.path, f"its map cannot be drawn: {error}")
        except MemoryError:
            return Prediction(
                prediction.index,
                prediction.path,
                f"its map cannot be drawn: {PurePath(prediction.path).name} does not fit into memory; scale it down",
            )
        return prediction

    def _overlay(self, prediction: Prediction, image: NDArray[np.uint8]) -> Image.Image:
        """The overlay, drawn in strips: at the size of a large image, floating point does not fit in memory."""
        highest = max(float(self._calibration.level(values).max()) for _, values in prediction.map_strips())
        drawn = Image.new("RGB", (prediction.width, prediction.height))
        for rows, values in prediction.map_strips():
            strip = blended_with_heat(image[rows], self._calibration.level(values), highest)
            drawn.paste(Image.fromarray(strip), (0, rows.start))
        return drawn

    def _gray(self, prediction: Prediction) -> Image.Image:
        """The map as 16-bit gray, in strips too."""
        gray = np.empty((prediction.height, prediction.width), np.uint16)
        for rows, values in prediction.map_strips():
            gray[rows] = np.rint(np.clip(self._calibration.level(values) / 2, 0, 1) * 65535)
        return Image.fromarray(gray)

    def check_replaceable(self, paths: Iterable[str]) -> None:
        """Raise `UsageError` if maps or overlays of these images would replace files that this package did not write.

        Parameters
        ----------
        paths : iterable of str
            Of the images, in the order in which they will be written.
        """
        existing = _existing(self.folder)
        if existing is not None and not existing:
            return
        names = copy(self)
        names._taken, names._requests = set(), {}
        for path in paths:
            map_name, overlay_name = names._names(path)
            for name in (f"{map_name}.{self._format}", f"{overlay_name}.png"):
                if existing is None or name in existing:
                    check_replaceable(self.folder / name, MAP)

    def count_others(self) -> int:
        """Overlays in the folder that are not of images written so far."""
        ending = f"{OVERLAY}.png"
        if isinstance(self.folder, Path):
            there = (str(path.relative_to(self.folder)) for path in self.folder.rglob(f"*{ending}"))
        else:
            there = (stored.name for stored in list_files(self.folder) if stored.name.endswith(ending))
        return sum(PurePath(name.removesuffix(".png")) not in self._taken for name in there)

    def _names(self, path: str) -> tuple[PurePath, PurePath]:
        """Names of map and overlay of an image, without suffix, relative to the folder."""
        image = _absolute(path)
        image = Path(image.name) if self._root is None else image.relative_to(self._root)
        row = image.suffix.partition("#")[2]  # of parquet
        stem = image.with_name(f"{image.stem}_{row}" if row else image.stem)
        while True:
            self._requests[stem] = number = self._requests.get(stem, 0) + 1
            name = stem if number == 1 else stem.with_name(f"{stem.name}_{number}")
            names = name, name.with_name(f"{name.name}{OVERLAY}")
            if self._taken.isdisjoint(names):
                self._taken.update(names)
                return names


def _save_png(image: Image.Image, file: IO[bytes]) -> None:
    software = PngInfo()
    software.add_text("Software", PNG_SOFTWARE)
    image.save(file, "PNG", pnginfo=software)


def maps_root(folder: Location, paths: Iterable[str], inputs: Sequence[Location] = ()) -> Path | None:
    """Folder that contains all images, so that maps can keep their structure below it.

    Parameters
    ----------
    folder : Path or RemoteFile
        Where the maps will be written.
    paths : iterable of str
        Of the images.
    inputs : sequence of Path or RemoteFile
        Files and folders that the user named.

    Returns
    -------
    Path or None
        Absolute; None if there is no such folder, as on two drives.

    Raises
    ------
    UsageError
        If maps would be written among the images, or would count as images the next time.
    """
    parents, real_parents = set(), set()
    for path in paths:
        parents.add(_absolute(path).parent)
        real_parents.add(Path(os.path.realpath(path)).parent)
    try:
        root = Path(os.path.commonpath(parents))
    except ValueError:
        root = None
    subfolders = [Path() if root is None else parent.relative_to(root) for parent in parents]
    if isinstance(folder, RemoteFile):
        _check_not_among(folder, inputs)
        return root
    # a map could replace an image, or the target of a link to an image
    image_folders = {_identity(parent) for parent in parents | real_parents}
    if any(_identity(folder / subfolder) in image_folders for subfolder in subfolders):
        raise UsageError(f"maps in {folder} would be written among the images; name another folder")
    resolved = folder.resolve()
    for given in inputs:
        if isinstance(given, Path) and given.is_dir() and resolved.is_relative_to(given.resolve()):
            raise UsageError(
                f"maps in {folder} would count as images of {given} next time; name another folder"
            )
    return root


def _check_not_among(folder: RemoteFile, inputs: Sequence[Location]) -> None:
    """Raise `UsageError` if maps in a store would be written to a folder of images there, or below it."""
    for given in inputs:
        if isinstance(given, RemoteFile) and f"{folder}/".startswith(f"{given}/"):
            raise UsageError(
                f"maps in {folder} would count as images of {given} next time; name another folder"
            )


def _existing(folder: Location) -> frozenset[str] | None:
    """Names below a folder of a store; None for a local folder that is not empty, where each file is looked at."""
    if isinstance(folder, RemoteFile):
        return frozenset(stored.name for stored in list_files(folder))
    return None if any(folder.iterdir()) else frozenset()


def _absolute(path: str) -> Path:
    """An absolute path without `..`; links stay, which `Path.resolve` would follow."""
    return Path(os.path.normpath(Path(path).absolute()))


def _identity(folder: Path) -> tuple[int, int] | Path:
    """The same value for all names of a folder, such as names in another case."""
    folder = folder.resolve()
    try:
        status = folder.stat()
    except OSError:  # it does not exist yet
        return folder
    return status.st_dev, status.st_ino
