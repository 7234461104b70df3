"""Anomaly maps on disk."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganomaly.errors import OutputError
from ganomaly.files import written_whole


def at_image_size(anomaly_map: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Bring a map from the network's size to that of the user's image, `float32[height, width]`, bilinearly."""
    resized = Image.fromarray(anomaly_map.astype(np.float32, copy=False)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    return np.asarray(resized, dtype=np.float32)


class MapFolder:
    """A folder of anomaly maps, `float32[H, W]` in NumPy's `.npy` format at the user's image size.

    Parameters
    ----------
    folder : str or Path
        Made if it is missing.

    Raises
    ------
    OutputError
        If the folder cannot be made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._taken: set[str] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot make the folder {folder} for maps: {error.strerror or error}"
            ) from error

    def write(self, path: str, anomaly_map: NDArray[np.float32]) -> Path:
        """Write the map of one image; images of the same name in different folders get a number."""
        stem = Path(path).stem or "image"
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}_{number}"
        self._taken.add(name)
        target = self.folder / f"{name}.npy"
        with written_whole(target) as part, part.open("wb") as file:
            np.save(file, anomaly_map, allow_pickle=False)
        return target
