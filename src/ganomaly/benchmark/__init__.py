"""The comparison of the publications: methods side by side, on the same data, under one protocol.

`Source` finds the images, `grid` lists the cells, `run_grid` runs those that have no row yet, `result_table` and
`write_tables` show what was found, `write_figures` draws it, and what the cells kept beside their rows. The leaky
protocol of the authors' code is in `published`, and nowhere else.
"""

from ganomaly.benchmark.cells import Budget, Cell, MethodSpec, Protocol, run_cell, split_methods
from ganomaly.benchmark.figures import write_figures
from ganomaly.benchmark.grid import grid, run_grid
from ganomaly.benchmark.problems import ARRAYS, BAGGAGE, OVERALL, Problem, Source
from ganomaly.benchmark.rows import ERROR, RowFile
from ganomaly.benchmark.tables import ResultTable, as_latex, as_markdown, result_table, write_tables

__all__ = [
    "ARRAYS",
    "BAGGAGE",
    "ERROR",
    "OVERALL",
    "Budget",
    "Cell",
    "MethodSpec",
    "Problem",
    "Protocol",
    "ResultTable",
    "RowFile",
    "Source",
    "as_latex",
    "as_markdown",
    "grid",
    "result_table",
    "run_cell",
    "run_grid",
    "split_methods",
    "write_figures",
    "write_tables",
]
