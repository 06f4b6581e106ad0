"""Prefect has a folder for its notes whatever the home of a command's user is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os
from flows.commands.serve import prepare_prefect
prepare_prefect()
print(os.environ.get("PREFECT_HOME"), flush=True)
"""


def home_of(**variables: str) -> tuple[str, str]:
    """What PREFECT_HOME is for a process with these variables, and what it is told."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "HOME"))}
    options = {"capture_output": True, "text": True, "check": True, "timeout": 60}
    ended = subprocess.run([sys.executable, "-c", SCRIPT], env=kept | variables, **options)
    return ended.stdout.strip(), ended.stderr


@pytest.fixture
def no_folder(tmp_path: Path) -> str:
    """A place where nobody, root neither, can make a folder: below a file."""
    (tmp_path / "file").touch()
    return str(tmp_path / "file/home")


def test_a_home_that_can_be_written_is_prefects(tmp_path):
    assert home_of(HOME=str(tmp_path)) == ("None", "")
    assert home_of(HOME=str(tmp_path), PREFECT_HOME=str(tmp_path / "notes")) == (str(tmp_path / "notes"), "")


@pytest.mark.parametrize("variable", ["HOME", "PREFECT_HOME"])
def test_without_one_it_is_a_temporary_folder_that_goes_at_the_end(variable, no_folder):
    given, told = home_of(**{variable: no_folder})
    assert "imsr-prefect-" in given
    assert not Path(given).exists()
    assert told.startswith(f"warning: {no_folder}")
    assert "PREFECT_HOME=FOLDER keeps them" in told


def test_a_full_disk_is_no_home(tmp_path, monkeypatch):
    from flows import prefect_home

    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setattr(prefect_home.tempfile, "TemporaryFile", full)
    prefect_home.provide_prefect_home()
    assert "imsr-prefect-" in os.environ["PREFECT_HOME"]
