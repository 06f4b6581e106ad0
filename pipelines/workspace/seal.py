"""The seal of a folder: READY holds size and hash of every file."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path

from imsr_core.errors import ImsrError
from pipelines.workspace.failpoints import FailPoint, hit

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


def is_ready(folder: Path) -> bool:
    """Whether ``folder`` was sealed."""
    return (folder / READY).is_file()


def is_same(one: Path, other: Path) -> bool:
    """Whether ``other`` holds, undamaged, exactly the files that ``one`` was sealed with."""
    if not is_ready(other) or (one / READY).read_bytes() != (other / READY).read_bytes():
        return False
    try:
        verify_folder(other)
    except PublishError:
        return False
    return True


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
