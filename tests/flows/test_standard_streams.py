"""Whether anybody hears what a command says decides nothing of what it does."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import termios
import time

import pytest
from small_world import states

from pipelines.workspace.layout import Workspace

COMMAND = (sys.executable, "-c", "import sys; from flows.cli import main; sys.argv[0] = 'imsr'; main()")


def child(*words: object, **streams: object) -> subprocess.CompletedProcess[str]:
    """The process of a command."""
    return subprocess.run([*COMMAND, *map(str, words)], text=True, timeout=300, check=False, **streams)


@pytest.fixture
def full():
    with open("/dev/full", "w") as file:
        yield file


@pytest.fixture
def unread():
    """A pipe whose reader has gone, as `head` does."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def test_a_run_under_a_full_log_is_learnt_to_its_end_and_says_what_was_lost(ingested, copy_of, full):
    workspace = copy_of(ingested)
    ended = child("run", "-w", workspace.root, stdout=full, stderr=subprocess.PIPE)
    assert set(states(workspace).values()) == {"published"}
    assert ended.returncode == 1
    assert "error: the standard output cannot be written: No space left on device" in ended.stderr
    assert "make room where they go" in ended.stderr
    assert "Exception" not in ended.stderr


def test_a_run_that_nobody_reads_is_learnt_to_its_end(ingested, copy_of, unread):
    workspace = copy_of(ingested)
    assert child("run", "-w", workspace.root, stdout=unread, stderr=unread).returncode == 0
    assert set(states(workspace).values()) == {"published"}


@pytest.mark.parametrize("words", [("status",), ("status", "--json"), ("recommend", "--user", "u1")])
def test_an_answer_that_goes_nowhere_is_no_success(learnt, full, words):
    ended = child(*words, "-w", learnt.root, stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == 1
    assert ended.stderr.count("the standard output cannot be written") == 1


def test_an_answer_of_which_somebody_has_read_enough_is_one(learnt, unread):
    ended = child("status", "-w", learnt.root, stdout=unread, stderr=subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_error_that_cannot_be_said_is_one_all_the_same(tmp_path, full):
    assert child("status", "-w", tmp_path / "nowhere", stdout=full, stderr=full).returncode == 1


def test_a_pipe_that_does_not_wait_for_its_reader_gets_everything(learnt: Workspace):
    """As one has it from a process that has set the pipe so for itself."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    words = ["sql", "-w", str(learnt.root), "SELECT * FROM interactions, range(60)", "--csv", "--limit", "0"]
    process = subprocess.Popen([*COMMAND, *words], stdout=writing)
    os.close(writing)
    assert _filled(reading)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    assert process.wait(timeout=120) == 0
    assert len(said) > 1 << 20
    assert said.count(b"\n") % 60 == 1  # the names of the columns, and each event sixty times


def _filled(pipe: int) -> bool:
    """Whether somebody filled the pipe within a minute."""
    room, waiting = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ), bytearray(4)
    for _ in range(600):
        fcntl.ioctl(pipe, termios.FIONREAD, waiting)
        if int.from_bytes(waiting, sys.byteorder) > room - (1 << 13):
            return True
        time.sleep(0.1)
    return False
