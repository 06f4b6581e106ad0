"""The README's commands, run as they stand.

A block is tested if the line above it is ``<!-- test -->``. All tested blocks run in order in one folder that is
empty at first, each as one bash script, with a tiny log where they read ``my-events.csv``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_world import TOML, log
from test_cli import write_events

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^<!-- test -->\n+```(?:bash|sh|console)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_a_readme_worth_the_name_has_commands_that_are_tested():
    assert TEXT.strip()
    if TEXT.count("\n") > 50:
        assert BLOCKS, "mark the blocks of README.md that can run with <!-- test --> on the line above"


@pytest.mark.skipif(not BLOCKS, reason="README.md marks no block with <!-- test -->")
def test_the_commands_of_the_readme_run(tmp_path):
    write_events(tmp_path / "my-events.csv", log(range(3)))
    (tmp_path / "tiny.toml").write_text(TOML)
    # `imsr` is the one of this checkout
    program = tmp_path / "bin" / "imsr"
    program.parent.mkdir()
    script = "import sys; from flows.cli import main; sys.argv[0] = 'imsr'; main()"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{script}" "$@"\n')
    program.chmod(0o755)
    paths = {
        "PATH": f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(README.parent),
    }
    for block in BLOCKS:
        commands = re.sub(r"^\$ ", "", block, flags=re.MULTILINE)
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=tmp_path,
            env=os.environ | paths,
            capture_output=True,
            text=True,
            timeout=540,
            stdin=subprocess.DEVNULL,
        )
        assert result.returncode == 0, f"{commands}\n{result.stdout}\n{result.stderr}"
