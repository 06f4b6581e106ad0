"""Hold the workspace for a command or flow that changes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from pipelines.care.forget import finish_forgetting
from pipelines.workspace.layout import Workspace
from pipelines.workspace.lease import Lease, hold


@contextmanager
def holding(workspace: Workspace, what: str, *, now: datetime) -> Iterator[Lease]:
    """The lease, for the block; a forgetting that was interrupted is finished before anything else is done.

    Raises:
        LeaseHeld: another run holds the workspace.
    """
    with hold(workspace, what) as lease:
        finish_forgetting(workspace, lease, now=now)
        yield lease
