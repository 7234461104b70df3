"""Tables of predictions: one row per image in input order, streamed to a file that appears whole or not at all."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ganomaly.errors import package_needed
from ganomaly.files import written_whole
from ganomaly.output_checks import TABLE, check_outputs
from ganomaly.prediction import Prediction
from ganomaly.remote import Location, location

COLUMNS = ("path", "score", "normalized_score", "p_value", "is_anomaly", "error")
"""Of every table, in this order; attributes of `Prediction`."""

PRODUCT = "product"
"""The last column of tables of a model of several products."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "'")

ROWS_PER_GROUP = 4096  # rows of a Parquet table in memory at once


def check_table_path(path: str | Location) -> None:
    """Raise `UsageError` now if `open_table` would refuse `path` later."""
    check_outputs({"the table": (path, TABLE)})


@contextmanager
def open_table(path: str | Location, *, products: bool = False) -> Iterator[Callable[[Prediction], None]]:
    """Open a table for writing; its suffix chooses CSV, JSON lines or Parquet.

    Parameters
    ----------
    path : str, Path or RemoteFile
        Where.
    products : bool
        Whether a last column says which product an image belongs to.

    Yields
    ------
    callable
        Writes the row of one `Prediction`. Rows go to disk as they come, so memory does not grow.

    Raises
    ------
    UsageError
        For another suffix, or a folder that cannot be written to.
    OutputError
        If writing fails; the file is then what it was before.
    """
    check_table_path(path)
    columns = (*COLUMNS, PRODUCT) if products else COLUMNS
    with written_whole(path) as part, _WRITERS[location(path).suffix.lower()](part, columns) as write:
        yield write


def _row(prediction: Prediction, columns: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(prediction, name) for name in columns}


@contextmanager
def _csv(part: Path, columns: Sequence[str]) -> Iterator[Callable[[Prediction], None]]:
    with part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        words = {None: "", True: "true", False: "false"}

        def write(prediction: Prediction) -> None:
            row = _row(prediction, columns) | {"is_anomaly": words[prediction.is_anomaly]}
            texts = [name for name in ("path", "error", PRODUCT) if name in columns]
            writer.writerow(row | {name: without_formula(row[name]) for name in texts})

        yield write


def without_formula(text: str | None) -> str | None:
    """Prefix a quote to what spreadsheets would run as a formula, and to what has that quote already.

    So removing one quote before `=`, `+`, `-`, `@`, a tab, a carriage return or another quote gives the text back.
    Source: OWASP, *CSV Injection*.
    """
    return f"'{text}" if text is not None and text.startswith(FORMULA_STARTS) else text


@contextmanager
def _json_lines(part: Path, columns: Sequence[str]) -> Iterator[Callable[[Prediction], None]]:
    with part.open("w", encoding="utf-8") as file:
        yield lambda prediction: print(json.dumps(_row(prediction, columns)), file=file)


@contextmanager
def _parquet(part: Path, columns: Sequence[str]) -> Iterator[Callable[[Prediction], None]]:
    with package_needed("a table in parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

    schema = arrow_schema(columns)
    with pq.ParquetWriter(part, schema) as writer:
        rows: list[dict[str, Any]] = []

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(rows, schema))
            rows.clear()

        def write(prediction: Prediction) -> None:
            rows.append(arrow_row(prediction, columns))
            if len(rows) >= ROWS_PER_GROUP:
                flush()

        yield write
        flush()


def arrow_schema(columns: Sequence[str]) -> Any:
    """The `pyarrow.Schema` of some columns of a table, which may begin with `index`."""
    import pyarrow as pa

    types = {
        "index": pa.int64(),
        **dict.fromkeys(("score", "normalized_score", "p_value"), pa.float64()),
        "is_anomaly": pa.bool_(),
        **dict.fromkeys(("path", "error", PRODUCT), pa.string()),
    }
    return pa.schema([(name, types[name]) for name in columns])


def arrow_row(prediction: Prediction, columns: Sequence[str]) -> dict[str, Any]:
    """The row of a prediction for a table with `arrow_schema`."""
    texts = {"path": _as_utf_8(prediction.path), "error": _as_utf_8(prediction.error)}
    return _row(prediction, columns) | texts


def _as_utf_8(text: str | None) -> str | None:
    """Replace what is not UTF-8 in a file name, which an error may repeat: Parquet takes UTF-8 only."""
    return None if text is None else text.encode("utf-8", "replace").decode()


_WRITERS = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}
