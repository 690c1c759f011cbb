"""`notebooks/first_steps.ipynb` runs from top to bottom, with a small model instead of the main job's."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = pathlib.Path(__file__).parents[1] / "notebooks" / "first_steps.ipynb"


def code_cells():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    return notebook, [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_is_saved_with_its_outputs_and_pictures_and_without_errors():
    _, cells = code_cells()
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(trained_run, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_STM_RUN", str(trained_run))
    notebook, cells = code_cells()
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    # The last cell compares the exported model with the original one.
    assert "is predicted as" in cells[-1].outputs[-1].text
