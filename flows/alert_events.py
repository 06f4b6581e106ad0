"""What Prefect gets to know of troubles: an event each, and the name of the flow run's state.

    imsr.failed, imsr.rejected, imsr.stale, imsr.quarantined, imsr.late     events, of the resource imsr.workspace.NAME
    Rejected, Stale (of type Completed), Quarantined (of type Failed)       names of states: prefect.flow-run.Rejected

An automation can wait for any of them. `imsr alerts install` makes one for what no run can say itself: that none began,
or that it was killed (see `flows.automation`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from prefect import get_run_logger
from prefect.context import FlowRunContext
from prefect.events import emit_event

from flows.alerts import Run, telling
from pipelines.alerts.troubles import Trouble
from pipelines.workspace.layout import Workspace


@contextmanager
def telling_of_flow(workspace: Workspace, what: str, *, now: datetime) -> Iterator[Run]:
    """`flows.alerts.telling` in a flow run: it logs there, emits events, and knows the schedule."""

    def emit(trouble: Trouble) -> None:
        emit_event(
            event=f"imsr.{trouble.kind}",
            resource={
                "prefect.resource.id": f"imsr.workspace.{workspace.root.name}",
                "prefect.resource.name": workspace.root.name,
                "imsr.folder": str(workspace.root),
            },
            payload={"text": trouble.text, "hint": trouble.hint},
        )

    logger = get_run_logger()
    with telling(workspace, what, now=now, say=logger.warning, scheduled=_scheduled(), each=emit) as run:
        yield run


def _scheduled() -> datetime | None:
    """When the schedule wanted this flow run to begin; None if a person started it."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return run.expected_start_time if run is not None and run.auto_scheduled else None
