"""docs/tutorial.md, block after block in one folder, as a reader would; what it says is printed is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(bash|python|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def environment(folder: Path) -> dict[str, str]:
    """`imsr` is the one of this checkout."""
    program = folder / "bin" / "imsr"
    program.parent.mkdir()
    script = "import sys; from flows.cli import main; sys.argv[0] = 'imsr'; main()"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{script}" "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}


def test_the_tutorial_runs_and_prints_what_it_says(tmp_path):
    env, printed, run = environment(tmp_path), "", 0
    for kind, text in BLOCK.findall(TUTORIAL.read_text(encoding="utf-8")):
        if kind == "text":
            said, shown = ([line.strip() for line in each.splitlines()] for each in (text, printed))
            assert [line for line in shown if line in said] == said, f"not printed: {text}\n{printed}"
            continue
        how = [sys.executable, "-c", text] if kind == "python" else ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(how, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=540)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        printed, run = done.stdout, run + 1
    assert run > 8
