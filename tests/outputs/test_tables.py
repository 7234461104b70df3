"""Tables of predictions: the contract's columns, in order, whole or not at all."""

import csv
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganomaly.errors import UsageError
from ganomaly.outputs import COLUMNS, open_table
from ganomaly.prediction import Prediction

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
        for name in ("path", "error"):
            row[name] = None if row[name] is None else without_quote(row[name])
    return rows


def without_quote(cell: str) -> str:
    """The text of a CSV cell that may have the quote before a formula."""
    is_quoted = cell[:1] == "'" and cell[1:2] in {*"=+-@'", "\t", "\r"}
    return cell[1:] if is_quoted else cell


def predicted(path: str, score: float, index: int = 0) -> Prediction:
    """A prediction with details, of which the table takes what its columns name."""
    return Prediction(
        index,
        path,
        score=score,
        normalized_score=score / (1 + score),
        p_value=0.01,
        is_anomaly=score > 2,
        height=7,
        width=9,
        anomaly_map=np.zeros((7, 9), np.float32),
    )


def broken(path: str, why: str = "truncated", index: int = 0) -> Prediction:
    return Prediction(index, path, why)


def values(prediction: Prediction) -> dict:
    return {name: getattr(prediction, name) for name in COLUMNS}


def test_the_columns_are_those_of_the_contract():
    assert COLUMNS == ("path", "score", "normalized_score", "p_value", "is_anomaly", "error")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_row_holds_what_the_prediction_says(tmp_path, suffix):
    with open_table(tmp_path / f"table{suffix}") as write:
        write(predicted("a.png", 5.0))
        write(predicted("b.png", 1.5))
    first, second = read(tmp_path / f"table{suffix}")
    assert first == {
        "path": "a.png",
        "score": 5.0,
        "normalized_score": 5 / 6,
        "p_value": 0.01,
        "is_anomaly": True,
        "error": None,
    }
    assert list(first) == list(COLUMNS)
    assert second["is_anomaly"] is False


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_broken_image_is_a_row_with_its_error_and_nothing_else(tmp_path, suffix):
    with open_table(tmp_path / f"table{suffix}") as write:
        write(broken("a.png", "truncated"))
    [row] = read(tmp_path / f"table{suffix}")
    assert row == dict.fromkeys(COLUMNS) | {"path": "a.png", "error": "truncated"}


paths = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
predictions = st.lists(
    st.builds(
        lambda path, score: broken(path) if score is None else predicted(path, score),
        paths,
        st.none() | st.floats(0, 1e9),
    ),
    max_size=12,
)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(predictions)
def test_what_was_written_is_read_back_in_order_and_to_the_last_digit(tmp_path, suffix, predictions):
    out = tmp_path / f"table{suffix}"
    with open_table(out) as write:
        for prediction in predictions:
            write(prediction)
    assert read(out) == [values(prediction) for prediction in predictions]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_that_was_not_finished_leaves_the_old_one(tmp_path, suffix):
    out = tmp_path / f"table{suffix}"
    with open_table(out) as write:
        write(predicted("old.png", 2.0))
    old = out.read_bytes()

    def fail_half_way() -> None:
        with open_table(out) as write:
            write(predicted("a.png", 1.0))
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail_half_way()
    assert out.read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_name_that_is_not_utf_8_costs_no_more_than_its_row(tmp_path, suffix):
    name = os.fsdecode(b"broken\xff.png")
    table = tmp_path / f"table{suffix}"
    with open_table(table) as write:
        write(broken(name, f"{name} is truncated"))
        write(predicted("good.png", 1.0))
    if suffix == ".parquet":
        assert [row["path"] for row in read(table)] == ["broken?.png", "good.png"]
    else:
        assert len(table.read_bytes().splitlines()) == (3 if suffix == ".csv" else 2)


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"\.csv, \.jsonl or \.parquet"), open_table(tmp_path / "table.xlsx"):
        pass


def test_parquet_holds_more_rows_than_one_group(tmp_path):
    out = tmp_path / "table.parquet"
    with open_table(out) as write:
        for number in range(9000):
            write(predicted(f"{number}", float(number), number))
    table = pq.read_table(out)
    assert table["path"].to_pylist() == [str(number) for number in range(9000)]
    assert pq.ParquetFile(out).num_row_groups == 3


@given(st.text(max_size=20))
def test_names_reach_no_csv_cell_as_a_formula_and_can_be_had_back(name):
    with TemporaryDirectory() as folder:
        table = Path(folder) / "t.csv"
        with open_table(table) as write:
            write(Prediction(0, name, error=f"{name} cannot be read"))
        with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            (row,) = csv.DictReader(file)
    for cell, text in ((row["path"], name), (row["error"], f"{name} cannot be read")):
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert without_quote(cell) == text
