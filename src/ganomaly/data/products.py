"""Which product each image of a dataset shows, where normal images are of several products."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganomaly.data.sources.dataset import ImageDataset
from ganomaly.data.sources.open import NORMAL_NAMES
from ganomaly.errors import DataError, UsageError

FOLDERS = "folders"
"""Products are the folders that images are in, or the labels of parquet."""

MAX_PRODUCTS = 1000
MAX_NAME = 200  # characters


def product_indices(dataset: ImageDataset, products: Any) -> Mapping[str, NDArray[np.int64]]:
    """The images of each product, `int64[n]`, by its name, in the order of the names.

    Parameters
    ----------
    dataset : ImageDataset
        Normal images.
    products : 'folders' or sequence
        `FOLDERS` takes the first folder below `good`, or below the folder that was given; of parquet, the label.
        Otherwise one label for each image.

    Raises
    ------
    UsageError
        If there is not one label for each image, or a label is no name.
    DataError
        If an image is in no product's folder, or there is one product only.
    """
    if isinstance(products, str) and products == FOLDERS:
        labels: Sequence[str] = [_folder_or_label(dataset, index) for index in range(len(dataset))]
    else:
        labels = [str(label) for label in products]
    if len(labels) != len(dataset):
        raise UsageError(
            f"there are {len(labels)} products for {len(dataset)} images; give one for each image"
        )
    names = sorted(set(labels))
    wrong = [name for name in names if not name or len(name) > MAX_NAME or not name.isprintable()]
    if wrong:
        raise UsageError(
            f"the product {wrong[0][:MAX_NAME]!r} is no name; use 1 to {MAX_NAME} printable characters"
        )
    if not 2 <= len(names) <= MAX_PRODUCTS:
        found = f"only {names[0]}" if len(names) == 1 else f"{len(names)}"
        raise DataError(
            f"a model of several products needs images of 2 to {MAX_PRODUCTS} of them, but {found} was found in "
            f"{dataset.name}; give each product a folder, or fit without products"
        )
    array = np.array(labels)
    return {name: np.flatnonzero(array == name) for name in names}


def _folder_or_label(dataset: ImageDataset, index: int) -> str:
    name, record = dataset.stored(index).name, dataset.records[index]
    if not name:
        if record.kind is None:
            raise DataError(f"{record.path} has no label that says which product it shows; give the labels")
        return record.kind
    folders = PurePosixPath(name).parts[:-1]
    normal = [position for position, folder in enumerate(folders) if folder.casefold() in NORMAL_NAMES]
    if normal:
        folders = folders[normal[0] + 1 :]
    elif folders[:1] == ("train",):
        folders = folders[1:]
    if not folders:
        raise DataError(
            f"{record.path} is in no product's folder; put the images of each product into a folder of its own, as "
            "train/good/<product>"
        )
    return folders[0]
