"""File systems that are not like a local disk: what can be done otherwise is, and what cannot is said."""

import errno
import fcntl
import os
import sqlite3
import stat
from pathlib import Path

import pytest
from ingest_cases import ROWS, events, quarantine, run, write_csv

from pipelines.care.doctor import examine
from pipelines.workspace import ledger as ledgers
from pipelines.workspace.decoding import LedgerError
from pipelines.workspace.file_system import lacks
from pipelines.workspace.layout import Workspace


def refused(number):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


def sync_files_only(descriptor, sync=os.fsync):
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "Invalid argument")
    sync(descriptor)


LESS = {
    "no symbolic links": lambda patch: patch.setattr(Path, "symlink_to", refused(errno.EPERM)),
    "no hard links": lambda patch: patch.setattr(os, "link", refused(errno.EOPNOTSUPP)),
    "no fsync of folders": lambda patch: patch.setattr(os, "fsync", sync_files_only),
}


@pytest.mark.parametrize("less", LESS)
def test_what_a_file_system_lacks_is_done_otherwise(tmp_path, monkeypatch, less):
    LESS[less](monkeypatch)
    workspace = Workspace.create(tmp_path / "w", "")
    run(workspace, write_csv(tmp_path / "log[1].csv", [*ROWS, ("", "tea", "2024-01-01")]))
    assert (len(events(workspace)), len(quarantine(workspace))) == (4, 1)
    assert not [finding for finding in examine(workspace) if finding.severity == "error"]


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    assert lacks(tmp_path) == []
    workspace = Workspace.create(tmp_path / "w", "")
    monkeypatch.setattr(fcntl, "lockf", refused(errno.ENOLCK))
    assert lacks(tmp_path) == ["lock files"]

    def locked(*_, **__):
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(ledgers.sqlite3, "connect", locked)
    with pytest.raises(LedgerError) as caught, workspace.ledger.snapshot():
        pass
    assert "cannot lock files: keep workspaces on a local disk" in caught.value.hint
    with pytest.raises(LedgerError, match="database is locked"):
        Workspace.create(tmp_path / "v", "")
    (finding,) = [each for each in examine(workspace) if each.where == "ledger.sqlite"]
    assert "cannot lock files" in finding.mend  # a backup would be put in the place of a ledger that is whole


def test_a_full_disk_is_no_lack(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", refused(errno.ENOSPC))
    assert lacks(tmp_path) == []


def test_a_workspace_that_was_begun_is_made_whole_and_one_with_events_is_not_replaced(tmp_path):
    workspace = Workspace.create(tmp_path / "w", "")
    workspace.settings_file.unlink()
    Workspace.create(tmp_path / "w", "")
    workspace.settings_file.unlink()
    workspace.ledger_file.write_bytes(b"")
    workspace = Workspace.create(tmp_path / "w", "")
    run(workspace, write_csv(tmp_path / "log.csv", ROWS))
    workspace.settings_file.unlink()
    with pytest.raises(LedgerError, match="exists already") as caught:
        Workspace.create(tmp_path / "w", "")
    assert "restore it from a backup" in caught.value.hint
