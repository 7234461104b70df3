"""Solar cells: the ELPV dataset of electroluminescence images, as the package `elpv-dataset` installs it.

Source: Deitsch, Christlein, Berger, Buerhop-Lutz, Maier, Gallwitz, Riess, *Automatic Classification of Defective
Photovoltaic Module Cells in Electroluminescence Images*, Solar Energy 185, 2019; CC BY-NC-SA 4.0.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ganomaly.data.sources.files import ImageFile, ImageFiles
from ganomaly.errors import DataError, UsageError

TRAINING_SHARE = 0.8  # of the normal images; the others test
NORMAL, DEFECTIVE = "0.0", "1.0"  # probability of a defect; images in doubt, 1/3 and 2/3, are left out


def find_elpv() -> Path:
    """Find the dataset's folder, without running the package's code.

    Raises
    ------
    UsageError
        If the package is not installed.
    """
    spec = find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            "the dataset elpv comes with a package that is not installed; pip install elpv-dataset"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def split_elpv(folder: Path, seed: int) -> tuple[ImageFiles, ImageFiles]:
    """Normal training images; and test images, the remaining normal ones first, then all defective ones.

    Parameters
    ----------
    folder : Path
        With `labels.csv`: path, probability of a defect and type of cell, separated by spaces.
    seed : int
        Draws the training images.

    Raises
    ------
    DataError
        If the list of labels cannot be read.
    """
    labels = folder / "labels.csv"
    try:
        rows = [line.split() for line in labels.read_text(encoding="utf-8").splitlines() if line.strip()]
        files = {
            probability: [
                ImageFile(folder / path, path, cell_type, probability == DEFECTIVE)
                for path, given, cell_type in rows
                if given == probability
            ]
            for probability in (NORMAL, DEFECTIVE)
        }
    except (OSError, ValueError) as error:
        raise DataError(
            f"{labels} is not the list of labels of elpv-dataset ({error}); install it again"
        ) from error
    normal = files[NORMAL]
    order = np.random.default_rng(seed).permutation(len(normal))
    n_training = round(TRAINING_SHARE * len(normal))
    training, testing = np.sort(order[:n_training]), np.sort(order[n_training:])
    return (
        ImageFiles([normal[index] for index in training], f"{folder} (normal cells to train on)"),
        ImageFiles(
            [*(normal[index] for index in testing), *files[DEFECTIVE]], f"{folder} (cells to test on)"
        ),
    )
