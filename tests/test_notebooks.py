"""The tutorials: each notebook runs from its first cell to its last, on few images, and is kept without outputs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "docs" / "notebooks"
FIRST = "first-model"  # writes the images and the model of the others
NAMES = sorted((path.stem for path in NOTEBOOKS.glob("*.ipynb")), key=lambda name: (name != FIRST, name))

Cells = Sequence[NotebookNode]


def code_cells(name: str) -> Cells:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(cells: Cells, kind: str) -> Sequence[NotebookNode]:
    return [each for cell in cells for each in cell.outputs if each.output_type == kind]


def shown(cells: Cells, mime_type: str) -> str:
    results = outputs(cells, "execute_result")
    return "\n".join(each.data[mime_type] for each in results if mime_type in each.data)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Cells]:
    """The cells of each notebook with what they gave, from one kernel, so that PyTorch is imported once."""
    by_name = {name: code_cells(name) for name in NAMES}
    in_order = []
    for cells in by_name.values():
        # no notebook may lean on what another defined
        in_order += [new_code_cell("%reset -f"), *cells]
    environment = {**os.environ, "GANOMALY_TUTORIAL_QUICK": "1", "PYTHONPATH": str(ROOT / "src")}
    client = NotebookClient(
        new_notebook(cells=in_order),
        kernel_name="python3",
        timeout=600,
        startup_timeout=300,
        allow_errors=True,  # each notebook has a test of its own
    )
    client.execute(cwd=str(tmp_path_factory.mktemp("notebooks")), env=environment)
    return by_name


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_to_its_last_cell(executed: Mapping[str, Cells], name: str) -> None:
    errors = outputs(executed[name], "error")
    assert not errors, "\n".join(errors[0].traceback)
    assert all(cell.execution_count is not None for cell in executed[name])


def test_the_first_notebook_shows_threshold_images_and_figures(executed: Mapping[str, Cells]) -> None:
    html = shown(executed[FIRST], "text/html")
    assert "threshold φ" in html
    assert "image auroc" in html
    assert 'alt="overlay"' in html


def test_the_comparison_has_a_row_for_each_method(executed: Mapping[str, Cells]) -> None:
    table = shown(executed["comparing-methods"], "text/markdown")
    assert "| ganomaly |" in table
    assert "| vae |" in table


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_outputs(name: str) -> None:
    for cell in code_cells(name):
        assert not cell.outputs
        assert cell.execution_count is None
