"""Damaged JSON, in files and in the ledger: every command ends with a message, and the doctor finds it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from typer.testing import CliRunner

from flows.cli import app
from imsr_core.errors import ImsrError
from pipelines.care.doctor import Severity, examine
from pipelines.workspace.lease import hold

VERSION, SPAN = "2024-03-06.1", "2024-03-06"
FILES = {
    "the lineage": f"versions/{VERSION}/lineage.json",
    "the seal of a version": f"versions/{VERSION}/READY",
    "the settings of a version": f"versions/{VERSION}/config.json",
    "an old lineage": "versions/2024-03-03.1/lineage.json",
    "the manifest of sequences": f"sequences/span={SPAN}/*/sequences.json",
    "the first manifest": "sequences/span=2024-03-01/*/sequences.json",
    "the seal of sequences": f"sequences/span={SPAN}/*/READY",
    "the seal of data": "lake/span=2024-03-03/v=1/READY",
}
#: Not JSON, JSON of another kind, and JSON that is deeper than any parser likes.
TEXTS = {
    "nothing": b"",
    "a list": b"[]",
    "half": b'{"files": {"a"',
    "another shape": b'{"files": {"a": 3}, "spans": 3}',
    "no text": b"\xff\xfe",
    "depth": b'{"a":' * 3000,
}
QUICK = {("the lineage", "nothing"), ("the seal of a version", "another shape"), ("the first manifest", "a list")}
COMMANDS = (["status"], ["plan"], ["doctor"], ["prune", "--dry-run"], ["prune"], ["run"], ["prune", "--damaged"])
ROWS = {
    "a summary": ("versions", "summary", f"version_id = '{VERSION}'"),
    "the files of a batch": ("batches", "files", "1"),
    "the state of a version": ("versions", "state", f"version_id = '{VERSION}'"),
    "the calendar": ("meta", "value", "key = 'calendar'"),
}


def cases(places, *, quick):
    every = [(place, text) for place in places for text in TEXTS]
    return [pytest.param(*each, marks=() if each in quick else pytest.mark.slow) for each in every]


def require_messages(workspace, commands=COMMANDS):
    """No command ends with another error than one with a message, or says that the ledger is locked."""
    for command in commands:
        result = CliRunner().invoke(app, [*command, "-w", str(workspace.root)])
        error = result.exception
        assert error is None or isinstance(error, ImsrError | SystemExit), f"{command}: {error!r}"
        assert "locked" not in str(error)
        if isinstance(error, ImsrError):
            assert error.hint, f"{command}: {error}"


@pytest.mark.parametrize(("place", "text"), cases(FILES, quick=QUICK))
def test_a_damaged_file(due, place, text):
    path = sorted(due.root.glob(FILES[place]))[0]
    path.write_bytes(TEXTS[text])
    found = [finding for finding in examine(due, deep=True) if finding.severity is Severity.ERROR]
    assert any(finding.where in due.relative(path) and finding.mend for finding in found)
    require_messages(due)


@pytest.mark.parametrize(("row", "text"), cases(ROWS, quick={("a summary", "half"), ("the calendar", "a list")}))
def test_a_damaged_row_of_the_ledger(due, row, text):
    table, column, where = ROWS[row]
    with closing(sqlite3.connect(due.ledger_file)) as connection, connection:
        value = TEXTS[text].decode("utf-8", "replace")
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", [value])
    found = examine(due)
    assert any(finding.severity is Severity.ERROR and "ledger" in finding.where for finding in found)
    assert any("backup" in finding.mend for finding in found)
    require_messages(due)


@pytest.mark.parametrize("text", TEXTS)
def test_a_damaged_lease_is_taken_over_once_its_heart_has_stopped(due, text):
    with hold(due, "test"):
        pass
    with closing(sqlite3.connect(due.ledger_file)) as connection, connection:
        value = TEXTS[text].decode("utf-8", "replace")
        connection.execute("UPDATE leases SET holder = ?, heartbeat = 0", [value])
    require_messages(due, (["status"], ["doctor"]))
    with hold(due, "test") as lease:
        assert lease.token > 0
