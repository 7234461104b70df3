"""Rows of a benchmark on disk: each is kept as soon as it is there, and a torn last line harms no other."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganomaly.benchmark.cells import Cell
from ganomaly.errors import OutputError

ROWS = "rows.jsonl"
ERROR = "error"


class RowFile:
    """JSON lines in the output folder.

    Parameters
    ----------
    folder : Path
        Made if it is missing.

    Raises
    ------
    OutputError
        If the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {error.strerror or error}") from error
        self.path = folder / ROWS
        self.rows = _read(self.path)

    def has(self, cell: Cell) -> bool:
        """Whether there is a row without error for every class of a cell."""
        known = {_key(row, cell) for row in self.rows if ERROR not in row and _as_precise(row, cell)}
        return all(cell.key(name) in known for name in cell.group)

    def of(self, cell: Cell) -> list[dict[str, Any]]:
        """The rows of a cell; of several of one class the newest without error, if there is one."""
        rows = [row for row in self.rows if _as_precise(row, cell)]
        # an error of a later run does not take a figure away
        newest = {_key(row, cell): row for row in sorted(rows, key=lambda row: ERROR not in row)}
        return [newest[key] for key in (cell.key(name) for name in cell.group) if key in newest]

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Append rows, and see to it that they are on the disk."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        try:
            torn = (
                self.path.exists() and not self.path.read_bytes().endswith(b"\n") and self.path.stat().st_size
            )
            with self.path.open("a") as file:
                file.write("\n" * bool(torn) + text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error
        self.rows += rows


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # torn by a kill: its cell runs again
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _as_precise(row: Mapping[str, Any], cell: Cell) -> bool:
    """Whether it was trained in the precision that is asked for, if one is; a row of an error has none."""
    return cell.precision == "auto" or row.get("precision", cell.precision) == cell.precision


def _key(row: Mapping[str, Any], cell: Cell) -> tuple[Any, ...]:
    return (row.get("anomaly_class"), *(row.get(name) for name in sorted(cell.identity())))
