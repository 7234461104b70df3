"""Tables of verdicts: the contract's columns, in order, whole or not at all."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganomaly.calibration.conformal import Calibration
from ganomaly.errors import UsageError
from ganomaly.outputs import ScoreRow, open_table, score_row

CALIBRATION = Calibration(np.linspace(1, 2, 99), 0.05)
SUFFIXES = [".csv", ".jsonl", ".parquet"]


def read(path: Path) -> list[dict]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with path.open(newline="") as file:
        rows = [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]
    for row in rows:
        for name in ("score", "normalized_score", "p_value"):
            row[name] = None if row[name] is None else float(row[name])
        row["is_anomaly"] = {"true": True, "false": False, None: None}[row["is_anomaly"]]
    return rows


def test_a_row_is_made_from_a_score_by_calibration():
    row = score_row("a.png", 5.0, None, CALIBRATION)
    assert (row.path, row.score, row.is_anomaly, row.error) == ("a.png", 5.0, True, None)
    assert row.p_value == 0.01
    assert row.normalized_score is not None
    assert row.normalized_score > 0.5
    assert score_row("a.png", 1.5, None, CALIBRATION).is_anomaly is False


def test_a_broken_image_is_a_row_with_its_error_and_nothing_else():
    row = score_row("a.png", None, "truncated", CALIBRATION)
    assert row == ScoreRow("a.png", None, None, None, None, "truncated")


paths = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
rows = st.lists(
    st.builds(
        lambda path, score: score_row(path, score, None if score is not None else "broken", CALIBRATION),
        paths,
        st.none() | st.floats(0, 1e9),
    ),
    max_size=12,
)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows)
def test_what_was_written_is_read_back_in_order_and_to_the_last_digit(tmp_path, suffix, rows):
    out = tmp_path / f"table{suffix}"
    with open_table(out) as write:
        for row in rows:
            write(row)
    assert [ScoreRow(**row) for row in read(out)] == rows


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_that_was_not_finished_leaves_the_old_one(tmp_path, suffix):
    out = tmp_path / f"table{suffix}"
    out.write_text("old")

    def fail_half_way() -> None:
        with open_table(out) as write:
            write(score_row("a.png", 1.0, None, CALIBRATION))
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail_half_way()
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_name_that_is_not_utf_8_costs_no_more_than_its_row(tmp_path, suffix):
    name = os.fsdecode(b"broken\xff.png")
    table = tmp_path / f"table{suffix}"
    with open_table(table) as write:
        write(score_row(name, None, f"{name} is truncated", CALIBRATION))
        write(score_row("good.png", 1.0, None, CALIBRATION))
    if suffix == ".parquet":
        assert [row["path"] for row in read(table)] == ["broken?.png", "good.png"]
    else:
        assert len(table.read_bytes().splitlines()) == (3 if suffix == ".csv" else 2)


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"\.csv, \.jsonl or \.parquet"), open_table(tmp_path / "table.xlsx"):
        pass


def test_parquet_holds_more_rows_than_one_group(tmp_path):
    out = tmp_path / "table.parquet"
    with open_table(out) as write:
        for number in range(9000):
            write(score_row(f"{number}", float(number), None, CALIBRATION))
    table = pq.read_table(out)
    assert table["path"].to_pylist() == [str(number) for number in range(9000)]
    assert pq.ParquetFile(out).num_row_groups == 3
