"""Tables of a benchmark: AUROC of each method on each class, mean ± standard deviation over the seeds."""

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ganomaly.benchmark.rows import ERROR, ROWS
from ganomaly.benchmark.tasks import OVERALL
from ganomaly.files import written_whole
from ganomaly.output_checks import BENCHMARK_FILE, check_replaceable
from ganomaly.remote import Location

MEAN = "mean"
_BUDGET = ("epochs", "steps", "train_images", "test_images", "image_size", "precision")


@dataclass(frozen=True)
class ResultTable:
    """AUROC by method and class.

    Attributes
    ----------
    title : str
        Data set, protocol and budget, which a reader needs to compare.
    classes : tuple of str
        The columns; the mean over them comes last, where there are several and none of them is `overall`.
    cells : mapping of (str, str) to list of float
        For method and class the AUROC of each seed.
    """

    title: str
    classes: tuple[str, ...]
    cells: Mapping[tuple[str, str], list[float]]

    @property
    def methods(self) -> list[str]:
        """The rows of the table, in the order of the grid."""
        return list(dict.fromkeys(method for method, _ in self.cells))

    def text(self, method: str, anomaly_class: str) -> str:
        """Mean and standard deviation, as `.745 ± .012`, or the one value there is."""
        values = self.cells.get((method, anomaly_class), [])
        if not values:
            return "–"
        mean = f"{statistics.mean(values):.3f}".replace("0.", ".", 1)
        if len(values) == 1:
            return mean
        return f"{mean} ± {statistics.stdev(values):.3f}".replace("± 0.", "± .")


def check_table_files(folder: Location) -> None:
    """Raise `UsageError` if the rows and tables would replace files in the folder that this package did not write."""
    for name in (ROWS, "rows.csv", "table.md", "table.tex"):
        check_replaceable(folder / name, BENCHMARK_FILE)


def result_table(rows: Sequence[Mapping[str, Any]]) -> ResultTable:
    """Make a table from the rows of one data set and protocol; rows with errors are left out."""
    complete = [row for row in rows if ERROR not in row and row["auroc"] is not None]
    classes = tuple(dict.fromkeys(row["anomaly_class"] for row in rows))
    cells: dict[tuple[str, str], list[float]] = {}
    for row in complete:
        cells.setdefault((row["method"], row["anomaly_class"]), []).append(row["auroc"])
    if len(classes) > 1 and OVERALL not in classes:
        for method in dict.fromkeys(row["method"] for row in complete):
            means = _means_by_seed([row for row in complete if row["method"] == method], classes)
            if means:
                cells[method, MEAN] = means
        classes = (*classes, MEAN)
    return ResultTable(_title(complete), classes, cells)


def write_tables(table: ResultTable, rows: Sequence[Mapping[str, Any]], folder: Location) -> list[Location]:
    """Write `table.md`, `table.tex` and `rows.csv`, which has every row; each whole or not at all."""
    contents = {"table.md": as_markdown(table), "table.tex": as_latex(table)}
    paths: list[Location] = []
    for name, text in contents.items():
        with written_whole(folder / name) as part:
            part.write_text(text)
        paths.append(folder / name)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with written_whole(folder / "rows.csv") as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return [*paths, folder / "rows.csv"]


def as_markdown(table: ResultTable) -> str:
    """The table for a README."""
    lines = [
        table.title + "\n",
        "| method | " + " | ".join(table.classes) + " |",
        "| --- |" + " --- |" * len(table.classes),
        *(
            f"| {method} | " + " | ".join(table.text(method, name) for name in table.classes) + " |"
            for method in table.methods
        ),
    ]
    return "\n".join(lines) + "\n"


def as_latex(table: ResultTable) -> str:
    """The table for a paper; needs the package booktabs."""

    def escaped(text: str) -> str:
        for character, latex in (("_", r"\_"), ("%", r"\%"), ("±", r"$\pm$"), ("–", "--")):
            text = text.replace(character, latex)
        return text

    lines = [
        f"% {table.title}",
        rf"\begin{{tabular}}{{l{'r' * len(table.classes)}}}",
        r"\toprule",
        "method & " + " & ".join(escaped(name) for name in table.classes) + r" \\",
        r"\midrule",
        *(
            escaped(f"{method} & " + " & ".join(table.text(method, name) for name in table.classes)) + r" \\"
            for method in table.methods
        ),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _means_by_seed(rows: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> list[float]:
    """The mean over the classes for each seed that has them all."""
    by_seed: dict[int, dict[str, float]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], {})[row["anomaly_class"]] = row["auroc"]
    return [statistics.mean(aurocs.values()) for aurocs in by_seed.values() if set(aurocs) == set(classes)]


def _title(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "no rows"
    first = rows[0]
    seeds = sorted({row["seed"] for row in rows})
    budget = []
    for name in _BUDGET:
        values = sorted({str(row.get(name)) for row in rows} - {"None"})
        if values:
            budget.append(f"{name.replace('_', ' ')} {', '.join(values)}")
    seeds_in_words = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    spread = "" if len(seeds) == 1 else ", mean ± standard deviation"
    return f"AUROC, {first['dataset']}, protocol {first['protocol']}; {'; '.join([*budget, seeds_in_words])}{spread}"
