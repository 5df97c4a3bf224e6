"""The notebook is the page on Python, and every cell of it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

from perfbench.registry import repository_root
from tools.notebook import NOTEBOOK, PAGE, notebook_of

ROOT = repository_root()


def test_the_notebook_is_what_the_page_says() -> None:
    assert NOTEBOOK.read_text() == notebook_of(PAGE.read_text()), "python tools/notebook.py writes it again"


@pytest.mark.slow
def test_every_cell_runs_and_shows_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT)]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        f'{{"argv": ["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"],'
        ' "display_name": "here", "language": "python"}'
    )
    work = tmp_path / "work"
    work.mkdir()
    notebook = nbformat.reads(NOTEBOOK.read_text(), as_version=4)  # type: ignore[no-untyped-call] # has no types

    nbclient.NotebookClient(notebook, timeout=250, resources={"metadata": {"path": str(work)}}).execute()

    shown = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    kinds = [{kind for output in outputs for kind in output.get("data", {})} for outputs in shown]
    assert all(shown)
    assert "text/html" in kinds[0]
    assert sum("image/png" in one for one in kinds) == 2
    assert (work / "profile.svg").exists()
