"""A file that stays as it is is parsed once; one that changes, in whatever way, is read again."""

from __future__ import annotations

import json
import os
import time

import pytest

from pipelines.workspace.known_content import KnownContent
from pipelines.workspace.seal import write_atomic

LONG_AGO = time.time() - 3600


@pytest.fixture
def counted():
    """What counts how often it had to parse."""
    calls = []

    def parse(path):
        calls.append(path)
        return json.loads(path.read_text())

    return KnownContent(parse), calls


def written(path, text):
    """A file whose change time lies as far back as a test can have it: what was written just now is never kept."""
    path.write_text(text)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


@pytest.fixture
def patient(monkeypatch):
    """An hour from now, for whoever asks how old a file is."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)


@pytest.mark.usefixtures("patient")
def test_a_file_that_stays_is_parsed_once(tmp_path, counted):
    known, calls = counted
    path = written(tmp_path / "a.json", "[1]")
    assert [known.of(path) for _ in range(3)] == [[1]] * 3
    assert len(calls) == 1


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    "change",
    [
        lambda path: written(path, "[2]"),  # of the same size, and dated as before
        lambda path: write_atomic(path, b"[2]"),
        lambda path: path.write_text("[2, 3]"),
    ],
    ids=["in place", "replaced", "longer"],
)
def test_a_file_that_changes_is_read_again(tmp_path, counted, change):
    known, _ = counted
    path = written(tmp_path / "a.json", "[1]")
    assert known.of(path) == [1]
    time.sleep(0.05)  # past a tick of the file system's clock: `known_content.RACY` is for what is younger
    change(path)
    assert known.of(path)[0] == 2


def test_what_was_written_a_moment_ago_is_not_relied_on(tmp_path, counted):
    known, calls = counted
    path = written(tmp_path / "a.json", "[1]")
    assert known.of(path) == known.of(path) == [1]
    assert len(calls) == 2  # its change time is of this moment: within a tick of the clock it could change unseen


@pytest.mark.usefixtures("patient")
def test_a_lost_or_damaged_file_is_an_error_though_it_was_known(tmp_path, counted):
    known, _ = counted
    path = written(tmp_path / "a.json", "[1]")
    known.of(path)
    path.write_text("[")
    with pytest.raises(ValueError, match="Expecting"):
        known.of(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        known.of(path)


@pytest.mark.usefixtures("patient")
def test_it_forgets_the_oldest(tmp_path, counted, monkeypatch):
    known, calls = counted
    monkeypatch.setattr("pipelines.workspace.known_content.KEPT", 2)
    paths = [written(tmp_path / f"{n}.json", f"[{n}]") for n in range(3)]
    assert [known.of(path) for path in paths] == [[0], [1], [2]]
    known.of(paths[2])
    assert len(calls) == 3
    known.of(paths[0])
    assert len(calls) == 4
