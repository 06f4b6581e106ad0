"""The files of a workspace without a user: prepared beside the old ones, then current, then the old ones gone.

Until `take_over` every reader has the old files, whole; `drop_old` comes after the views name the new ones, so that a
session that was opened before has all old files or is told that they are gone, and none ever reads half of each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from imsr_core.errors import ImsrError
from pipelines.care.forget_places import Search
from pipelines.care.receipts import Journal
from pipelines.lake.span_files import SpanContent, content_in
from pipelines.sequences.chain import MANIFEST, link_of, write_manifest_of
from pipelines.workspace.editions import edition, next_edition, plain, stored_files
from pipelines.workspace.failpoints import FailPoint, InjectedFailure, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import LeaseLost
from pipelines.workspace.new_editions import drop_superseded, prepare, start_over, take_over
from pipelines.workspace.seal import NEXT, fsync_path, is_ready

#: Folders whose files stand by themselves, without a seal, and are named by views.
UNSEALED = ("recommendations", "explanations", "metadata", "quarantine")


@dataclass
class ForgetFiles:
    """The files of one workspace; ``left`` are those that could not be rewritten -> why."""

    workspace: Workspace
    left: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def noting(self, path: Path) -> Iterator[None]:
        """What is damaged, or not ours to write, is noted for the receipt, and the rest is done: nights must go on."""
        try:
            yield
        except (ImsrError, FileNotFoundError, PermissionError) as error:
            if isinstance(error, LeaseLost | InjectedFailure):
                raise
            self.left[self.workspace.relative(path)] = error.message if isinstance(error, ImsrError) else str(error)

    def start_over(self) -> None:
        """Take back what a run that was killed has prepared."""
        for folder in self._unfinished():
            with self.noting(folder):
                start_over(folder)
        for name in UNSEALED[:-1]:  # in quarantine what the ledger does not name is an orphan, and gone already
            for path in _coming_editions(self.workspace.root / name):
                path.unlink()

    def prepare_lake(self, journal: Journal, search: Search, work: Path) -> dict[tuple[str, int], SpanContent]:
        """(span, data version) -> what it will hold without the user."""
        contents, files = {}, by_folder(self.workspace, journal.found)
        for key in journal.lake:
            folder = self.workspace.span_folder(*key)
            if self._is_left(folder):
                continue
            with self.noting(folder):
                self._prepare(folder, files.get(folder, []), search, {}, work)
                contents[key] = content_in(_by_bucket(stored_files(folder, "bucket=*.parquet", coming=True)))
        return contents

    def prepare_others(
        self, journal: Journal, search: Search, contents: dict[tuple[str, int], SpanContent], work: Path
    ) -> dict[str, str]:
        """All other files; returns the quarantine's files that get a new name -> that name."""
        renamed = self._new_fingerprints(contents)
        files = by_folder(self.workspace, journal.found)
        folders = files.keys() | {
            folder.parent for folder in self.workspace.root.glob(f"sequences/span=*/*/{MANIFEST}")
        }
        lake = {self.workspace.span_folder(*key) for key in journal.lake}
        for folder in sorted(folders - lake):
            if self._is_left(folder):
                continue
            with self.noting(folder):
                manifest = _new_manifest(folder, renamed, work)
                self._prepare(folder, files.get(folder, []), search, manifest, work)
        old = [path for path in files.get(self.workspace.root / "quarantine", []) if next_edition(path).exists()]
        return {self.workspace.relative(path): self.workspace.relative(next_edition(path)) for path in old}

    def take_over(self) -> None:
        """Make everything that was prepared current."""
        for folder in self._unfinished():
            with self.noting(folder):
                take_over(folder)

    def drop_old(self, journal: Journal, named: Iterable[str]) -> None:
        """Remove what has been superseded; ``named`` are the paths that the ledger names."""
        kept = set(named)
        for folder, files in by_folder(self.workspace, journal.found).items():
            with self.noting(folder):
                if folder.name == "quarantine":
                    for path in files:
                        if self.workspace.relative(path) not in kept:
                            path.unlink(missing_ok=True)
                else:
                    drop_superseded(folder)

    def _prepare(
        self, folder: Path, files: Iterable[Path], search: Search, changes: dict[str, Path], work: Path
    ) -> None:
        """Write those of ``files`` that still have the user anew, with ``changes``; without a seal file by file.

        Where one cannot be read the others and ``changes`` are made all the same: what comes later rests on them.
        """
        changes, ready = dict(changes), is_ready(folder)
        failed: ImsrError | OSError | None = None
        for path in files:
            try:
                out = self._without(path, search, work)
            except (ImsrError, FileNotFoundError, PermissionError) as error:
                failed = error
                continue
            if out and ready:
                changes[path.name] = out
            elif out:
                os.replace(out, next_edition(path) if folder.name in UNSEALED else path)
                fsync_path(folder)
                hit(FailPoint.REWRITE_REPLACED)
        if changes:
            prepare(folder, changes)
        if failed is not None:
            raise failed

    def _without(self, path: Path, search: Search, work: Path) -> Path | None:
        """A copy without the user; None if the file does not have the user (any more)."""
        if not path.exists() or not search.rows(search.place_of(path), path):
            return None
        out = work / f"{len(os.listdir(work))}-{path.name}"
        search.write_without(path, out)
        return out

    def _is_left(self, folder: Path) -> bool:
        """Whether it could not be taken back what was begun in a folder."""
        return self.workspace.relative(folder) in self.left

    def _unfinished(self) -> list[Path]:
        found = [*self.workspace.root.glob(f"versions/*/{NEXT}"), *self.workspace.root.glob(f"*/span=*/*/{NEXT}")]
        return sorted(path.parent for path in found)

    def _new_fingerprints(self, contents: dict[tuple[str, int], SpanContent]) -> dict[tuple[str, str], str]:
        """(span, data fingerprint before) -> after; the ledger still has the one before."""
        with self.workspace.ledger.snapshot() as view:
            before = {(row.span_id, row.data_version): row.fingerprint for row in view.span_versions()}
        return {(span, before[span, number]): each.fingerprint for (span, number), each in contents.items()}


def by_folder(workspace: Workspace, found: Iterable[str]) -> dict[Path, list[Path]]:
    """Folder -> those of ``found``, paths below the workspace, that lie in it."""
    folders: dict[Path, list[Path]] = {}
    for stored in found:
        path = workspace.resolve(stored)
        folders.setdefault(path.parent, []).append(path)
    return folders


def _by_bucket(files: list[Path]) -> list[Path]:
    return sorted(files, key=lambda path: int(plain(path).stem.partition("=")[2]))


def _coming_editions(folder: Path) -> list[Path]:
    """In a folder without a seal: editions whose predecessor is still there."""
    paths = sorted(folder.glob("*.parquet"))
    return [path for path in paths if edition(path) and any(next_edition(other) == path for other in paths)]


def _new_manifest(folder: Path, renamed: dict[tuple[str, str], str], work: Path) -> dict[str, Path]:
    """A new ``sequences.json`` if the data that the folder was made from have another fingerprint now."""
    if not (folder / MANIFEST).is_file():
        return {}
    link = link_of(folder)
    after = renamed.get((link.span_id, link.data_fingerprint))
    if after is None or after == link.data_fingerprint:
        return {}
    out = work / f"{len(os.listdir(work))}-{MANIFEST}"
    write_manifest_of(folder, after, out)
    return {MANIFEST: out}
