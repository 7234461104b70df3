"""The files below a folder, in an order that is always the same."""

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ganomaly.data.readers.dicom import DICOM
from ganomaly.data.readers.registry import image_suffixes
from ganomaly.data.special_files import special_kind
from ganomaly.errors import UsageError

MASK_FOLDER = "ground_truth"
"""Folder of masks in MVTec AD layout; its files are not images to train on or to score."""

_NUMBERS = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class FolderContent:
    """Files below a folder, in natural order.

    Attributes
    ----------
    images : list of Path
        Files whose endings are those of images, and DICOM files without an ending.
    parquet : list of Path
        Parquet files.
    left_out : Counter of str
        Number of other files by their ending, such as `.gif`.
    """

    images: list[Path]
    parquet: list[Path]
    left_out: Counter[str]

    @property
    def others(self) -> int:
        """Number of other files."""
        return self.left_out.total()


def list_folder(folder: Path) -> FolderContent:
    """List the files in a folder and its subfolders, except hidden ones and `MASK_FOLDER`.

    Links to folders are followed; each folder is visited once.

    Raises
    ------
    UsageError
        If a folder cannot be listed.
    """
    images, parquet = [], []
    left_out: Counter[str] = Counter()
    visited = {folder.resolve()}
    for parent, subfolders, names in os.walk(folder, followlinks=True, onerror=_raise_usage_error):
        to_visit = []
        for name in subfolders:
            target = Path(parent, name).resolve()
            if not name.startswith(".") and name != MASK_FOLDER and target not in visited:
                visited.add(target)
                to_visit.append(name)
        subfolders[:] = to_visit
        suffixes = image_suffixes()
        for name in names:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path for each of a million names is slow
            if name.startswith("."):
                continue
            if suffix in suffixes or (_may_be_dicom(suffix) and _is_dicom(Path(parent, name))):
                images.append(Path(parent, name))
            elif suffix == ".parquet":
                parquet.append(Path(parent, name))
            else:
                left_out[suffix] += 1
    return FolderContent(_in_natural_order(images), _in_natural_order(parquet), left_out)


def subfolders(folder: Path) -> list[Path]:
    """Immediate subfolders in natural order, except hidden ones and `MASK_FOLDER`.

    Raises
    ------
    UsageError
        If the folder cannot be listed.
    """
    try:
        folders = [path for path in folder.iterdir() if path.is_dir()]
    except OSError as error:
        _raise_usage_error(error)
    return _in_natural_order([p for p in folders if not p.name.startswith(".") and p.name != MASK_FOLDER])


def _may_be_dicom(suffix: str) -> bool:
    """Whether a name has no ending, as `IM0001` and `1.2.840.10008.5`; only such files are opened to see."""
    return suffix[1:] == "" or suffix[1:].isdigit()


def _is_dicom(path: Path) -> bool:
    if path.name == "DICOMDIR" or special_kind(path) is not None:  # an index has the signature too
        return False
    try:
        with path.open("rb") as file:
            return DICOM.signature.match(file.read(256)) is not None
    except (OSError, ValueError):
        return False


def _in_natural_order(paths: list[Path]) -> list[Path]:
    """Sort part by part, numbers by their value, so that 2.png comes before 10.png."""
    return sorted(paths, key=lambda path: ([_natural_key(part) for part in path.parts], path))


def _natural_key(name: str) -> list[str | int]:
    # text and numbers alternate, beginning with text, so that numbers are only compared with numbers
    return [int(part) if index % 2 else part for index, part in enumerate(_NUMBERS.split(name))]


def _raise_usage_error(error: OSError) -> NoReturn:
    raise UsageError(f"cannot list the folder {error.filename}: {error.strerror}; check its permissions")
