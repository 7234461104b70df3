"""Rows of a benchmark on disk: each is written as soon as its cell is done; a torn last line is cut off."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganomaly.benchmark.artifacts import ARTIFACTS
from ganomaly.benchmark.cells import Cell
from ganomaly.errors import OutputError
from ganomaly.files import make_folder, written_whole
from ganomaly.remote import Location, RemoteFile, read

ROWS = "rows.jsonl"
ERROR = "error"
EARLIER_ARTIFACTS = "kept"
"""Folder and column of artifacts in earlier versions, where the column had the name of the file in the folder."""


class RowFile:
    """JSON lines in the output folder.

    A store cannot append: rows there are read again and written whole each time.

    Parameters
    ----------
    folder : Path or RemoteFile
        Made if it is missing.

    Raises
    ------
    UsageError
        If it is in a store that is for reading only.
    OutputError
        If the folder cannot be made.
    StoreError
        If the store does not give the rows.
    """

    def __init__(self, folder: Location) -> None:
        make_folder(folder)
        self.folder = folder
        self.path = folder / ROWS
        self.rows = _parsed(_content(self.path))

    def has(self, cell: Cell) -> bool:
        """Whether there is a row without error for every class of a cell."""
        complete = {
            _key(row, cell) for row in self.rows if ERROR not in row and _matches_precision(row, cell)
        }
        return all(cell.key(name) in complete for name in cell.classes)

    def select(self, cell: Cell) -> list[dict[str, Any]]:
        """The rows of a cell: for each class the newest without error, or the newest error if there is none."""
        rows = [row for row in self.rows if _matches_precision(row, cell)]
        # errors first: that of a later run does not replace a result
        newest = {_key(row, cell): row for row in sorted(rows, key=lambda row: ERROR not in row)}
        return [newest[key] for key in (cell.key(name) for name in cell.classes) if key in newest]

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Append rows and flush them to the disk; of a store, write all of them.

        Raises
        ------
        OutputError, StoreError
            If writing fails.
        """
        text = "".join(json.dumps(row) + "\n" for row in rows)
        if isinstance(self.path, RemoteFile):
            stored = _content(self.path)  # again: another command may have added some
            with written_whole(self.path) as part:
                part.write_bytes(stored[: stored.rfind(b"\n") + 1] + text.encode())
        else:
            _append(self.path, text)
        self.rows += rows


def _append(path: Path, text: str) -> None:
    try:
        _remove_torn_line(path)
        with path.open("a") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _remove_torn_line(path: Path) -> None:
    """Cut off what a write that did not end left behind the last whole line."""
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def _content(path: Location) -> bytes:
    """The file; empty if it does not exist."""
    if not isinstance(path, RemoteFile):
        return path.read_bytes() if path.exists() else b""
    try:
        return read(path)
    except FileNotFoundError:
        return b""


def _parsed(content: bytes) -> list[dict[str, Any]]:
    rows = []
    for line in content.decode(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue  # torn by a kill: its cell runs again
        if isinstance(row, dict) and not any(isinstance(value, list | dict) for value in row.values()):
            rows.append(_with_present_columns(row))
    return rows


def _with_present_columns(row: dict[str, Any]) -> dict[str, Any]:
    """A row of this version or an earlier one, with the column names of this version."""
    if EARLIER_ARTIFACTS in row:
        file_name = row.pop(EARLIER_ARTIFACTS)
        row[ARTIFACTS] = f"{EARLIER_ARTIFACTS}/{file_name}"
    return row


def _matches_precision(row: Mapping[str, Any], cell: Cell) -> bool:
    """Whether a row was trained in the precision of the cell, if it has one; the row of an error matches any."""
    return cell.precision == "auto" or row.get("precision", cell.precision) == cell.precision


def _key(row: Mapping[str, Any], cell: Cell) -> tuple[Any, ...]:
    return (row.get("anomaly_class"), *(row.get(name) for name in sorted(cell.identity())))
