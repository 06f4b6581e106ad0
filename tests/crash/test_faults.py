"""A disk that fails: the command ends with an error, what is published stays, and the next run makes up for it.

Operations are counted as libc sees them, so that those of Arrow, DuckDB and SQLite fail, too.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import faulty_files
import pytest
from failing import Failing
from tiny_world import Worlds

needs_compiler = pytest.mark.skipif(faulty_files.library() is None, reason="no C compiler for faulty_files.c")
NUMBERS = [errno.EIO, errno.ENOSPC]
NAMES = [errno.errorcode[number] for number in NUMBERS]


@pytest.fixture(scope="module")
def failing(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Failing]]:
    """Scenario -> its trials, made when they are first asked for."""

    class Trials(dict):
        def __missing__(self, name: str) -> Failing:
            self[name] = Failing(worlds, name, tmp_path_factory.mktemp("failing"))
            return self[name]

    return Trials()


@needs_compiler
@pytest.mark.parametrize("number", NUMBERS, ids=NAMES)
def test_some_operations_of_an_ingest_fail(failing, done, number):
    operations = failing["ingest"].operations(number)
    for part in (0.3, 0.6, 0.9):
        assert failing["ingest"].survives(round(part * operations), number)
        done["faults"] += 1


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("number", NUMBERS, ids=NAMES)
@pytest.mark.parametrize(("name", "step"), [("ingest", 1), ("night", 1), ("promote", 1), ("forget", 3), ("prune", 3)])
def test_every_operation_fails_once(failing, done, name, step, number, every):
    for nth in range(1, failing[name].operations(number) + 1, step * every):
        failing[name].survives(nth, number)
        done["faults"] += 1
