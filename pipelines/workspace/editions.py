"""Editions: a file of a published folder that was rewritten has a new name, and the old one goes once nobody reads it.

Forgetting a user rewrites Parquet files. A file that keeps its name while its content changes is read half old and half
new by whoever has it open by name, as DuckDB does. So the new content of ``interests.parquet`` is
``interests@1.parquet``, then ``interests@2.parquet``. Views name editions, those that were current when they were
written; all other code names ``interests.parquet``, and means the edition that is there.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pipelines.workspace.seal import NEXT, READY, PublishError, read_seal

_EDITION = re.compile(r"@(\d+)(?=\.parquet$)")
_TRIES = 5

T = TypeVar("T")


def plain(path: Path) -> Path:
    """The name that a file has whatever its edition."""
    return path.with_name(_EDITION.sub("", path.name))


def edition(path: Path) -> int:
    """Which edition of its content a file is; 0 for the first, whose name says nothing of it."""
    found = _EDITION.search(path.name)
    return int(found[1]) if found else 0


def next_edition(path: Path) -> Path:
    """The name of the edition after this one."""
    return path.with_name(f"{plain(path).stem}@{edition(path) + 1}{path.suffix}")


def stored(path: Path) -> Path:
    """The file behind a name: itself if it is there, else the newest edition; the name as given if there is none."""
    if path.exists():
        return path
    editions = [each for each in _listed(path.parent) if plain(each) == plain(path)]
    return max(editions, key=edition, default=path)


def is_stored(path: Path) -> bool:
    """Whether a file is there, in any edition."""
    return stored(path).exists()


def stored_files(folder: Path, pattern: str, *, coming: bool = False) -> list[Path]:
    """The files of a folder whose plain names match a pattern, each in its current edition, by their plain names.

    Where several editions of a file are there, the seal says which is current; without a seal it is the newest.
    ``coming``: as the folder will be once its rewriting is done (see `rewrite`).
    """
    return Folders(coming=coming).files(folder, pattern)


class Folders:
    """`stored_files` of many folders and patterns: each folder is listed once."""

    def __init__(self, *, coming: bool = False) -> None:
        self._coming = coming
        self._listed: dict[Path, dict[str, list[str]]] = {}

    def files(self, folder: Path, pattern: str) -> list[Path]:
        """See `stored_files`."""
        if folder not in self._listed:
            self._listed[folder] = _editions(folder)
        listed = self._listed[folder]
        names = fnmatch.filter(sorted(listed), pattern) if "*" in pattern else [pattern] if pattern in listed else []
        found = [listed[name] for name in names]
        return [_current(folder, editions, coming=self._coming) for editions in found]


def superseded(folder: Path) -> list[Path]:
    """Editions that a current one has taken the place of; what a dead run left of a coming one counts, too."""
    several = [editions for editions in _editions(folder).values() if len(editions) > 1]
    current = {_current(folder, editions) for editions in several}
    return [folder / name for editions in several for name in editions if folder / name not in current]


def drop_editions(path: Path) -> None:
    """A file was written anew under its plain name: what forgettings made of the one before goes."""
    for each in _listed(path.parent):
        if each != path and plain(each) == path:
            each.unlink(missing_ok=True)


def opened(path: Path, read: Callable[[Path], T]) -> T:
    """What ``read`` makes of the file behind a name, also if its edition goes at this very moment.

    Raises:
        FileNotFoundError: there is no edition of it.
    """
    for _ in range(_TRIES - 1):
        try:
            return read(stored(path))
        except FileNotFoundError:
            if not is_stored(path):
                raise
    return read(stored(path))


def _listed(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _editions(folder: Path) -> dict[str, list[str]]:
    """Plain name -> the names of the editions of it that are in a folder."""
    found: dict[str, list[str]] = {}
    for name in os.listdir(folder) if folder.is_dir() else ():
        found.setdefault(_EDITION.sub("", name), []).append(name)
    return found


def _current(folder: Path, editions: list[str], *, coming: bool = False) -> Path:
    if len(editions) == 1:
        return folder / editions[0]
    sealed: set[str] = set()
    with suppress(PublishError):  # there is none, or it is damaged: the doctor's to say
        sealed = set(read_seal(folder / (NEXT if coming and (folder / NEXT).exists() else READY)))
    return max([folder / name for name in editions if name in sealed] or map(folder.joinpath, editions), key=edition)
