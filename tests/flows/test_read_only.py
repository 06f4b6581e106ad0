"""A workspace that may only be read: what answers, and what is said where something would be written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import duckdb
import pyarrow as pa
import pytest

from flows import cli
from flows.commands import report as report_command
from flows.commands import sql as sql_commands


@pytest.fixture
def read_only(learnt, copy_of, tmp_path):
    """A learnt workspace, mounted so that nobody may write it."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    mount = ["mount", "--bind", str(copy_of(learnt).root), str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def imsr(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from flows.start import main; main()", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_what_reads_answers_and_what_writes_says_that_it_may_not(read_only, tmp_path):
    outside = tmp_path / "page.html"
    for words in (["status"], ["plan"], ["explain", "--user", "u1"], ["report", "--out", outside]):
        done = imsr(*words, "-w", read_only)
        assert done.returncode == 0, done.stderr
    assert outside.stat().st_size > 0
    for words, advice in ((["report"], "--out FILE"), (["views"], "may not write there")):
        done = imsr(*words, "-w", read_only)
        assert (done.returncode, advice in done.stderr) == (1, True), done.stderr
        assert "run the command again" not in done.stderr


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_page_that_cannot_be_written_to_the_workspace_is_offered_elsewhere(learnt, monkeypatch, capsys, number):
    def refused(*_):
        raise OSError(number, os.strerror(number), "reports")

    monkeypatch.setattr(report_command, "write_report", refused)
    monkeypatch.setattr(report_command, "write_span_matrix", refused)
    monkeypatch.setattr(sys, "argv", ["imsr", "report", "-w", str(learnt.root)])
    with pytest.raises(SystemExit):
        cli.run_command()
    assert "--out FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.EROFS, "may not write there"), (errno.EIO, "again"), (errno.ENOSPC, "make room on its disk and run")],
)
def test_the_advice_fits_the_trouble_of_the_disk(learnt, monkeypatch, capsys, number, advice):
    def refused(*_, **__):
        raise OSError(number, os.strerror(number), "catalog")

    monkeypatch.setattr(sql_commands, "publish_catalog", refused)
    monkeypatch.setattr(sys, "argv", ["imsr", "views", "-w", str(learnt.root)])
    with pytest.raises(SystemExit):
        cli.run_command()
    assert advice in capsys.readouterr().err


@pytest.mark.parametrize("kind", [duckdb.InvalidInputException, pa.ArrowInvalid], ids=lambda kind: kind.__name__)
def test_an_engine_that_passes_on_the_systems_words_is_understood(learnt, monkeypatch, capsys, kind):
    def refused(said):
        raise kind(said)

    monkeypatch.setattr(sys, "argv", ["imsr", "views", "-w", str(learnt.root)])
    monkeypatch.setattr(sql_commands, "publish_catalog", lambda *_, **__: refused(f"x: {os.strerror(errno.EIO)}"))
    with pytest.raises(SystemExit) as ended:
        cli.run_command()
    assert ended.value.code == 1
    assert "once the disk is in order run the command again" in capsys.readouterr().err
    monkeypatch.setattr(sql_commands, "publish_catalog", lambda *_, **__: refused("a bug"))
    with pytest.raises(kind):
        cli.run_command()


def test_a_ledger_that_may_not_grow_says_what_to_look_for_and_what_then(ingested, copy_of):
    """As under a limit on the size of files, of which SQLite only says that the disk failed."""
    workspace = copy_of(ingested)
    script = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
    script += "from flows.cli import main; sys.argv[0] = 'imsr'; main()"
    command = [sys.executable, "-c", script, "run", "-w", str(workspace.root)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 1
    assert "ulimit -f" in ended.stderr
    assert "run the command again" in ended.stderr
