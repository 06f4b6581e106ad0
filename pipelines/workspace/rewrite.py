"""Files of a published folder are removed, as those of an archived version that nobody needs any more, or replaced.

Where readers name the files, new content gets a new name instead (see `new_editions`); an earlier release replaced
files here, and what it left half done is finished here. Each file is replaced by one rename; a session that has one
open keeps reading the old bytes. ``READY.next`` says meanwhile what the folder will be:

1. the new files lie complete in ``staging/``;
2. ``READY.next`` is written: sizes and hashes as they will be;
3. each file is replaced, or removed;
4. ``READY.next`` becomes ``READY``.

A run that was killed in between is repeated: a file is then what ``READY`` or what ``READY.next`` says, and anything
else is damage, which is refused and never sealed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.seal import (
    NEXT,
    READY,
    Entries,
    Entry,
    PublishError,
    entry_of,
    fsync_path,
    matches,
    read_seal,
    write_seal,
)


def is_unfinished(folder: Path) -> bool:
    """Whether a rewrite of ``folder`` was interrupted."""
    return (folder / NEXT).exists()


def rewrite_folder(folder: Path, changes: Mapping[str, Path | None]) -> None:
    """Replace files of a published folder and seal it again; with no changes, finish an interrupted rewrite.

    Args:
        folder: a published folder.
        changes: name in the folder -> the new file, on the same file system (it is moved), or None to remove it.

    Raises:
        PublishError: the folder was never sealed, or one of the files is not what was published.
    """
    entries = read_seal(folder / READY)
    coming = read_seal(folder / NEXT) if is_unfinished(folder) else {}
    if not changes and not coming:
        return
    for name in (entries.keys() | coming.keys()) if coming else changes:
        check(folder, name, entries, coming)
    sealed: dict[str, Entry | None] = {
        name: _now(folder, name, entries, coming) for name in entries if name not in changes
    }
    for name, source in changes.items():
        if source is not None:
            fsync_path(source)
            sealed[name] = entry_of(source)
    write_seal(folder / NEXT, {name: entry for name, entry in sealed.items() if entry is not None})
    hit(FailPoint.REWRITE_STARTED)
    for name, source in changes.items():
        if source is None:
            (folder / name).unlink(missing_ok=True)
        else:
            os.replace(source, folder / name)
        hit(FailPoint.REWRITE_REPLACED)
    fsync_path(folder)
    os.replace(folder / NEXT, folder / READY)
    fsync_path(folder)
    hit(FailPoint.REWRITE_SEALED)


def check(folder: Path, name: str, entries: Entries, coming: Entries) -> None:
    """A file must be what one of the two seals says; gone is fine if one of them does not have it."""
    path = folder / name
    known = [seal[name] for seal in (entries, coming) if name in seal]
    if not path.exists() and coming and name not in coming:
        return
    if path.is_file() and any(matches(path, entry) for entry in known):
        return
    raise PublishError(
        f"{path} is damaged: it is not what was published",
        hint="run: imsr doctor --deep; nothing more was changed in its folder",
    )


def _now(folder: Path, name: str, entries: Entries, coming: Entries) -> Entry | None:
    """The seal's entry that describes the file as it is; None if it is gone."""
    if not coming:
        return entries[name]
    path = folder / name
    if not path.exists():
        return None
    return coming[name] if name in coming and matches(path, coming[name]) else entries[name]
