"""The publish contract, in one place.

A folder is built aside in ``staging/``, sealed, and renamed to its final name:

1. every file is fsynced;
2. ``READY`` is written: JSON with the size and the sha256 of each file;
3. the folder is fsynced, renamed, and its new parent is fsynced;
4. the caller commits a row to the ledger that names the folder.

A rename never overwrites. A folder that the ledger does not name is an orphan of a run that died between 3
and 4; ``discard_orphan`` removes it. A reader that starts from the ledger therefore sees whole folders only.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imsr_core.errors import ImsrError
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Transaction

READY = "READY"


class PublishError(ImsrError):
    """Something is at a final path that may not be replaced, or a published folder is damaged."""


def write_atomic(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` so that a reader sees the old bytes or the new ones, never a mixture."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_path(path.parent)


@contextmanager
def staged_folder(workspace: Workspace, final: Path) -> Iterator[Path]:
    """Yield an empty staging folder; on a clean exit seal it and rename it to ``final``.

    On an exception the staging folder is removed and ``final`` is untouched. To publish several folders
    together use ``open_staging``, ``seal`` and ``move_into_place`` one after another.

    Raises:
        PublishError: ``final`` exists.
    """
    staging = open_staging(workspace, final.name)
    try:
        yield staging
        seal(staging)
        move_into_place(staging, final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def open_staging(workspace: Workspace, label: str) -> Path:
    """Make a new empty folder in ``staging/`` whose name starts with ``label``."""
    folder = workspace.staging / f"{label}.{secrets.token_hex(6)}"
    folder.mkdir(parents=True)
    return folder


def clear_staging(workspace: Workspace) -> None:
    """Remove what dead runs left in ``staging/``. Only for the holder of the lease."""
    for path in workspace.staging.iterdir() if workspace.staging.exists() else ():
        _remove(path)


def seal(folder: Path) -> None:
    """Fsync all files of ``folder``, write ``READY`` with their sizes and hashes, fsync the folders."""
    entries: dict[str, dict[str, str | int]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        fsync_path(path)
        entries[path.relative_to(folder).as_posix()] = {
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
    text = json.dumps({"files": entries}, indent=1, sort_keys=True) + "\n"
    write_atomic(folder / READY, text.encode())
    for path in folder.rglob("*"):
        if path.is_dir():
            fsync_path(path)
    hit(FailPoint.PUBLISH_SEALED)


def move_into_place(staged: Path, final: Path) -> None:
    """Rename a sealed folder, or a complete file, to its final path. Never overwrites.

    Raises:
        PublishError: ``final`` exists.
    """
    _make_parents(final.parent)
    try:
        if staged.is_dir():
            if final.exists():  # rename() would replace an empty folder
                raise FileExistsError(final)
            os.rename(staged, final)
        else:
            fsync_path(staged)
            os.link(staged, final)  # unlike rename() this fails if the name is taken
            staged.unlink()
    except OSError as error:
        if not final.exists():
            raise
        raise PublishError(f"{final} exists already", hint="run the command again; it clears orphans") from error
    fsync_path(final.parent)
    hit(FailPoint.PUBLISH_RENAMED)


def discard_orphan(workspace: Workspace, final: Path, tx: Transaction) -> bool:
    """Remove ``final`` if it exists and the ledger does not name it; return whether something was removed.

    It takes an open transaction because that is what makes the check safe: while ``tx`` is open no other
    run can commit a row that names ``final``.

    Raises:
        PublishError: the ledger names ``final``.
    """
    if not final.exists():
        return False
    if tx.names_path(workspace.relative(final)):
        raise PublishError(f"{final} is published and cannot be replaced", hint="run: imsr doctor")
    _remove(final)
    return True


def is_ready(folder: Path) -> bool:
    """Whether ``folder`` was sealed."""
    return (folder / READY).is_file()


def verify_folder(folder: Path) -> None:
    """Compare a published folder with its ``READY``.

    Raises:
        PublishError: not sealed, or a file is missing, of another size, or of other content.
    """
    if not is_ready(folder):
        raise PublishError(f"{folder} has no {READY}: it was never completed", hint="run: imsr doctor")
    for name, entry in json.loads((folder / READY).read_text(encoding="utf-8"))["files"].items():
        path = folder / name
        if not path.is_file():
            raise PublishError(f"{path} is missing", hint="restore it from a backup or run: imsr doctor")
        if path.stat().st_size != entry["bytes"] or file_sha256(path) != entry["sha256"]:
            raise PublishError(f"{path} is damaged: it is not what was published", hint="run: imsr doctor")


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_path(path: Path) -> None:
    """Make a file's content, or a folder's entries, survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_parents(folder: Path) -> None:
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        fsync_path(path.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
