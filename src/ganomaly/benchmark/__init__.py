"""The comparison of the publications: methods side by side, on the same data, under one protocol.

`BenchmarkDataset` has the images and labels, `grid` lists the cells, `run_grid` runs those that have no rows yet,
`result_table` and `write_tables` make tables of the rows, and `write_figures` draws rows and artifacts. The leaky
protocol of the authors' code is in `published`, and nowhere else.
"""

from ganomaly.benchmark.cells import Budget, Cell, Protocol
from ganomaly.benchmark.figures import check_figure_files, write_figures
from ganomaly.benchmark.grid import grid, run_grid
from ganomaly.benchmark.method_spec import MethodSpec, parse_methods
from ganomaly.benchmark.rows import ERROR, RowFile
from ganomaly.benchmark.run import run_cell
from ganomaly.benchmark.stored_data import local_dataset
from ganomaly.benchmark.tables import (
    ResultTable,
    as_latex,
    as_markdown,
    check_table_files,
    result_table,
    write_tables,
)
from ganomaly.benchmark.tasks import (
    ARRAYS,
    BAGGAGE,
    OVERALL,
    WITHOUT_FOLDER,
    BenchmarkDataset,
    Task,
    check_dataset_name,
)

__all__ = [
    "ARRAYS",
    "BAGGAGE",
    "ERROR",
    "OVERALL",
    "WITHOUT_FOLDER",
    "BenchmarkDataset",
    "Budget",
    "Cell",
    "MethodSpec",
    "Protocol",
    "ResultTable",
    "RowFile",
    "Task",
    "as_latex",
    "as_markdown",
    "check_dataset_name",
    "check_figure_files",
    "check_table_files",
    "grid",
    "local_dataset",
    "parse_methods",
    "result_table",
    "run_cell",
    "run_grid",
    "write_figures",
    "write_tables",
]
