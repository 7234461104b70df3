"""What lies in a folder, in an order that is always the same."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ganomaly.data.readers.decoding import SUFFIXES
from ganomaly.errors import UsageError

MASK_FOLDER = "ground_truth"
"""Folder of masks in MVTec AD layout; what lies in it is no image to train on or to score."""

_NUMBERS = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class FolderContent:
    """Files below a folder, each kind in natural order.

    Attributes
    ----------
    images : list of Path
        By their endings.
    parquet : list of Path
        Parquet files.
    others : int
        How many files are neither.
    """

    images: list[Path]
    parquet: list[Path]
    others: int


def list_folder(folder: Path) -> FolderContent:
    """List the files in a folder and its subfolders, without hidden ones and without `MASK_FOLDER`.

    Links to folders are followed, each folder is visited once.

    Raises
    ------
    UsageError
        If a folder cannot be listed.
    """
    images, parquet, others = [], [], 0
    visited = {folder.resolve()}
    for parent, subfolders, names in os.walk(folder, followlinks=True, onerror=_raise_usage_error):
        kept = []
        for name in subfolders:
            place = Path(parent, name).resolve()
            if not name.startswith(".") and name != MASK_FOLDER and place not in visited:
                visited.add(place)
                kept.append(name)
        subfolders[:] = kept
        for name in names:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path for each of a million names is slow
            if name.startswith("."):
                continue
            if suffix in SUFFIXES:
                images.append(Path(parent, name))
            elif suffix == ".parquet":
                parquet.append(Path(parent, name))
            else:
                others += 1
    return FolderContent(_in_natural_order(images), _in_natural_order(parquet), others)


def subfolders(folder: Path) -> list[Path]:
    """Immediate subfolders in natural order, without hidden ones and without `MASK_FOLDER`.

    Raises
    ------
    UsageError
        If the folder cannot be listed.
    """
    try:
        found = [path for path in folder.iterdir() if path.is_dir()]
    except OSError as error:
        _raise_usage_error(error)
    return _in_natural_order([p for p in found if not p.name.startswith(".") and p.name != MASK_FOLDER])


def _in_natural_order(paths: list[Path]) -> list[Path]:
    """Sort part by part, numbers by their value, so that 2.png comes before 10.png."""
    return sorted(paths, key=lambda path: ([_by_value(part) for part in path.parts], path))


def _by_value(name: str) -> list[str | int]:
    # text and numbers alternate, beginning with text, so that like is always compared with like
    return [int(piece) if place % 2 else piece for place, piece in enumerate(_NUMBERS.split(name))]


def _raise_usage_error(error: OSError) -> NoReturn:
    raise UsageError(f"cannot look into the folder {error.filename}: {error.strerror}; check its permissions")
