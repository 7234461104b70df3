"""How long the queries of the pages and of the API take in a store of a million predictions.

The store is filled by plain inserts: two models, 1 in 100 images anomalous, 1 in 20 reviewed, those of the sample up
to one that waits. Each query runs through the functions that the pages and the API call, in a session of its own.

Run: python benchmarks/store_pages.py [--predictions 1000000] [--store FILE] [--explain]
"""

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sqlalchemy import event
from sqlalchemy.orm import Session

from ganomaly.calibration import Calibration
from ganomaly.service.model_page import newest_scores
from ganomaly.service.pages import STRIP, Wanted
from ganomaly.store import Store, open_store
from ganomaly.store.drift_state import last_review_event, past_has_changed, scores_after
from ganomaly.store.events import latest_events
from ganomaly.store.predictions import (
    Filter,
    Order,
    count_of_version,
    count_predictions,
    find_by_key,
    list_predictions,
)
from ganomaly.store.retention import image_bytes
from ganomaly.store.reviews import get_prediction, labels_of, reviews_of
from ganomaly.store.sample import complete_sample
from ganomaly.store.schema import NORMAL, PredictionRow
from ganomaly.store.statistics import store_statistics
from ganomaly.store.versions import NewVersion, add_version, register_model, versions_of
from machine import describe_machine

BAR = 0.05
"""Seconds for a query of a page."""

DAYS = 100
PARTS = 200_000
MODELS = ("line 1", "line 2")
SERVED = frozenset(range(1, len(MODELS) + 1))
COLUMNS = [column.name for column in PredictionRow.__table__.columns if column.name != "product"]
Query = Callable[[Session], Any]


def fill(store: Store, path: Path, n: int) -> None:
    """Two models, and n predictions with reviews on some."""
    for name in MODELS:
        with store.writing() as session:
            scores = np.sort(np.random.default_rng(0).gamma(4, 0.01, 200))
            model = register_model(session, name)
            add_version(session, model, NewVersion("a.onnx", Calibration(scores, 0.01), "file", "benchmark"))
    statement = f"INSERT INTO prediction ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
    with sqlite3.connect(path) as connection:
        connection.executemany(statement, rows(n))
        connection.execute(
            "INSERT INTO review (prediction_id, label, note, reviewer, created) "
            "SELECT id, label, '', 'somebody', created FROM prediction WHERE label IS NOT NULL"
        )
        connection.execute(
            "INSERT INTO event (created, actor, action, subject, details) "
            "SELECT created, 'somebody', 'review', 'prediction ' || id, '{}' FROM prediction "
            "WHERE label IS NOT NULL"
        )
    connection.close()


def rows(n: int) -> Iterator[tuple[Any, ...]]:
    """Columns of n predictions, in their order."""
    generator = np.random.default_rng(1)
    scores = generator.gamma(4, 0.01, n)
    scores[generator.random(n) < 0.005] += 0.2
    threshold = float(np.quantile(scores, 0.99))
    p_values = np.maximum(1 - scores / threshold, 1 / 201)
    start = datetime.now(UTC) - timedelta(days=DAYS)
    for i in range(n):
        score, is_anomaly = float(scores[i]), bool(scores[i] > threshold)
        in_sample = i % 50 == 0
        reviewed = (is_anomaly and i % 2) or (in_sample and i < n * 0.8) or i % 40 == 1
        label = None
        if reviewed:
            label = f"kind {i % 7}" if is_anomaly and i % 3 else NORMAL
        yield (
            i + 1,
            1 if i % 10 else 2,
            1,
            f"key {i}",
            f"part {i * 7919 % PARTS}",
            "http",
            f"{i * 2654435761 % 2**32:064x}",
            "image/png",
            50_000,
            256,
            256,
            score,
            score / (score + threshold),
            float(p_values[i]),
            threshold,
            is_anomaly,
            in_sample,
            True,
            True,
            (start + i * timedelta(days=DAYS) / n).isoformat(sep=" "),
            label,
            label is not None and is_anomaly != (label != NORMAL),
        )


def page_of(wanted: Wanted, model_id: int | None, cursor: str | None = None) -> Query:
    """One page of a list, as the pages show it."""
    return lambda session: list_predictions(
        session, wanted.filter(model_id, SERVED), order=wanted.order, limit=STRIP, cursor=cursor
    )


def count_of(wanted: Wanted, model_id: int | None) -> Query:
    """How many there are, as the pages say it."""
    return lambda session: count_predictions(session, wanted.filter(model_id, SERVED))


def deep_cursor(store: Store, filter_: Filter, order: Order) -> str | None:
    """The cursor after some hundred pages."""
    cursor: str | None = None
    with store.reading() as session:
        for _ in range(100):
            cursor = list_predictions(session, filter_, order=order, limit=200, cursor=cursor).next_cursor
            if cursor is None:
                break
    return cursor


def list_queries(store: Store) -> dict[str, Query]:
    """Every list of predictions, with every filter."""
    day = (datetime.now(UTC) - timedelta(days=DAYS // 2)).astimezone().strftime("%Y-%m-%d")
    empty_day = (datetime.now(UTC) - timedelta(days=2 * DAYS)).astimezone().strftime("%Y-%m-%d")
    filters: dict[str, dict[str, str]] = {
        "": {},
        ", anomalous": {"verdict": "anomalous"},
        ", normal": {"verdict": "normal"},
        ", one day": {"day": day},
        ", a day without images": {"day": empty_day},
        ", anomalous on one day": {"verdict": "anomalous", "day": day},
        ", p ≤ 0.01": {"p": "0.01"},
        ", p ≤ 0.0001": {"p": "0.0001"},
        ", one part": {"name": "part 77"},
        ", an unknown part": {"name": "nothing"},
        ", one part, anomalous": {"name": "part 77", "verdict": "anomalous"},
    }
    found: dict[str, Query] = {}
    for model_id in (None, 1, 2):
        of_model = "all models" if model_id is None else MODELS[model_id - 1]
        for view in ("queue", "sample", "disagreements", "all"):
            for label, fields in filters.items():
                wanted = Wanted(view=view, **fields)  # type: ignore[arg-type]  # all of them are text
                name = f"{view}, {of_model}{label}"
                found[name] = page_of(wanted, model_id)
                found[f"{name}: count"] = count_of(wanted, model_id)
            wanted = Wanted(view=view)
            cursor = deep_cursor(store, wanted.filter(model_id, SERVED), wanted.order)
            if cursor is not None:
                found[f"{view}, {of_model}: deep in the list"] = page_of(wanted, model_id, cursor)
    return found


def api_queries() -> dict[str, Query]:
    """Lists that only the API has."""
    now = datetime.now(UTC)
    filters = {
        "reviewed": Filter(1, reviewed=True),
        "labelled kind 3": Filter(1, label="kind 3"),
        "labelled kind 3, all models": Filter(None, label="kind 3"),
        "labelled, unknown": Filter(1, label="nothing"),
        "since an hour ago": Filter(1, since=now - timedelta(hours=1)),
        "until the first day": Filter(1, until=now - timedelta(days=DAYS - 1)),
        "anomalous, not reviewed": Filter(1, is_anomaly=True, reviewed=False),
        "in the sample": Filter(1, in_sample=True),
        "not in the sample": Filter(1, in_sample=False),
        "agreeing": Filter(1, reviewed=True, disagrees=False),
    }
    orders: tuple[Order, ...] = ("newest", "oldest", "worst")

    def query(filter_: Filter, order: Order) -> Query:
        return lambda session: list_predictions(session, filter_, order=order, limit=50)

    return {
        f"API, {name}, {order}": query(filter_, order)
        for name, filter_ in filters.items()
        for order in orders
    }


def other_queries(n: int) -> dict[str, Query]:
    """What stands beside the lists, on the page of a model, and in the writer's way."""
    return {
        "one prediction": lambda session: get_prediction(session, n // 2),
        "its reviews": lambda session: reviews_of(session, n // 2),
        "history of its part": lambda session: list_predictions(session, Filter(1, name="part 77"), limit=20),
        "kinds of defects": lambda session: labels_of(session, 1),
        "live": lambda session: list_predictions(session, Filter(None), limit=24),
        "model: scores for the threshold": lambda session: newest_scores(session, 1, 1),
        "model: sample": lambda session: complete_sample(session, 1, [1]),
        "model: sample since the last": lambda session: complete_sample(session, 1, [1], n * 3 // 4),
        "model: versions": lambda session: versions_of(session, 1),
        "model: events": lambda session: latest_events(session, reviews=False, most=50),
        "writer: known key": lambda session: find_by_key(session, 1, "key 77777"),
        "writer: count of the version": lambda session: count_of_version(session, 1, 1, 200),
        "drift: last review": last_review_event,
        "drift: reviewed since": lambda session: past_has_changed(
            session, last_review_event(session) - 100, n, 1, 1
        ),
        "drift: newest 1,000": lambda session: list(scores_after(session, 1, 1, n - 1000, datetime.now(UTC))),
    }


def slow_queries(store: Store) -> dict[str, Query]:
    """What no page waits for."""
    return {
        "drift, from the beginning": lambda session: list(scores_after(session, 1, 1, 0, datetime.now(UTC))),
        "ganomaly store stats": lambda _: store_statistics(store),
        "retention: bytes of images": image_bytes,
    }


def seconds(store: Store, query: Query, repeats: int) -> list[float]:
    """Times of a query."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        with store.reading() as session:
            query(session)
        times.append(time.perf_counter() - start)
    return times


def explain(store: Store, query: Query) -> None:
    """Print the statements of a query and their plans."""
    statements: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        statements.append((statement, parameters))

    event.listen(store.engine, "before_cursor_execute", note)
    with store.reading() as session:
        query(session)
    event.remove(store.engine, "before_cursor_execute", note)
    with store.engine.connect() as connection:
        for statement, parameters in statements:
            where = statement[statement.find("FROM") :].replace("\n", " ")
            print(f"      {where[:600]} {parameters}")
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
                print(f"        {row[3]}")


def measure(store: Store, queries: dict[str, Query], arguments: argparse.Namespace, bar: float) -> None:
    """Time queries, and print the slowest."""
    times = {name: seconds(store, query, arguments.repeats) for name, query in queries.items()}
    order = sorted(times, key=lambda name: -median(times[name]))
    missed = [name for name in order if median(times[name]) > bar]
    for name in order[: max(arguments.show, len(missed))]:
        mark = "" if median(times[name]) <= bar else "  misses the bar"
        print(f"{1000 * median(times[name]):9.1f} ms, at most {1000 * max(times[name]):7.1f}  {name}{mark}")
        if arguments.explain and mark:
            explain(store, queries[name])
    print(f"{len(queries)} queries, {len(missed)} above {1000 * bar:g} ms\n", flush=True)


def main() -> None:
    """Fill a store and time its queries."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--show", type=int, default=12, help="how many of the slowest to print")
    parser.add_argument("--store", type=Path, help="a file that is filled where it does not exist, and kept")
    parser.add_argument("--explain", action="store_true", help="print plans of what misses the bar")
    arguments = parser.parse_args()
    print(describe_machine())
    with tempfile.TemporaryDirectory() as temporary:
        path = arguments.store or Path(temporary) / "station.db"
        is_new = not path.exists()
        store = open_store(str(path))
        if is_new:
            start = time.perf_counter()
            fill(store, path, arguments.predictions)
            print(f"filled with {arguments.predictions:,} predictions in {time.perf_counter() - start:.0f} s")
        print(f"database of {path.stat().st_size / 2**20:.0f} MiB")
        pages = list_queries(store) | api_queries() | other_queries(arguments.predictions)
        measure(store, pages, arguments, BAR)
        measure(store, slow_queries(store), arguments, 10)
        store.close()


if __name__ == "__main__":
    main()
