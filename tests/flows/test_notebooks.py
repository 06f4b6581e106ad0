"""The notebooks of docs/examples, run from an empty folder: they print what stands in them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from notebook_cells import code_cells, said
from test_tutorial import environment

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "examples").glob("*.ipynb"))
RUN = (
    "import json, sys; from notebook_cells import run_cells; "
    "json.dump(run_cells(json.load(open(sys.argv[1]))), sys.__stdout__)"
)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_prints_what_stands_in_it(tmp_path, path):
    cells = code_cells(json.loads(path.read_text(encoding="utf-8")))
    env = environment(tmp_path)
    env["PYTHONPATH"] = f"{ROOT}:{Path(__file__).parent}"
    command = [sys.executable, "-c", RUN, str(path)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    for number, (cell, text) in enumerate(zip(cells, printed, strict=True), 1):
        assert text == said(cell), f"cell {number}"


def test_there_is_one_and_its_cells_were_run():
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        cells = code_cells(json.loads(path.read_text(encoding="utf-8")))
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
        assert any(said(cell) for cell in cells)
