"""Runs a notebook as Jupyter would, cell after cell in one process, with nothing but Python: what each cell printed.

    python tests/flows/notebook_cells.py docs/examples/interests.ipynb            # run it here, and show what it prints
    python tests/flows/notebook_cells.py docs/examples/interests.ipynb --write    # put what it printed into the file

A line that begins with ``!`` is a command of the shell. What a last expression is worth is not shown: cells print.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells with code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_cells(notebook: dict[str, Any]) -> list[str]:
    """What each code cell prints, run in the folder that we are in."""
    names: dict[str, Any] = {"__name__": "__main__", "_shell": _shell}
    printed = []
    for number, cell in enumerate(code_cells(notebook), 1):
        lines = "".join(cell["source"]).splitlines()
        text = "\n".join(f"_shell({line[1:]!r})" if line.startswith("!") else line for line in lines)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(text, f"cell {number}", "exec"), names)
        printed.append(out.getvalue())
    return printed


def said(cell: dict[str, Any]) -> str:
    """What a cell printed when it was written down."""
    return "".join("".join(output["text"]) for output in cell["outputs"])


def _shell(command: str) -> None:
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    print(done.stdout, end="")
    if done.returncode:
        raise RuntimeError(f"{command}: exit code {done.returncode}\n{done.stderr}")


def main() -> None:
    """See the module."""
    path = Path(sys.argv[1])
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for number, (cell, text) in enumerate(zip(code_cells(notebook), run_cells(notebook), strict=True), 1):
        stream = {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}
        cell["outputs"], cell["execution_count"] = [stream] if text else [], number
        print(f"--- {number}\n{text}", end="")
    if "--write" in sys.argv:
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
