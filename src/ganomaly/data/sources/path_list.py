"""A text file that names images."""

from ganomaly.errors import DataError, UsageError
from ganomaly.remote import Location, is_remote, local_copy, location

PATH_LIST = ".txt"
"""Ending of a list of paths."""


def read_path_list(source: Location) -> list[Location]:
    """The paths in a text file, one in each line; relative ones are relative to its folder.

    Raises
    ------
    UsageError
        If there is no such file, or it is no text.
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
    paths = [location(line) if is_remote(line) else source.parent / line for line in lines if line]
    if not paths:
        raise DataError(f"no images: {source} is empty; write one path in each line")
    return paths
