"""The seal of a folder: READY holds size and hash of every file; READY.next what they will be after a rewrite."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Collection
from pathlib import Path
from typing import TypedDict

from imsr_core.counted import counted
from imsr_core.errors import ImsrError
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.file_system import UNKNOWN

READY = "READY"
#: Seconds for which a file that is read again and again, as by a process that learns span after span, is believed.
LATELY = 3600.0
_FOUND_WHOLE: dict[tuple[object, ...], float] = {}
#: While a folder is rewritten: what its files will be (see `pipelines.workspace.rewrite`).
NEXT = "READY.next"


class PublishError(ImsrError):
    """Something is at a final path that may not be replaced, or a published folder is damaged."""


class Entry(TypedDict):
    """What a seal says of a file."""

    bytes: int
    sha256: str


#: Name in the folder, with forward slashes -> the file.
Entries = dict[str, Entry]


def write_atomic(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` so that a reader sees the old bytes or the new ones, never a mixture.

    A device or a pipe (/dev/stdout, /dev/null) is written to, not replaced.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(data)
        return
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
    entries: Entries = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        fsync_path(path)
        entries[path.relative_to(folder).as_posix()] = entry_of(path)
    write_seal(folder / READY, entries)
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


def entry_of(path: Path) -> Entry:
    """What a seal says of a file as it is now."""
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def matches(path: Path, entry: Entry, *, deep: bool = True) -> bool:
    """Whether a file is what a seal says; without ``deep`` by its size alone."""
    return path.stat().st_size == entry["bytes"] and (not deep or file_sha256(path) == entry["sha256"])


def read_seal(path: Path) -> Entries:
    """The files that a seal names; ``path`` is READY or READY.next in a folder.

    Raises:
        PublishError: it is missing or damaged.
    """
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {str(name): {"bytes": int(each["bytes"]), "sha256": str(each["sha256"])} for name, each in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PublishError(f"{path} is missing or damaged: {error}", hint="run: imsr doctor") from error


def write_seal(path: Path, entries: Entries) -> None:
    """Write a seal in one step."""
    write_atomic(path, (json.dumps({"files": entries}, indent=1, sort_keys=True) + "\n").encode())


def verify_folder(folder: Path, only: Collection[str] = (), *, lately: bool = False) -> None:
    """Compare a published folder, or ``only`` some of its files, with its ``READY``. With ``lately`` a file that this
    process has found undamaged within `LATELY`, and that nobody wrote to since, is not read again.

    Raises:
        PublishError: not sealed, or a file is missing, of another size, or of other content.
    """
    if not is_ready(folder):
        raise PublishError(f"{folder} has no {READY}: it was never completed", hint="run: imsr doctor")
    for name, entry in read_seal(folder / READY).items():
        path = folder / name
        if only and name not in only:
            continue
        if not path.is_file():
            raise PublishError(f"{path} is missing", hint="restore it from a backup or run: imsr doctor")
        mark = (str(path), entry["sha256"], *_times(path))
        if lately and time.monotonic() - _FOUND_WHOLE.get(mark, -LATELY) < LATELY and matches(path, entry, deep=False):
            continue
        if not matches(path, entry):
            raise PublishError(f"{path} is damaged: it is not what was published", hint="run: imsr doctor")
        if lately:
            _remember(mark)


def _remember(mark: tuple[object, ...]) -> None:
    """Note that a file is whole; what was found longer ago than `LATELY` is of no use any more, and goes."""
    now = time.monotonic()
    for old, found in list(_FOUND_WHOLE.items()):
        if now - found >= LATELY:
            _FOUND_WHOLE.pop(old, None)  # another thread may have dropped it
    _FOUND_WHOLE[mark] = now


def _times(path: Path) -> tuple[int, ...]:
    """What changes when somebody writes to a file, or puts another in its place."""
    found = path.stat()
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


def folder_problem(folder: Path, *, deep: bool) -> str | None:
    """What is wrong with a published folder: the first thing, or None. Files that the seal does not name are, too."""
    if not folder.is_dir():
        return "it is missing"
    if not is_ready(folder):
        return f"it has no {READY}: it was never completed"
    try:
        entries = read_seal(folder / READY)
    except PublishError:
        return f"its {READY} is damaged"
    coming = _coming(folder)
    for name, entry in entries.items():
        path = folder / name
        if coming is not None and _is_coming(path, coming.get(name), deep):
            continue
        if not path.is_file():
            return f"{name} is missing"
        if not matches(path, entry, deep=False):
            return f"{name} has {counted(path.stat().st_size, 'byte')}, {entry['bytes']} were published"
        if deep and not matches(path, entry):
            return f"{name} is not what was published: its content changed"
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    strangers = {name for name in there - {*entries, READY, NEXT} if not _is_edition(name, entries, coming)}
    return f"{min(strangers)} was not published with it" if strangers else None


def _coming(folder: Path) -> Entries | None:
    """What a rewriting that was interrupted makes of a folder (see `rewrite`); None if there is none."""
    try:
        return read_seal(folder / NEXT) if (folder / NEXT).exists() else None
    except PublishError:
        return None


def _is_edition(name: str, entries: Entries, coming: Entries | None) -> bool:
    """Whether a file is an earlier or a coming edition of one in the seal, or waits to take one's place."""
    known = {re.sub(r"@\d+(?=\.parquet$)", "", each) for each in entries}
    waits = coming is not None and name.removesuffix(".next") in coming
    return waits or re.sub(r"@\d+(?=\.parquet$)", "", name) in known


def _is_coming(path: Path, entry: Entry | None, deep: bool) -> bool:
    return not path.exists() if entry is None else path.is_file() and matches(path, entry, deep=deep)


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_path(path: Path) -> None:
    """Make a file's content, or a folder's entries, survive a power loss.

    Some network file systems write a folder through at once and know no such call for it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNKNOWN or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
