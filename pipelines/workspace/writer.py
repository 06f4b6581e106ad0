"""The right to write: a workspace, the lease that a run holds on it, and the run's clock, in one object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime

from pipelines.workspace.layout import Workspace
from pipelines.workspace.lease import Lease, hold
from pipelines.workspace.ledger import Transaction

#: A moment that stands for all of a run, or what tells the time whenever it is asked for.
Clock = datetime | Callable[[], datetime]


@dataclass(frozen=True)
class Writer:
    """What every function that changes a workspace is given. Made by `writing`, for as long as the lease is held."""

    workspace: Workspace
    lease: Lease
    clock: Clock

    @property
    def now(self) -> datetime:
        """The time (aware) for rows that are written now."""
        return self.clock if isinstance(self.clock, datetime) else self.clock()

    def transaction(self) -> AbstractContextManager[Transaction]:
        """A transaction of the ledger that is refused if another run has taken over (see `Ledger.transaction`)."""
        return self.workspace.ledger.transaction(fence=self.lease.token)


@contextmanager
def writing(workspace: Workspace, what: str, *, now: Clock) -> Iterator[Writer]:
    """Hold the workspace for writing until the block ends.

    Args:
        workspace: the workspace.
        what: what is running, for the one who has to wait ("imsr ingest").
        now: the time of everything that is written, or a clock.

    Raises:
        LeaseHeld, LeaseLost: see `pipelines.workspace.lease.hold`.
    """
    with hold(workspace, what) as lease:
        yield Writer(workspace, lease, now)


@contextmanager
def lent(writer: Writer | None, workspace: Workspace, what: str, *, now: Clock) -> Iterator[Writer]:
    """The caller's ``writer`` if there is one, else one of one's own for the block."""
    if writer is not None:
        yield writer
        return
    with writing(workspace, what, now=now) as own:
        yield own
