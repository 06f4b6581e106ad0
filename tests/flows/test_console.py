import io
import shlex
import subprocess
import sys

import pytest
from rich.console import Console

from flows import console


@pytest.fixture
def said(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(console, "errors", Console(file=stream, width=200))
    return stream


def test_without_a_terminal_a_span_says_that_it_begins(said):
    with console.span_progress("[1/3] span 2024-03-01") as advance:
        assert said.getvalue() == "[1/3] span 2024-03-01: begins\n"
        advance(1, 100, 0.5)
    assert said.getvalue().count("\n") == 1  # not a line a step


def test_and_how_far_it_is_now_and_then(said, monkeypatch):
    clock = iter([0.0, 10.0, 31.0, 40.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.span_progress("a span") as advance:
        for done in (1_000, 2_000, 3_000):
            advance(done, 4_000, 0.25)
    assert said.getvalue().splitlines()[1:] == [
        "a span: 2,000 of 4,000 steps, loss 0.250, at most 42 s of training left"
    ]


def test_the_next_span_of_a_chain_is_estimated_by_its_own_steps(said, monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 1_000.0, 1_040.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.span_progress("a chain") as advance:
        for done, total in ((1, 2), (2, 2), (1, 96), (5, 96)):
            advance(done, total, 0.25)
    assert said.getvalue().splitlines()[-1].endswith("5 of 96 steps, loss 0.250, at most 910 s of training left")


def test_a_terminal_shows_no_bar_at_nought_of_one(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(console, "errors", Console(file=stream, width=200, force_terminal=True))
    with console.span_progress("a span") as advance:
        assert "0/1" not in stream.getvalue()
        advance(1, 10, 0.5)
    assert "0/1 steps" not in stream.getvalue()


def test_what_stands_between_colons_is_no_picture():
    for each in (console.console, console.errors):
        with each.capture() as captured:
            each.print(console.plain("root:x:0:0 :smile: [b]"))
        assert captured.get() == "root:x:0:0 :smile: [b]\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_with_closed_streams_runs_as_with_the_null_device(tmp_path, closed):
    script = "import sys; from flows.cli import main; sys.argv[0] = 'imsr'; main()"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(script)} init {shlex.quote(str(tmp_path / 'w'))} {closed}"
    assert subprocess.run(["bash", "-c", command], timeout=120).returncode == 0
    assert (tmp_path / "w/imsr.toml").is_file()
    assert (tmp_path / "w/ledger.sqlite").read_bytes().startswith(b"SQLite format 3")
