"""Anomaly maps on disk."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganomaly.calibration import MapCalibration
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


class MapFolder:
    """A folder of anomaly maps at the user's image size, each with its heat over the image.

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

    Raises
    ------
    OutputError
        If the folder cannot be made.
    """

    def __init__(
        self, folder: str | Path, calibration: MapCalibration, file_format: MapFormat = "png"
    ) -> None:
        self.folder = Path(folder)
        self._calibration = calibration
        self._format = file_format
        self._taken: set[str] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot make the folder {folder} for maps: {error.strerror or error}"
            ) from error

    def write(self, path: str, anomaly_map: NDArray[np.float32], image: NDArray[np.uint8]) -> Path:
        """Write the map of one image, and the overlay; images of the same name in different folders get a number.

        Parameters
        ----------
        path : str
            Path of the image; its name is that of the map.
        anomaly_map : ndarray
            `float32[H, W]`.
        image : ndarray
            `uint8[H, W, C]`.

        Returns
        -------
        Path
            Of the map.
        """
        stem = Path(path).stem or "image"
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}_{number}"
        self._taken.add(name)
        target = self.folder / f"{name}.{self._format}"
        with written_whole(target) as part, part.open("wb") as file:
            if self._format == "npy":
                np.save(file, anomaly_map, allow_pickle=False)
            else:
                gray = np.rint(np.clip(self._calibration.level(anomaly_map) / 2, 0, 1) * 65535)
                Image.fromarray(gray.astype(np.uint16)).save(file, "PNG")
        with written_whole(self.folder / f"{name}_overlay.png") as part, part.open("wb") as file:
            Image.fromarray(overlay(image, anomaly_map, self._calibration)).save(file, "PNG")
        return target
