import json
import os
import threading
from contextlib import contextmanager, nullcontext

import pytest

from pipelines.workspace import failpoints
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import SpanRow, SpanState, SpanVersionRow
from pipelines.workspace.publish import clear_staging, discard_orphan, move_into_place, staging_folder
from pipelines.workspace.seal import (
    READY,
    PublishError,
    file_sha256,
    is_ready,
    seal,
    verify_folder,
    write_atomic,
)


@pytest.fixture
def workspace(tmp_path):
    return Workspace.create(tmp_path / "w", "")


@contextmanager
def staged_folder(workspace, final):
    """A folder that is published at ``final`` when the block ends well."""
    with staging_folder(workspace, final.name) as staging:
        yield staging
        seal(staging)
        move_into_place(staging, final)


def test_a_folder_appears_whole(workspace):
    final = workspace.span_folder("2017-03", 1)
    with staged_folder(workspace, final) as staging:
        (staging / "bucket=00.parquet").write_bytes(b"rows")
        (staging / "deep").mkdir()
        (staging / "deep" / "more").write_bytes(b"")
        assert not final.exists()
    assert is_ready(final)
    verify_folder(final)
    assert set(json.loads((final / READY).read_text())["files"]) == {"bucket=00.parquet", "deep/more"}
    assert list(workspace.staging.iterdir()) == []


def test_an_error_inside_leaves_nothing(workspace):
    final = workspace.span_folder("2017-03", 1)
    with pytest.raises(RuntimeError, match="boom"), staged_folder(workspace, final):
        raise RuntimeError("boom")
    assert not final.exists()
    assert list(workspace.staging.iterdir()) == []


@pytest.mark.parametrize("content", [{}, {"x": b"1"}])
def test_a_published_folder_is_never_overwritten(workspace, content):
    final = workspace.span_folder("2017-03", 1)
    final.mkdir(parents=True)
    for name, data in content.items():
        (final / name).write_bytes(data)
    with pytest.raises(PublishError, match="exists already"), staged_folder(workspace, final) as staging:
        (staging / "y").write_bytes(b"2")
    assert {path.name for path in final.iterdir()} == set(content)


def test_nor_is_a_published_file(workspace):
    final = workspace.quarantine_file("b000001")
    for text, fails in ((b"one", nullcontext()), (b"two", pytest.raises(PublishError))):
        with staging_folder(workspace, "x") as folder:
            staged = folder / "q.parquet"
            staged.write_bytes(text)
            with fails:
                move_into_place(staged, final)
    assert final.read_bytes() == b"one"


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "unready"])
def test_damage_is_found(workspace, harm):
    folder = workspace.root / "x"
    folder.mkdir()
    (folder / "data").write_bytes(b"0123456789")
    seal(folder)
    verify_folder(folder)
    match harm:
        case "flip":
            (folder / "data").write_bytes(b"0123456798")
        case "cut":
            (folder / "data").write_bytes(b"012345678")
        case "remove":
            (folder / "data").unlink()
        case "unready":
            (folder / READY).unlink()
    with pytest.raises(PublishError):
        verify_folder(folder)


def test_orphans_go_and_named_folders_stay(workspace):
    orphan, named = workspace.span_folder("2017-03", 1), workspace.span_folder("2017-04", 1)
    for folder in (orphan, named):
        folder.mkdir(parents=True)
    with workspace.ledger.transaction() as tx:
        tx.put_span(SpanRow("2017-04", 0, 1, 1, SpanState.INGESTED))
        tx.add_span_version(SpanVersionRow("2017-04", 1, workspace.relative(named), "f", 1, 1, 1, "t"))
    with workspace.ledger.transaction() as tx:
        assert discard_orphan(workspace, orphan, tx)
        assert not discard_orphan(workspace, orphan, tx)
        with pytest.raises(PublishError, match="cannot be replaced"):
            discard_orphan(workspace, named, tx)
    assert named.exists()
    assert not orphan.exists()


def test_clear_staging(workspace):
    (workspace.staging / "a.1").mkdir(parents=True)
    (workspace.staging / "a.1" / "f").write_text("x")
    (workspace.staging / "loose").write_text("x")
    clear_staging(workspace)
    assert list(workspace.staging.iterdir()) == []


def test_a_pipe_or_a_device_is_written_to_and_stays_what_it_is(tmp_path):
    """As root `imsr report --out /dev/null` would have put a file in the place of the device."""
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_atomic(pipe, b"one")
    reader.join(60)
    assert read == [b"one"]
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_write_atomic_replaces_and_leaves_no_temporary(tmp_path, monkeypatch):
    path = tmp_path / "pointer"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        write_atomic(path, b"three")
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["pointer"]


def test_a_crash_before_the_rename_leaves_no_final_folder(workspace, monkeypatch):
    monkeypatch.setenv(failpoints.VARIABLE, "publish.sealed:1:raise")
    final = workspace.span_folder("2017-03", 1)
    with pytest.raises(failpoints.InjectedFailure), staged_folder(workspace, final):
        pass
    assert not final.exists()


def test_a_file_that_was_found_whole_lately_is_not_read_again_until_it_changes(tmp_path, monkeypatch):
    folder, read = tmp_path / "folder", []
    folder.mkdir()
    (folder / "file").write_bytes(b"weights")
    seal(folder)

    def noted(path):
        read.append(path.name)
        return file_sha256(path)

    monkeypatch.setattr("pipelines.workspace.seal.file_sha256", noted)
    for _ in range(3):
        verify_folder(folder, lately=True)
    assert read == ["file"]
    verify_folder(folder)  # who does not say that lately is enough has it read
    assert read == ["file"] * 2
    at = (folder / "file").stat()
    (folder / "file").write_bytes(b"weighty")
    os.utime(folder / "file", ns=(at.st_atime_ns, at.st_mtime_ns))  # as large, and as old by what it says
    with pytest.raises(PublishError, match="damaged"):
        verify_folder(folder, lately=True)


def test_a_file_is_read_again_when_it_was_found_whole_long_ago(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"weights")
    seal(tmp_path)
    verify_folder(tmp_path, lately=True)
    monkeypatch.setattr("pipelines.workspace.seal.LATELY", 0.0)
    monkeypatch.setattr("pipelines.workspace.seal.file_sha256", lambda path: "something else")
    with pytest.raises(PublishError, match="damaged"):
        verify_folder(tmp_path, lately=True)


def test_what_was_found_whole_long_ago_is_forgotten(tmp_path, monkeypatch):
    found = {}
    monkeypatch.setattr("pipelines.workspace.seal._FOUND_WHOLE", found)
    for name in ("early", "late"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "file").write_bytes(b"weights")
        seal(folder)
        verify_folder(folder, lately=True)
        monkeypatch.setattr("pipelines.workspace.seal.LATELY", 0.0)
    assert [mark[0] for mark in found] == [str(tmp_path / "late" / "file")]
