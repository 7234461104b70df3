"""The table of what came out: `models.csv` and `models.json` in the folder of the models."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, fields

from ganomaly.catalog.entry import EntryResult
from ganomaly.files import written_whole
from ganomaly.output_checks import CATALOG_TABLE, check_replaceable
from ganomaly.outputs.tables import without_formula
from ganomaly.remote import Location

CSV, JSON = "models.csv", "models.json"
COLUMNS = tuple(field.name for field in fields(EntryResult))


def check_result_tables(out: Location) -> None:
    """Raise `UsageError` if the tables would replace files that this package did not write."""
    for name in (CSV, JSON):
        check_replaceable(out / name, CATALOG_TABLE)


def write_result_tables(results: Sequence[EntryResult], out: Location) -> None:
    """Write both tables, each whole or not at all.

    Raises
    ------
    UsageError, OutputError, StoreError
        If they cannot be written.
    """
    rows = [asdict(result) for result in results]
    with written_whole(out / CSV) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            texts = {name: without_formula(row[name]) for name in ("note", "error")}
            writer.writerow(row | texts)
    with written_whole(out / JSON) as part:
        part.write_text(json.dumps({"models": rows}, indent=2) + "\n", encoding="utf-8")
