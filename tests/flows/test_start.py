"""Ctrl-C ends a command as it begins, too."""

import sys
import tomllib
from pathlib import Path

import pytest

from flows.start import main


class Interrupted:
    """A finder of modules in the midst of which Ctrl-C arrives."""

    def find_spec(self, name, path=None, target=None):
        if name == "flows.cli":
            raise KeyboardInterrupt


def test_ctrl_c_while_the_modules_are_read_is_no_traceback(monkeypatch):
    monkeypatch.delitem(sys.modules, "flows.cli", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130


def test_the_command_begins_there():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["scripts"] == {"imsr": "flows.start:main"}
