"""A run tells people what went wrong: whoever runs it, at its end, also when it fails.

Nothing here can fail the run: a receiver that does not answer is a line in the log, and in `imsr status`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from imsr_core.errors import ImsrError
from pipelines.alerts.telling import Told, tell
from pipelines.alerts.troubles import Trouble, failed_night, late_night, troubles, unreadable
from pipelines.workspace.layout import Workspace


@dataclass
class Run:
    """A run as far as people are told of it: versions that it ``made``, and at its end all that is wrong."""

    made: list[str] = field(default_factory=list)
    found: list[Trouble] = field(default_factory=list)


@contextmanager
def telling(
    workspace: Workspace,
    what: str,
    *,
    now: datetime,
    say: Callable[[str], None],
    scheduled: datetime | None = None,
    each: Callable[[Trouble], None] = lambda trouble: None,
) -> Iterator[Run]:
    """At the end of the block look what is wrong, and tell what is new of it; an error of the block goes on.

    Args:
        what: what the run is called in a message.
        now: the time that the run works with.
        say: logs a line: what was sent, and which receiver did not take it.
        scheduled: when the run was to begin, if by a schedule.
        each: is called with each trouble that is new.
    """
    run, began, failed = Run(), datetime.now(UTC), list[Trouble]()
    try:
        yield run
    except Exception as error:
        failed = [failed_night(error, what=what, now=datetime.now(UTC))]
        raise
    finally:
        _tell(workspace, run, failed, now, say, each, began=(scheduled, began))


def _tell(
    workspace: Workspace,
    run: Run,
    failed: Sequence[Trouble],
    now: datetime,
    say: Callable[[str], None],
    each: Callable[[Trouble], None],
    began: tuple[datetime | None, datetime],
) -> None:
    try:
        late = late_night(began[0], began[1], workspace.alerts) if began[0] else None
        known, whole = _known(workspace, run, failed, now)
        run.found = once(known, [*failed, *([late] if late else [])])
        told = tell(workspace, run.found, now=now, whole=whole)
        report(told, say)
        for trouble in told.troubles:
            each(trouble)
    except Exception as error:  # a full disk, a server that is gone: what the run has done stands all the same
        say(f"alerts could not be sent: {type(error).__name__}")


def _known(workspace: Workspace, run: Run, failed: Sequence[Trouble], now: datetime) -> tuple[list[Trouble], bool]:
    """What settings and ledger say is wrong, and whether they could be read: if not, that is what failed the run."""
    try:
        return troubles(workspace, now=now, made=run.made), True
    except ImsrError as error:
        return [] if failed else [unreadable(error)], False


def once(ledger: Sequence[Trouble], of_run: Sequence[Trouble]) -> list[Trouble]:
    """What the ledger knows, and of the run what has no cause in common with it."""
    causes = {trouble.cause for trouble in ledger} - {""}
    return [*ledger, *(trouble for trouble in of_run if trouble.cause not in causes)]


def report(told: Told, say: Callable[[str], None]) -> None:
    """Log what was sent, and what did not arrive."""
    reached = [delivery.receiver for delivery in told.deliveries if not delivery.problem]
    if reached:
        say(f"told {', '.join(reached)}: {'; '.join(trouble.text for trouble in told.troubles)}")
    for problem in told.problems:
        say(f"an alert was not taken by {problem}")
