"""The publish contract, in one place.

A folder is built aside in ``staging/``, sealed, and renamed to its final name:

1. every file is fsynced;
2. ``READY`` is written: JSON with the size and the sha256 of each file;
3. the folder is fsynced, renamed, and its new parent is fsynced;
4. the caller commits a row to the ledger that names the folder.

A rename never overwrites. A folder that the ledger does not name is an orphan of a run that died between 3
and 4; ``discard_orphan`` removes it, unless something that the ledger does name still needs it: then the ledger lost
a row. A reader that starts from the ledger therefore sees whole folders only.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.file_system import UNKNOWN
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Transaction
from pipelines.workspace.seal import PublishError, fsync_path


@contextmanager
def staging_folder(workspace: Workspace, label: str) -> Iterator[Path]:
    """A new empty folder in ``staging/`` whose name starts with ``label``, for the block: what was not moved into place
    by then is removed."""
    folder = workspace.staging / f"{label}.{secrets.token_hex(6)}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear_staging(workspace: Workspace) -> None:
    """Remove what dead runs left in ``staging/``. Only for the holder of the lease."""
    for path in workspace.staging.iterdir() if workspace.staging.exists() else ():
        _remove(path)


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
            _give_name(staged, final)
    except OSError as error:
        if not final.exists():
            raise
        raise PublishError(f"{final} exists already", hint="run the command again; it clears orphans") from error
    fsync_path(final.parent)
    hit(FailPoint.PUBLISH_RENAMED)


def _give_name(staged: Path, final: Path) -> None:
    try:
        os.link(staged, final)  # unlike rename() this fails if the name is taken
    except OSError as error:
        if error.errno not in UNKNOWN or final.exists():
            raise
        os.rename(staged, final)  # a file system without links; nobody else writes while the lease is held
    else:
        staged.unlink()


def discard_orphan(workspace: Workspace, final: Path, tx: Transaction, *, needed: Container[Path] = ()) -> bool:
    """Remove ``final`` if it exists and the ledger does not name it; return whether something was removed.

    It takes an open transaction because that is what makes the check safe: while ``tx`` is open no other
    run can commit a row that names ``final``.

    Args:
        workspace: where ``final`` is.
        final: a folder or file at its published place.
        tx: the open transaction.
        needed: folders that are in use though the ledger may not name them (see `pipelines.versions.dependencies`).

    Raises:
        PublishError: the ledger names ``final``, or it is ``needed``: it may be all there is of what the ledger lost.
    """
    if not final.exists() and not final.is_symlink():
        return False
    if tx.names_path(workspace.relative(final)):
        raise PublishError(f"{final} is published and cannot be replaced", hint="run: imsr doctor")
    if final in needed:
        raise PublishError(
            f"{final} is still in use, but the ledger lost its row", hint="restore ledger.sqlite from a backup"
        )
    _remove(final)
    return True


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
