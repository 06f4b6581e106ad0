"""Hold the workspace for a command or flow that changes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from pipelines.forget import finish_forgetting
from pipelines.lease import Lease, hold
from pipelines.workspace import Workspace


@contextmanager
def holding(workspace: Workspace, what: str, *, now: datetime) -> Iterator[Lease]:
    """The lease, for the block; a forgetting that was interrupted is finished before anything else is done.

    Raises:
        LeaseHeld: another run holds the workspace.
    """
    with hold(workspace, what) as lease:
        finish_forgetting(workspace, lease, now=now)
        yield lease
