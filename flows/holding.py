"""Hold the workspace for a command or flow that changes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flows.termination import bring_back_swallowed_signals
from imsr_core.errors import ImsrError
from pipelines.care.receipts import read_journal
from pipelines.warehouse.catalog import publish_catalog
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import Clock, Writer, writing


@contextmanager
def holding(workspace: Workspace, what: str, *, now: Clock) -> Iterator[Writer]:
    """The right to write, for the block; afterwards the views show what it did, or left undone when it failed.

    What a killed run left is finished first: a forgetting that was interrupted, and by the end the views.

    Raises:
        LeaseHeld: another run holds the workspace.
    """
    bring_back_swallowed_signals()
    with writing(workspace, what, now=now) as writer:
        _finish_what_was_killed(writer)
        try:
            yield writer
        except Exception:
            with suppress(ImsrError, OSError):  # what went wrong first, a full disk say, is what has to be told
                publish_catalog(workspace)
            raise
        publish_catalog(workspace)


def _finish_what_was_killed(writer: Writer) -> None:
    with writer.workspace.ledger.snapshot() as view:
        journal = read_journal(view)
    if journal is not None:
        from pipelines.care.forget import finish_forgetting  # what reads every kind of file, for once in a long while

        finish_forgetting(writer)
