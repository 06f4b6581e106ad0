"""Places and files that a command is given, and something else stands there: one message, and nothing is written."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from flows.cli import app
from imsr_core.errors import ConfigError


def refusal(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(result.exception, ConfigError), result.output
    return result.exception


@pytest.mark.parametrize("below", ["", "/below"])
@pytest.mark.parametrize("command", ["init", "demo", "export", "bench"])
def test_a_file_where_a_folder_is_wanted_is_one_message(tmp_path, learnt, command, below):
    (tmp_path / "notes").write_text("mine")
    place = f"{tmp_path}/notes{below}"
    words = {
        "export": ["export", place, "-w", learnt.root],
        "bench": ["bench", "-w", learnt.root, "--out", place],
    }.get(command, [command, place])
    assert f"{tmp_path}/notes is a file, and a folder is wanted there" in refusal(*words).message
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_folder_where_a_file_is_wanted_is_one_message(tmp_path, learnt):
    assert "is a folder" in refusal("metrics", "-w", learnt.root, "--out", tmp_path).message
    assert "there is no folder" in refusal("metrics", "-w", learnt.root, "--out", tmp_path / "no" / "x.prom").message


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"# caf\xe9\n", "no UTF-8 text"), (b"[spans]\nunit = day\n", "no valid TOML"), (b"[span]\n", "unknown section")],
)
def test_settings_to_start_from_are_refused_by_their_name(tmp_path, content, says):
    (tmp_path / "mine.toml").write_bytes(content)
    error = refusal("init", tmp_path / "w", "--settings", tmp_path / "mine.toml")
    assert "mine.toml" in error.message
    assert says in error.message
    assert not (tmp_path / "w").exists()


def test_settings_may_begin_with_a_mark_of_windows(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b'\xef\xbb\xbf[spans]\nunit = "day"\n')
    result = CliRunner().invoke(app, ["init", str(tmp_path / "w"), "--settings", str(tmp_path / "mine.toml")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "w" / "imsr.toml").read_text(encoding="utf-8").startswith("[spans]")
