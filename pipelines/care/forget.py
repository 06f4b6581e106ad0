"""Forget a user: the id and everything stored under it, everywhere in the workspace, for good.

What happens, in this order; each step can be repeated, so that a run that was killed is finished by the next
``imsr forget`` (or any run that takes in or learns something):

1. the journal, with the id and what was found, goes into the ledger; rubbish of dead runs is removed;
2. files are written without the user, as new editions beside the old ones (see ``forget_files``): lake, sequences,
   vocabulary, interests and changes of every version, quarantine, lists; labels and, on request, the files in
   ``landing/`` are replaced; reports that mention the id are removed (``imsr report`` writes them again);
3. the ledger gets the new counts and fingerprints, and what is left to do;
4. the new editions become current, and the views name them;
5. after a moment for queries under way the old files are removed; the receipt has the time. The journal, the last
   place with the id, is deleted and its bytes overwritten.

Decisions:

* Readers never meet a half: whoever opened the views before has the old files, all of them, until they are gone, and is
  told so then. Models in memory, and everything else that names no edition, take the one that is there.
* Folders keep their names and data versions their numbers: readers, views and versions that point to them go on.
  A span version's fingerprint is still the hash of its content, so it changes, and so does the data fingerprint in
  ``sequences.json``. The *name* of sequences, which their children and the versions' lineage refer to, does not: a
  forgotten user makes nothing stale. Whatever is learnt again later gets new names from the new fingerprints.
* An index never moves: the vocabulary's row stays, with a tombstone. If the user comes back, it is as a new user.
* Models that learnt from the user keep that influence in item vectors and extractor. The receipt names them.
  ``retrain=True`` marks their spans stale, from the first one on, and the next run learns them without the user;
  the old versions remain for rolling back until ``imsr prune`` removes them.
* A file that is damaged, or not ours to write, does not keep the rest from being done, nor the next night from
  running: the receipt names it. Once it is mended or gone, forgetting the user again finishes the work.
* An id is a user's id. An item, or a file, that happens to have the same name is left alone.
* Out of reach: backups, copies that were exported, logs of other programs, processes that hold a model in memory.
"""

from __future__ import annotations

import html
import os
import re
import secrets
import shutil
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

from imsr_core.errors import ImsrError
from pipelines.care.forget_files import ForgetFiles
from pipelines.care.forget_places import Search
from pipelines.care.forget_record import record_forgetting
from pipelines.care.forget_survey import survey
from pipelines.care.label_files import LabelFile, find_labels, place_of, rewrite_labels
from pipelines.care.landing_files import LandingError, LandingFile, find_user, mention_pattern, without_user
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
from pipelines.lake.readers import ReadError
from pipelines.sequences.vocabulary import tombstone
from pipelines.warehouse.catalog import publish_catalog
from pipelines.warehouse.generations import drop_generations_with
from pipelines.workspace.ending import end_if_asked
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import iso
from pipelines.workspace.publish import staging_folder
from pipelines.workspace.seal import file_sha256, fsync_path
from pipelines.workspace.writer import Writer, lent

_LABEL = "forget"


class ForgetError(ImsrError):
    """A user who is not there, or a forgetting that cannot start yet."""


@dataclass(frozen=True)
class Traces:
    """Where a user is found: path below the workspace -> rows, the files in ``landing/``, the label files.

    ``unreadable`` are files that could not be looked into -> why.
    """

    found: dict[str, int]
    landing: tuple[LandingFile, ...]
    labels: tuple[LabelFile, ...] = ()
    unreadable: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.found or self.landing or self.labels)


def trace(workspace: Workspace, user_id: str) -> Traces:
    """Where a user is found, also what an earlier forgetting could not clean. Reads only."""
    with workspace.ledger.snapshot() as view:
        before = _unfinished_business(receipts(view), user_id)
        search = Search.of(workspace, view, user_id, tombstone(before.user_hash[:16] if before else ""))
    found = search.found()
    labels, damaged = find_labels(workspace, user_id)
    unreadable = search.unreadable | {place_of(workspace, path): why for path, why in damaged.items()}
    return Traces(found, tuple(_landing(workspace, user_id)), tuple(labels), unreadable)


def forget(
    workspace: Workspace,
    user_id: str,
    *,
    now: datetime,
    retrain: bool = False,
    landing: bool = False,
    writer: Writer | None = None,
    salt: str | None = None,
    linger: float = 0.0,
) -> Receipt:
    """Remove a user from the workspace. For one who was removed before: change nothing, return the receipt of then.

    Args:
        workspace: from where.
        user_id: the id, letter by letter.
        now: time of the receipt.
        retrain: mark what was learnt from the user stale; the next run learns it again without the user.
        landing: take the user's rows out of the files in ``landing/``, too.
        writer: the caller's right to write; without one the call takes the lease.
        salt: 32 hex digits for the receipt's hash; without it, random ones.
        linger: seconds from the new views to the end of the old files, for queries that are under way.

    Raises:
        ForgetError: the user is nowhere, or another forgetting must be finished first.
    """
    with lent(writer, workspace, "imsr forget", now=now) as held:
        with workspace.ledger.snapshot() as view:
            journal, known = read_journal(view), receipts(view)
        if journal is not None and journal.user_id != user_id:
            raise ForgetError("another user is being forgotten, and that was interrupted", hint="first: imsr forget")
        remove_orphans(held)
        if journal is not None and journal.committed:
            done, journal = _Run(held).finish(journal, linger), None
            known = [*(each for each in known if each.receipt_id != done.receipt_id), done]
        if journal is None:
            traces = trace(workspace, user_id)
            receipt = None if traces.found else _forgotten_before(user_id, known, traces)
            if receipt is not None and not traces.labels and not (landing and traces.landing):
                return receipt
            before = _unfinished_business(known, user_id)  # its tombstone stands for the id in the vocabulary
            salt = before.salt if before else salt or secrets.token_hex(16)
            receipt = receipt or Receipt(f"f{len(known) + 1:04d}", user_hash(user_id, salt), salt, iso(now))
            journal = Journal(user_id, receipt, retrain, landing)
        journal = replace(journal, retrain=journal.retrain or retrain, landing=journal.landing or landing)
        return _Run(held).finish(journal, linger)


def finish_forgetting(writer: Writer) -> Receipt | None:
    """Finish a forgetting that was interrupted; None if there is none. Every run calls this before anything else."""
    with writer.workspace.ledger.snapshot() as view:
        journal = read_journal(view)
    if journal is None:
        return None
    remove_orphans(writer)
    return _Run(writer).finish(journal)


def _unfinished_business(known: list[Receipt], user_id: str) -> Receipt | None:
    """The receipt of a user some of whose files could not be cleaned, as it named them; None for all others."""
    return next((each for each in reversed(known) if each.left and each.is_of(user_id)), None)


def _forgotten_before(user_id: str, known: list[Receipt], traces: Traces) -> Receipt | None:
    """The receipt of a user who is not in the workspace; None if only files in landing/ still have rows of the user."""
    for receipt in reversed(known):
        if receipt.is_of(user_id):
            return receipt
    if not traces:
        raise ForgetError("there is no user of this id in the workspace", hint="ids are compared letter by letter")
    return None


def _landing(workspace: Workspace, user_id: str) -> list[LandingFile]:
    """Files of events that somebody put into the workspace."""
    files = [path for path in (workspace.root / "landing").rglob("*") if path.is_file()]
    return find_user(sorted(files), workspace.settings.source, user_id)


@dataclass
class _Run:
    """One attempt, holding the lease."""

    writer: Writer

    @property
    def workspace(self) -> Workspace:
        """Where the user is forgotten."""
        return self.writer.workspace

    @cached_property
    def files(self) -> ForgetFiles:
        """The files that are rewritten."""
        return ForgetFiles(self.workspace)

    def finish(self, journal: Journal, linger: float = 0.0) -> Receipt:
        """All steps from the journal on."""
        return self._switch(journal if journal.committed else self._prepare(journal), linger)

    def _prepare(self, journal: Journal) -> Journal:
        """Everything up to the commit: the new files lie there, and nobody reads them yet."""
        with self.workspace.ledger.snapshot() as view:
            search = Search.of(self.workspace, view, journal.user_id, tombstone(journal.receipt.user_hash[:16]))
            self.files.start_over()
            journal = survey(self.workspace, view, search, journal)
        self.files.left |= search.unreadable
        self._record(journal)
        hit(FailPoint.FORGET_JOURNALED)
        with staging_folder(self.workspace, _LABEL) as work:
            contents = self.files.prepare_lake(journal, search, work)
            quarantine = self.files.prepare_others(journal, search, contents, work)
            _drop_reports(self.workspace, journal.user_id)
            journal = self._rewrite_labels(journal, work)
            journal = self._rewrite_landing(journal, work)
        journal = replace(journal, receipt=replace(journal.receipt, left=self.files.left))
        with self.writer.transaction() as tx:
            journal = record_forgetting(self.workspace, tx, journal, contents, quarantine, self.writer.now)
            hit(FailPoint.FORGET_BEFORE_COMMIT)
        hit(FailPoint.FORGET_AFTER_COMMIT)
        return journal

    def _switch(self, journal: Journal, linger: float) -> Receipt:
        """Everything from the commit on: files, then views, then away with what was there before."""
        self.files.left |= journal.receipt.left
        self.files.take_over()
        shutil.rmtree(self.workspace.trials, ignore_errors=True)  # of other data than there is now
        publish_catalog(self.workspace)
        hit(FailPoint.FORGET_VIEWS_WRITTEN)
        _wait(linger)
        with self.workspace.ledger.snapshot() as view:
            named = view.paths()
        self.files.drop_old(journal, named)
        drop_generations_with(self.workspace, mention_pattern(journal.user_id))
        receipt = finished(replace(journal.receipt, left=self.files.left), iso(self.writer.now))
        with self.writer.transaction() as tx:
            put_receipt(tx, receipt)
            clear_journal(tx)
        return receipt

    def _record(self, journal: Journal) -> None:
        with self.writer.transaction() as tx:
            write_journal(tx, journal)

    def _rewrite_labels(self, journal: Journal, work: Path) -> Journal:
        files, unreadable = find_labels(self.workspace, journal.user_id)
        self.files.left |= {place_of(self.workspace, path): f"unreadable: {why}" for path, why in unreadable.items()}
        for file in files:
            done = rewrite_labels(self.workspace, file, journal.user_id, work)
            journal = _with_landing(journal, place_of(self.workspace, file.path), done)
            self._record(journal)
            hit(FailPoint.FORGET_LANDING_REPLACED)
        return journal

    def _rewrite_landing(self, journal: Journal, work: Path) -> Journal:
        for file in _landing(self.workspace, journal.user_id):
            verdict, name = self._landing_verdict(file, journal), self.workspace.relative(file.path)
            # recorded with the file: a run that goes on after a kill does not find it again
            noted = _with_landing(journal, name, verdict)
            if verdict == "rewritten":
                try:
                    noted = self._replace_landing(file.path, noted, work)
                except (LandingError, ReadError, PermissionError) as error:
                    why = error.message if isinstance(error, ImsrError) else str(error)
                    noted = _with_landing(journal, name, f"still there: {why}")
            journal = noted
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


def _with_landing(journal: Journal, name: str, verdict: str) -> Journal:
    done = journal.receipt.landing | {name: verdict}
    return replace(journal, receipt=replace(journal.receipt, landing=done))


def _wait(seconds: float) -> None:
    """Look now and then whether the process was asked to end."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        end_if_asked()
        time.sleep(min(left, 0.1))


def _drop_reports(workspace: Workspace, user_id: str) -> None:
    mentions = re.compile(mention_pattern(user_id))
    for path in (workspace.root / "reports").glob("*.html"):
        if mentions.search(html.unescape(path.read_text(encoding="utf-8"))):
            path.unlink()
