"""Rows of verdicts, one for each image in input order, streamed to a file that appears whole or not at all."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ganomaly.calibration.conformal import Calibration
from ganomaly.errors import UsageError, package_needed
from ganomaly.files import check_writable, written_whole

ROWS_PER_GROUP = 4096  # rows that a Parquet table holds in memory at once


@dataclass(frozen=True)
class ScoreRow:
    """What is known of one image after scoring; all but path and error are None where it could not be read.

    Attributes
    ----------
    path : str
        As the user named it.
    score : float or None
        A(x), ≥ 0.
    normalized_score : float or None
        In [0, 1]; 0.5 is the threshold.
    p_value : float or None
        In (0, 1].
    is_anomaly : bool or None
        Whether A(x) > φ.
    error : str or None
        Why the image could not be read.
    """

    path: str
    score: float | None
    normalized_score: float | None
    p_value: float | None
    is_anomaly: bool | None
    error: str | None


COLUMNS = [column.name for column in fields(ScoreRow)]


def score_row(path: str, score: float | None, error: str | None, calibration: Calibration) -> ScoreRow:
    """Make the row of an image from its score, or from the reason why it has none."""
    if score is None:
        return ScoreRow(path, None, None, None, None, error)
    return ScoreRow(
        path=path,
        score=score,
        normalized_score=float(calibration.normalized_score(score)),
        p_value=float(calibration.p_value(score)),
        is_anomaly=bool(calibration.is_anomaly(score)),
        error=error,
    )


def check_table_path(path: str | Path) -> None:
    """Raise `UsageError` now if `open_table` would refuse `path` later."""
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise UsageError(f"{path} does not say what kind of table to write; name it .csv, .jsonl or .parquet")
    check_writable(path)


@contextmanager
def open_table(path: str | Path) -> Iterator[Callable[[ScoreRow], None]]:
    """Open a table for writing; its ending chooses CSV, JSON lines or Parquet.

    Yields
    ------
    callable
        Takes one `ScoreRow` at a time. Rows go to disk as they come, so memory does not grow.

    Raises
    ------
    UsageError
        For another ending, or a folder that cannot be written to.
    OutputError
        If writing fails; then the file is what it was before.
    """
    check_table_path(path)
    with written_whole(path) as part, _WRITERS[Path(path).suffix.lower()](part) as write:
        yield write


@contextmanager
def _csv(part: Path) -> Iterator[Callable[[ScoreRow], None]]:
    with part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        words = {None: "", True: "true", False: "false"}

        def write(row: ScoreRow) -> None:
            values = asdict(row)
            values["is_anomaly"] = words[row.is_anomaly]
            writer.writerow(values[name] for name in COLUMNS)

        yield write


@contextmanager
def _json_lines(part: Path) -> Iterator[Callable[[ScoreRow], None]]:
    with part.open("w", encoding="utf-8") as file:
        yield lambda row: print(json.dumps(asdict(row)), file=file)


@contextmanager
def _parquet(part: Path) -> Iterator[Callable[[ScoreRow], None]]:
    with package_needed("a table in parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

    numbers = dict.fromkeys(("score", "normalized_score", "p_value"), pa.float64())
    types = {"path": pa.string(), **numbers, "is_anomaly": pa.bool_(), "error": pa.string()}
    schema = pa.schema([(name, types[name]) for name in COLUMNS])
    with pq.ParquetWriter(part, schema) as writer:
        waiting: list[dict[str, object]] = []

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(waiting, schema))
            waiting.clear()

        def write(row: ScoreRow) -> None:
            readable = {name: _readable(text) for name, text in (("path", row.path), ("error", row.error))}
            waiting.append(asdict(row) | readable)
            if len(waiting) >= ROWS_PER_GROUP:
                flush()

        yield write
        flush()


def _readable(text: str | None) -> str | None:
    """A text without what is not UTF-8 in a file name, which may stand in the reason of an error too."""
    return None if text is None else text.encode("utf-8", "replace").decode()


_WRITERS = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}
