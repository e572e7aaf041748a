"""Each notebook runs from top to bottom on a generated company, and shows something in every cell that should."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
RUN = [
    pytest.param(path, marks=[] if path.stem.startswith("01") else [pytest.mark.long("trainings")])
    for path in NOTEBOOKS
]


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own, on the event loop and on paths
@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(trained_world, path, monkeypatch):
    monkeypatch.setenv("TENURE_CONFIG", str(trained_world / "tenure.toml"))
    book = nbformat.read(path, as_version=4)

    NotebookClient(book, timeout=1200, resources={"metadata": {"path": str(path.parent)}}).execute()

    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs) or "02" in path.stem
    assert any("text/markdown" in output.get("data", {}) for output in outputs) or "03" not in path.stem
    if rendered := os.environ.get("TENURE_RENDERED"):
        nbformat.write(book, Path(rendered) / path.name)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_its_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert not cell.get("execution_count")
