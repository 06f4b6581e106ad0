"""Which version of a line is live: every move of its pointer, by a run or by hand.

One transaction moves the pointer, appends to the log of promotions, sets the version's state, and lets the line say
what the move means for everything else (see `Pointer.settle`).
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from imsr_core.errors import ImsrError
from pipelines.versions.line import Line
from pipelines.versions.lineage import VersionError
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import PromotionRow, Snapshot, Transaction, VersionRow
from pipelines.workspace.seal import verify_folder
from pipelines.workspace.states import VersionState
from pipelines.workspace.writer import Writer


class GateError(ImsrError):
    """A version that may not go live."""


class Opened(Protocol):
    """A version of some line, opened for reading."""

    @property
    def row(self) -> VersionRow: ...

    @property
    def folder(self) -> Path: ...


V = TypeVar("V", bound=Opened)


def smoke_test(version: Opened, ask: Callable[[], str | None]) -> str | None:
    """Compare a version's folder with its seal and ``ask`` it as a reader would; what is wrong with it, or None.

    Raises:
        GateError: the system did not let us read it: that says nothing about the version.
    """
    try:
        verify_folder(version.folder)
        return ask()
    except (ImsrError, OSError) as error:
        if refused := _refusal(error):
            raise GateError(
                f"version {version.row.version_id} cannot be looked at: {refused}",
                hint="nothing was decided of it; when the disk answers again, give the command again",
            ) from error
        return error.message if isinstance(error, ImsrError) else str(error)


def _refusal(error: BaseException | None) -> OSError | None:
    """The error of the system behind another one; a file that is missing, or holds nonsense, is none of its."""
    while error is not None:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            return error
        error = error.__cause__
    return None


class Pointer(ABC, Generic[V]):
    """The pointer of one line. A new line says how a version is opened and tried out, and what a move means for it."""

    line: ClassVar[Line]

    @abstractmethod
    def open(self, workspace: Workspace, version_id: str) -> V:
        """A version of the line. Raises VersionError if there is none of this id."""

    @abstractmethod
    def smoke_test(self, version: V) -> str | None:
        """What is wrong with a version, found by asking it as a reader would; None if it answers."""

    @abstractmethod
    def settle(self, tx: Transaction, version: V, before: str | None, what: str, at: datetime) -> None:
        """What else changes when ``version`` is put live by hand (``what``: "promoted", "rolled back").

        ``before`` is the version that was live.
        """

    def promote(
        self, writer: Writer, version_id: str, reason: str, *, verdict: dict[str, Any] | None = None
    ) -> PromotionRow | None:
        """Put a version live by hand, whatever the gate said of it; None if it is live already.

        ``verdict`` (as JSON) is noted with the version if it is given.

        Raises:
            VersionError: there is no such version.
            GateError: it is damaged, or does not answer.
        """
        points = (FailPoint.PROMOTE_BEFORE_COMMIT, FailPoint.PROMOTE_AFTER_COMMIT)
        return self._put_live(writer, version_id, reason, "promoted", points, verdict)

    def roll_back(self, writer: Writer, *, to: str | None = None, reason: str = "") -> PromotionRow | None:
        """Put an earlier version live: the one that the current one was learnt from, or ``to``; None if it is live.

        Raises:
            VersionError: there is nothing earlier, or ``to`` was never live.
            GateError: the version is damaged, or does not answer.
        """
        with writer.workspace.ledger.snapshot() as view:
            target = to or self._earlier(view)
            if to is not None and to not in {row.version_id for row in view.promotions(self.line)}:
                known = view.version(to) is not None
                raise VersionError(
                    f"version {to!r} of the {self.line} line was never live",
                    hint=f"put it live with: imsr promote {to}" if known else "there is no such version: imsr versions",
                )
        points = (FailPoint.ROLLBACK_BEFORE_COMMIT, FailPoint.ROLLBACK_AFTER_COMMIT)
        return self._put_live(writer, target, reason or f"rolled back to {target}", "rolled back", points)

    def _put_live(
        self,
        writer: Writer,
        version_id: str,
        reason: str,
        what: str,
        points: tuple[FailPoint, FailPoint],
        verdict: dict[str, Any] | None = None,
    ) -> PromotionRow | None:
        version = self.open(writer.workspace, version_id)
        self.require_answering(version)
        with writer.transaction() as tx:
            before, at = tx.pointer(self.line), writer.now
            if before == version.row.version_id:
                return None
            move = tx.promote(self.line, version.row.version_id, reason, at=at)
            row = version.row.noting(verdict=verdict) if verdict else version.row
            tx.put_version(replace(row, state=VersionState.PUBLISHED))
            self.settle(tx, version, before, what, at)
            hit(points[0])
        hit(points[1])
        return move

    def require_answering(self, version: V) -> None:
        """Raise GateError unless the version is whole and answers."""
        problem = self.smoke_test(version)
        if problem is not None:
            raise GateError(
                f"version {version.row.version_id} cannot go live: {problem}",
                hint="choose another one from: imsr versions; or see: imsr doctor",
            )

    def _earlier(self, view: Snapshot) -> str:
        """The version to go back to: the parent, or for a chain that was begun anew the version that it replaced."""
        current = view.version(view.pointer(self.line) or "")
        if current is None:
            raise VersionError(f"the {self.line} line has no current version yet", hint=self.line.begin)
        replaced = [move.previous for move in view.promotions(self.line) if move.version_id == current.version_id]
        target = current.parent or current.shadow_of or (replaced[0] if replaced else None)
        if target is None:
            raise VersionError(
                f"version {current.version_id} is the first of its chain: there is nothing to roll back to",
                hint="put another one live with: imsr promote VERSION",
            )
        return target


def record_verdict(
    tx: Transaction, row: VersionRow, verdict: dict[str, Any], reason: str, *, at: datetime, **facts: object
) -> VersionRow:
    """Note what the gate said of a candidate, and ``facts``, and let it go live if it passed; its row as it is then."""
    state = VersionState.PUBLISHED if verdict["passed"] else VersionState.REJECTED
    judged = replace(row, state=state).noting(verdict=verdict, **facts)
    tx.put_version(judged)
    if verdict["passed"] and tx.pointer(row.line) != row.version_id:
        tx.promote(row.line, row.version_id, reason, at=at)
    return judged
