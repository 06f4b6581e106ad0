"""Forget a user: the id and everything stored under it, everywhere in the workspace, for good.

What happens, in this order; each step can be repeated, so that a run that was killed is finished by the next
``imsr forget`` (or any run that takes in or learns something):

1. the journal, with the id and what was found, goes into the ledger; rubbish of dead runs is removed;
2. files are rewritten without the user, in place (see ``rewrite``): lake, sequences, vocabulary, interests and
   changes of every version, quarantine, lists, labels; on request the files in ``landing/``; reports that mention the
   id are removed (``imsr report`` writes them again);
3. the ledger gets the new counts and fingerprints, and the receipt;
4. the views are written anew; the journal, the last place with the id, is deleted and its bytes overwritten.

Decisions:

* Folders keep their names and data versions their numbers: readers, views and versions that point to them go on.
  A span version's fingerprint is still the hash of its content, so it changes, and so does the data fingerprint in
  ``sequences.json``. The *name* of sequences, which their children and the versions' lineage refer to, does not: a
  forgotten user makes nothing stale. Whatever is learnt again later gets new names from the new fingerprints.
* An index never moves: the vocabulary's row stays, with a tombstone. If the user comes back, it is as a new user.
* Models that learnt from the user keep that influence in item vectors and extractor. The receipt names them.
  ``retrain=True`` marks their spans stale, from the first one on, and the next run learns them without the user;
  the old versions remain for rolling back until ``imsr prune`` removes them.
* An id is a user's id. An item, or a file, that happens to have the same name is left alone.
* Out of reach: backups, copies that were exported, logs of other programs, processes that hold a model in memory.
"""

from __future__ import annotations

import html
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from imsr_core.errors import ImsrError
from pipelines.care.forget_places import Search
from pipelines.care.forget_survey import survey
from pipelines.care.landing_files import LandingFile, find_user, mention_pattern, without_user
from pipelines.care.orphans import remove_orphans
from pipelines.care.receipts import (
    Journal,
    Receipt,
    clear_journal,
    finished,
    put_receipt,
    read_journal,
    receipts,
    user_hash,
    write_journal,
)
from pipelines.lake.span_files import SpanContent, content_of
from pipelines.nights.restate import record_stale, restatement_of
from pipelines.sequences.bucket import count_bucket
from pipelines.sequences.chain import MANIFEST, link_of, write_manifest_of
from pipelines.sequences.vocabulary import tombstone
from pipelines.warehouse.catalog import drop_generations_with, publish_catalog
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Transaction, iso
from pipelines.workspace.publish import open_staging
from pipelines.workspace.rewrite import is_unfinished, rewrite_folder
from pipelines.workspace.seal import file_sha256, fsync_path, is_ready
from pipelines.workspace.states import LEARNT
from pipelines.workspace.writer import Writer, lent

_LABEL = "forget"


class ForgetError(ImsrError):
    """A user who is not there, or a forgetting that cannot start yet."""


@dataclass(frozen=True)
class Traces:
    """Where a user is found: path below the workspace -> rows, and the files in ``landing/``."""

    found: dict[str, int]
    landing: tuple[LandingFile, ...]

    def __bool__(self) -> bool:
        return bool(self.found or self.landing)


def trace(workspace: Workspace, user_id: str) -> Traces:
    """Where a user is found. Reads only."""
    with workspace.ledger.snapshot() as view:
        search = Search.of(workspace, view, user_id, tombstone(""))
    return Traces(search.found(), tuple(_landing(workspace, user_id)))


def forget(
    workspace: Workspace,
    user_id: str,
    *,
    now: datetime,
    retrain: bool = False,
    landing: bool = False,
    writer: Writer | None = None,
    salt: str | None = None,
) -> Receipt:
    """Remove a user from the workspace. For a user who was removed before it returns that receipt and changes nothing.

    Args:
        workspace: from where.
        user_id: the id, letter by letter.
        now: time of the receipt.
        retrain: mark what was learnt from the user stale, so that the next run learns it again without.
        landing: take the user's rows out of the files in ``landing/``, too.
        writer: the caller's right to write; without one the call takes the lease.
        salt: 32 hex digits for the receipt's hash; without it, random ones.

    Raises:
        ForgetError: the user is nowhere, or another forgetting must be finished first.
        PublishError, ParquetFileError: a file that must be rewritten is damaged; nothing is lost, see imsr doctor.
    """
    with lent(writer, workspace, "imsr forget", now=now) as held:
        with workspace.ledger.snapshot() as view:
            journal, known = read_journal(view), receipts(view)
        if journal is not None and journal.user_id != user_id:
            raise ForgetError("another user is being forgotten, and that was interrupted", hint="first: imsr forget")
        remove_orphans(held)
        if journal is None:
            traces = trace(workspace, user_id)
            receipt = None if traces.found else _forgotten_before(user_id, known, traces)
            if receipt is not None and not (landing and traces.landing):
                return receipt
            salt = salt or secrets.token_hex(16)
            receipt = receipt or Receipt(f"f{len(known) + 1:04d}", user_hash(user_id, salt), salt, iso(now))
            journal = Journal(user_id, receipt, retrain, landing)
        journal = replace(journal, retrain=journal.retrain or retrain, landing=journal.landing or landing)
        return _Run(held).finish(journal)


def finish_forgetting(writer: Writer) -> Receipt | None:
    """Finish a forgetting that was interrupted; None if there is none. Every run calls this before anything else."""
    with writer.workspace.ledger.snapshot() as view:
        journal = read_journal(view)
    if journal is None:
        return None
    remove_orphans(writer)
    return _Run(writer).finish(journal)


def _forgotten_before(user_id: str, known: list[Receipt], traces: Traces) -> Receipt | None:
    """The receipt of a user who is not in the workspace; None if at least files in landing/ have rows."""
    for receipt in reversed(known):
        if receipt.is_of(user_id):
            return receipt
    if not traces.landing:
        raise ForgetError("there is no user of this id in the workspace", hint="ids are compared letter by letter")
    return None


def _landing(workspace: Workspace, user_id: str) -> list[LandingFile]:
    """Files that somebody put into the workspace: events, and tables of labels (which are not rewritten)."""
    files = [path for path in (workspace.root / "landing").rglob("*") if path.is_file()]
    files += [p for p in (workspace.root / "labels").rglob("*") if p.is_file() and p.suffix != ".parquet"]
    return find_user(sorted(files), workspace.settings.source, user_id)


@dataclass
class _Run:
    """One attempt, holding the lease."""

    writer: Writer

    @property
    def workspace(self) -> Workspace:
        """Where the user is forgotten."""
        return self.writer.workspace

    def finish(self, journal: Journal) -> Receipt:
        """All steps from the journal on."""
        with self.workspace.ledger.snapshot() as view:
            search = Search.of(self.workspace, view, journal.user_id, tombstone(journal.receipt.user_hash[:16]))
            journal = survey(self.workspace, view, search, journal)
        self._record(journal)
        hit(FailPoint.FORGET_JOURNALED)
        work = open_staging(self.workspace, _LABEL)
        try:
            contents = self._rewrite_lake(journal, search, work)
            self._rewrite_others(journal, search, contents, work)
            _drop_reports(self.workspace, journal.user_id)
            journal = self._rewrite_landing(journal, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        with self.writer.transaction() as tx:
            receipt = _commit(self.workspace, tx, journal, contents, self.writer.now)
            hit(FailPoint.FORGET_BEFORE_COMMIT)
        hit(FailPoint.FORGET_AFTER_COMMIT)
        shutil.rmtree(self.workspace.trials, ignore_errors=True)  # of other data than there is now
        publish_catalog(self.workspace)
        drop_generations_with(self.workspace, mention_pattern(journal.user_id))
        hit(FailPoint.FORGET_VIEWS_WRITTEN)
        with self.writer.transaction() as tx:
            clear_journal(tx)
        return receipt

    def _record(self, journal: Journal) -> None:
        with self.writer.transaction() as tx:
            write_journal(tx, journal)

    def _rewrite_lake(self, journal: Journal, search: Search, work: Path) -> dict[tuple[str, int], SpanContent]:
        """(span, data version) -> what it holds without the user."""
        contents, files = {}, self._files(journal)
        for span_id, number in journal.lake:
            folder = self.workspace.span_folder(span_id, number)
            self._rewrite(folder, files.get(folder, []), search, {}, work)
            contents[span_id, number] = content_of(folder)
        return contents

    def _rewrite_others(
        self, journal: Journal, search: Search, contents: dict[tuple[str, int], SpanContent], work: Path
    ) -> None:
        renamed = self._new_fingerprints(contents)
        files = self._files(journal)
        folders = files.keys() | {
            folder.parent for folder in self.workspace.root.glob(f"sequences/span=*/*/{MANIFEST}")
        }
        lake = {self.workspace.span_folder(*key) for key in journal.lake}
        for folder in sorted(folders - lake):
            manifest = _new_manifest(folder, renamed, work)
            self._rewrite(folder, files.get(folder, []), search, manifest, work)

    def _rewrite(
        self, folder: Path, files: Iterable[Path], search: Search, changes: dict[str, Path | None], work: Path
    ) -> None:
        """Rewrite those of ``files`` that still have the user; a folder without a seal file by file."""
        ready = is_ready(folder)
        changes = dict(changes)
        for path in files:
            if search.rows(search.place_of(path), path):
                out = work / f"{len(os.listdir(work))}-{path.name}"
                search.write_without(path, out)
                if not ready:
                    os.replace(out, path)
                    fsync_path(folder)
                    hit(FailPoint.REWRITE_REPLACED)
                else:
                    changes[path.name] = out
        if ready and (changes or is_unfinished(folder)):
            rewrite_folder(folder, changes)

    def _rewrite_landing(self, journal: Journal, work: Path) -> Journal:
        for file in _landing(self.workspace, journal.user_id):
            verdict = self._landing_verdict(file, journal)
            done = journal.receipt.landing | {self.workspace.relative(file.path): verdict}
            journal = replace(journal, receipt=replace(journal.receipt, landing=done))
            if verdict == "rewritten":  # recorded with the file: a run that goes on after a kill does not find it again
                journal = self._replace_landing(file.path, journal, work)
        self._record(journal)
        return journal

    def _landing_verdict(self, file: LandingFile, journal: Journal) -> str:
        if not journal.landing:
            return "still there"
        if file.rows is None:
            return "still there: it cannot be read as events"
        return "still there: it is a link" if file.path.is_symlink() else "rewritten"

    def _replace_landing(self, path: Path, journal: Journal, work: Path) -> Journal:
        out = work / f"{len(os.listdir(work))}-{path.name}"
        without_user(path, self.workspace.settings.source, journal.user_id, out)
        journal = replace(journal, rewritten=journal.rewritten | {file_sha256(path): file_sha256(out)})
        self._record(journal)  # before the file changes: it must still count as ingested
        fsync_path(out)
        os.replace(out, path)
        fsync_path(path.parent)
        hit(FailPoint.FORGET_LANDING_REPLACED)
        return journal

    def _files(self, journal: Journal) -> dict[Path, list[Path]]:
        """Folder -> the files in it that have, or had, the user."""
        folders: dict[Path, list[Path]] = {}
        for stored in journal.found:
            path = self.workspace.resolve(stored)
            folders.setdefault(path.parent, []).append(path)
        return folders

    def _new_fingerprints(self, contents: dict[tuple[str, int], SpanContent]) -> dict[tuple[str, str], str]:
        """(span, data fingerprint before) -> after; the ledger still has the one before."""
        with self.workspace.ledger.snapshot() as view:
            before = {(row.span_id, row.data_version): row.fingerprint for row in view.span_versions()}
        return {(span, before[span, number]): each.fingerprint for (span, number), each in contents.items()}


def _new_manifest(folder: Path, renamed: dict[tuple[str, str], str], work: Path) -> dict[str, Path | None]:
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


def _commit(
    workspace: Workspace,
    tx: Transaction,
    journal: Journal,
    contents: dict[tuple[str, int], SpanContent],
    now: datetime,
) -> Receipt:
    """All that the ledger has to say about it, at once."""
    _recount(workspace, tx, journal, contents)
    _blot_out_mentions(tx, journal.user_id)
    for batch in tx.batches():
        files = tuple(_recognise(file, journal.rewritten) for file in batch.files)
        if files != batch.files:
            tx.put_batch(replace(batch, files=files))
    stale = _mark_stale(workspace, tx, journal, now) if journal.retrain else journal.receipt.stale
    receipt = finished(replace(journal.receipt, stale=stale), iso(now))
    put_receipt(tx, receipt)
    write_journal(tx, replace(journal, receipt=receipt, retrain=False))
    return receipt


def _recount(
    workspace: Workspace, tx: Transaction, journal: Journal, contents: dict[tuple[str, int], SpanContent]
) -> None:
    """Counts and fingerprints of data and sequences as they are without the user."""
    for (span_id, number), content in contents.items():
        row = tx.span_version(span_id, number)
        assert row is not None
        tx.put_span_version(replace(row, **vars(content)))
    for span_id, fingerprint in journal.sequences:
        sequences = tx.sequence(span_id, fingerprint)
        assert sequences is not None
        buckets = [count_bucket(path) for path in sorted(workspace.resolve(sequences.path).glob("bucket=*.parquet"))]
        counts = {name: sum(getattr(each, name) for each in buckets) for name in ("users", "events", "truncated")}
        tx.put_sequences(replace(sequences, **counts))


def _blot_out_mentions(tx: Transaction, user_id: str) -> None:
    """Take the id out of the errors of spans."""
    pattern = re.compile(mention_pattern(user_id))
    for span in tx.spans():
        if span.error and pattern.search(span.error):
            tx.put_span(replace(span, error=pattern.sub("(forgotten)", span.error)))


def _recognise(file: dict[str, object], rewritten: dict[str, str]) -> dict[str, object]:
    """An ingested file's entry, so that it still counts as ingested after its landing file was rewritten."""
    for name in ("sha256", "rewritten"):
        if file.get(name) in rewritten:
            return file | {"rewritten": rewritten[str(file[name])]}
    return file


def _mark_stale(workspace: Workspace, tx: Transaction, journal: Journal, now: datetime) -> tuple[str, ...]:
    touched = set(journal.receipt.spans)
    first = next((span for span in tx.spans() if span.span_id in touched and span.state in LEARNT), None)
    if first is None:
        return ()
    restatement = restatement_of(tx, first.span_id, pretrain=workspace.settings.spans.pretrain, now=now)
    record_stale(tx, restatement, now=now)
    return restatement.spans


def _drop_reports(workspace: Workspace, user_id: str) -> None:
    mentions = re.compile(mention_pattern(user_id))
    for path in (workspace.root / "reports").glob("*.html"):
        if mentions.search(html.unescape(path.read_text(encoding="utf-8"))):
            path.unlink()
