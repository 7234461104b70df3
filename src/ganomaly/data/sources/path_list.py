"""A text file that names images."""

from pathlib import Path

from ganomaly.data.readers.registry import image_suffixes
from ganomaly.errors import DataError, UsageError, printable
from ganomaly.remote import Location, is_remote, local_copy, location

PATH_LIST = ".txt"
"""Ending of a list of paths."""


def read_path_list(source: Location) -> list[Location]:
    """The paths in a text file, one in each line; relative ones are relative to its folder.

    Raises
    ------
    UsageError
        If there is no such file, it is no text, or a line names no image and nothing that exists; the message says
        which line.
    DataError
        If it is empty.
    """
    try:
        with local_copy(source) as copy:
            lines = [line.strip() for line in copy.read_text(encoding="utf-8-sig").splitlines()]
    except FileNotFoundError:
        raise UsageError(f"{source} does not exist; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{source} cannot be read as text ({error}); write one path in each line") from None
    paths = [_path(line, number, source) for number, line in enumerate(lines, start=1) if line]
    if not paths:
        raise DataError(f"no images: {source} is empty; write one path in each line")
    return paths


def _path(line: str, number: int, source: Location) -> Location:
    """What a line names; an image that is missing costs its row later, so only other names are looked up."""
    try:
        path = location(line) if is_remote(line) else source.parent / line
    except UsageError as error:
        raise UsageError(f"line {number} of {source}: {error}") from None
    if isinstance(path, Path) and path.suffix.lower() not in image_suffixes() and not _exists(path):
        raise UsageError(
            f"line {number} of {source} names {printable(line[:200])!r}, which does not exist and is no image by its "
            "name; write one path in each line"
        )
    return path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no disk can have
        return False
