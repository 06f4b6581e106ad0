"""The one way in which files of a published folder get other content: as new editions, which a new seal names.

1. ``prepare``: ``READY.next`` says what the folder will be, and the new editions lie beside the old ones; whatever
   reads the folder reads the old ones. A file that has no editions, as ``sequences.json``, waits under ``NAME.next``;
2. ``take_over``: ``READY.next`` becomes ``READY``, and the new editions are current;
3. ``drop_superseded``: the old ones go, once the views name the new ones.

Each step can be repeated. A run that was killed within the first is taken back with ``start_over``, or repeated.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipelines.workspace.editions import edition, next_edition, superseded
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.rewrite import check, is_unfinished, rewrite_folder
from pipelines.workspace.seal import NEXT, READY, Entries, entry_of, fsync_path, read_seal, write_seal

#: Ends the name of a file that waits to take the place of one that has no editions.
WAITING = ".next"


def prepare(folder: Path, changes: Mapping[str, Path]) -> None:
    """Put new content beside files of a published folder.

    Args:
        folder: a published folder that is not being rewritten.
        changes: name in the folder -> the new content, a file on the same file system (it is moved).

    Raises:
        PublishError: the folder was never sealed, or one of the files is not what was published.
    """
    entries = read_seal(folder / READY)
    for name in changes:
        check(folder, name, entries, {})
    coming: Entries = {name: entry for name, entry in entries.items() if name not in changes}
    places: dict[Path, Path] = {}
    for name, source in changes.items():
        fsync_path(source)
        new = next_edition(folder / name)
        has_editions = new.suffix == ".parquet"
        coming[new.name if has_editions else name] = entry_of(source)
        places[source] = new if has_editions else folder / f"{name}{WAITING}"
    write_seal(folder / NEXT, coming)
    hit(FailPoint.REWRITE_STARTED)
    for source, place in places.items():
        os.replace(source, place)
        hit(FailPoint.REWRITE_REPLACED)
    fsync_path(folder)


def start_over(folder: Path) -> None:
    """Take back what was prepared in a folder; finish what an earlier release, or a prune, had begun there.

    Raises:
        PublishError: READY or READY.next is damaged, or a file is none that they name.
    """
    if not is_unfinished(folder):
        return
    sealed, coming = read_seal(folder / READY), read_seal(folder / NEXT)
    for path in _waiting(folder):
        path.unlink()
    if coming.keys() <= sealed.keys():
        rewrite_folder(folder, {})
        return
    (folder / NEXT).unlink()
    for name in coming.keys() - sealed.keys():
        if edition(folder / name):
            (folder / name).unlink(missing_ok=True)
    fsync_path(folder)


def take_over(folder: Path) -> None:
    """Make what was prepared current; nothing to do where nothing was.

    Raises:
        PublishError: READY.next is damaged.
    """
    if not is_unfinished(folder):
        return
    coming = read_seal(folder / NEXT)
    for path in _waiting(folder):
        if path.name.removesuffix(WAITING) in coming:
            os.replace(path, path.with_name(path.name.removesuffix(WAITING)))
    fsync_path(folder)
    os.replace(folder / NEXT, folder / READY)
    fsync_path(folder)
    hit(FailPoint.REWRITE_SEALED)


def drop_superseded(folder: Path) -> None:
    """Remove editions that others have taken the place of."""
    for path in superseded(folder):
        path.unlink(missing_ok=True)
        hit(FailPoint.REWRITE_DROPPED)
    if folder.is_dir():
        fsync_path(folder)


def _waiting(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob(f"*{WAITING}")) if path.name != NEXT]
