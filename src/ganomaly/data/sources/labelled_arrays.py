"""MNIST, CIFAR-10 and similar datasets as arrays with labels, from the forms they are distributed in.

IDX: LeCun, Cortes, Burges, *The MNIST database*; CIFAR binary: Krizhevsky, *Learning Multiple Layers of Features from
Tiny Images*, 2009. Python's pickled form of CIFAR is refused: reading a pickle runs code.
"""

import gzip
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganomaly.errors import DataError, UsageError, package_needed

CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_SIDE = 32
_CIFAR_ROW = 1 + 3 * _CIFAR_SIDE**2  # label, then red, green and blue
_IDX_UNSIGNED_BYTE = 8


@dataclass(frozen=True, eq=False)
class LabelledArrays:
    """Images of one size, and their labels.

    Attributes
    ----------
    images : ndarray
        `uint8[N, H, W, C]`.
    labels : ndarray
        `str[N]`.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.str_]


def load_labelled_arrays(folder: Path, split: str) -> LabelledArrays:
    """Read a split of a small labelled dataset.

    Parameters
    ----------
    folder : Path
        Holds parquet in the Hugging Face layout, IDX files (`train-images-idx3-ubyte`, also `.gz`), or CIFAR's binary
        files (`data_batch_1.bin`), directly or in a folder below, as torchvision stores them.
    split : {'train', 'test'}
        Which part.

    Raises
    ------
    UsageError
        If there are no such files, or only pickles.
    DataError
        If a file is truncated or is not what its name says.
    """
    return _reader(folder, split)()


def check_labelled_arrays(folder: Path) -> None:
    """Raise as `load_labelled_arrays` does where files are missing, without reading those that are there."""
    for split in ("train", "test"):
        _reader(folder, split)


def _reader(folder: Path, split: str) -> Callable[[], LabelledArrays]:
    """Find the files of a split, and what reads them."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; --data takes the folder of the downloaded files")
    if parquet := sorted(folder.rglob(f"*{split}*.parquet")):
        return lambda: _from_parquet(parquet)
    idx_name = {"train": "train", "test": "t10k"}[split]
    if images := _files_below(folder, f"{idx_name}-images*idx3-ubyte*"):
        labels = _files_below(folder, f"{idx_name}-labels*idx1-ubyte*")
        if not labels:
            raise DataError(f"{images[0]} has no labels beside it: {idx_name}-labels-idx1-ubyte is missing")
        return lambda: LabelledArrays(
            read_idx(images[0])[..., np.newaxis], read_idx(labels[0]).astype(np.str_)
        )
    binary_name = {"train": "data_batch_*.bin", "test": "test_batch.bin"}[split]
    if binary := _files_below(folder, binary_name):
        return lambda: _from_cifar_binary(binary)
    if _files_below(folder, "data_batch_1"):
        raise UsageError(
            f"the files in {folder} are CIFAR's Python version, which are pickles, and reading a pickle runs code; "
            "download the binary version (data_batch_1.bin …)"
        )
    raise UsageError(
        f"found neither parquet nor IDX nor CIFAR binary files of the {split} split in {folder}; "
        "--data takes the folder of the downloaded files"
    )


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, plain or compressed with gzip: `uint8` of the shape it states.

    Raises
    ------
    DataError
        If it is truncated, or no such file.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}; download it again") from error
    if len(content) < 4 or content[:3] != bytes([0, 0, _IDX_UNSIGNED_BYTE]):
        raise DataError(f"{path} is not an IDX file of bytes; download it again")
    n_axes = content[3]
    start = 4 + 4 * n_axes
    shape = struct.unpack(f">{n_axes}I", content[4:start]) if len(content) >= start else (-1,)
    if len(content) - start != np.prod(shape, dtype=np.int64):
        raise DataError(
            f"{path} is truncated: it states {shape} and holds {len(content)} bytes; download it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _from_parquet(files: Sequence[Path]) -> LabelledArrays:
    with package_needed("parquet"):
        from ganomaly.data.sources.parquet import ParquetImages
    dataset = ParquetImages(files)
    images = [dataset.read(index) for index in range(len(dataset))]
    if len({image.shape for image in images}) != 1 or images[0].dtype != np.uint8:
        raise DataError(f"the images in {dataset.name} are not of one size with 8 bits; use a folder instead")
    labels = [record.kind for record in dataset.records]
    if None in labels:
        raise DataError(f"the images in {dataset.name} have no labels; a benchmark needs them")
    return LabelledArrays(np.stack(images).astype(np.uint8, copy=False), np.array(labels, dtype=np.str_))


def _from_cifar_binary(files: Sequence[Path]) -> LabelledArrays:
    parts = []
    for path in files:
        content = np.frombuffer(path.read_bytes(), np.uint8)
        if len(content) == 0 or len(content) % _CIFAR_ROW:
            raise DataError(
                f"{path} is truncated: {len(content)} bytes are no whole images; download it again"
            )
        parts.append(content.reshape(-1, _CIFAR_ROW))
    rows = np.concatenate(parts)
    images = rows[:, 1:].reshape(-1, 3, _CIFAR_SIDE, _CIFAR_SIDE).transpose(0, 2, 3, 1)
    return LabelledArrays(np.ascontiguousarray(images), rows[:, 0].astype(np.str_))


def _files_below(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.rglob(pattern) if path.is_file())
