"""Nothing is named before what it names is on the disk: the order of fsyncs and renames, traced."""

import os

import pytest

from pipelines.workspace.ledger import Ledger
from pipelines.workspace.publish import move_into_place
from pipelines.workspace.seal import READY, seal


@pytest.fixture
def trace(monkeypatch, tmp_path):
    """("fsync", path) and ("rename", path) in the order in which they happen, paths below ``tmp_path``."""
    events, fsync = [], os.fsync

    def name_of(path):
        return os.path.relpath(path, tmp_path)

    def traced(descriptor):
        events.append(("fsync", name_of(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def renaming(call):
        def renamed(source, target, **options):
            call(source, target, **options)
            events.append(("rename", name_of(target)))

        return renamed

    monkeypatch.setattr(os, "fsync", traced)
    for name in ("rename", "replace", "link"):
        monkeypatch.setattr(os, name, renaming(getattr(os, name)))
    return events


def test_a_seal_comes_after_the_files_and_before_the_folder(tmp_path, trace):
    folder = tmp_path / "staged"
    (folder / "inner").mkdir(parents=True)
    for name in ("a", "inner/b"):
        (folder / name).write_text("x")
    seal(folder)
    ready = trace.index(("rename", f"staged/{READY}"))
    for name in ("staged/a", "staged/inner/b"):
        assert trace.index(("fsync", name)) < ready
    kinds = [kind for kind, path in trace[:ready] if path.startswith(f"staged/.{READY}")]
    assert kinds == ["fsync"]  # READY's own bytes, before it has its name
    after = trace[ready:]
    assert ("fsync", "staged") in after
    assert ("fsync", "staged/inner") in after


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_name_is_on_the_disk_before_anybody_is_told(tmp_path, trace, kind):
    staged = tmp_path / "staged"
    if kind == "folder":
        staged.mkdir()
        (staged / "a").write_text("x")
        seal(staged)
    else:
        staged.write_text("x")
    trace.clear()
    move_into_place(staged, tmp_path / "deep" / "final")
    renamed = trace.index(("rename", "deep/final"))
    assert ("fsync", "deep") in trace[renamed:]
    assert ("fsync", ".") in trace[:renamed]  # the new parent's own name
    if kind == "file":
        assert ("fsync", "staged") in trace[:renamed]


def test_the_ledger_waits_for_the_disk(tmp_path):
    ledger = Ledger.create(tmp_path / "ledger.sqlite")
    with ledger._connection("BEGIN IMMEDIATE") as connection:
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
