"""A clock that was set back, as a machine's may be after a restart: events that are past would look as if to come.

They would go to the quarantine, and their file count as known, so that nobody would ever read them. The ledger knows
better: when the last ingest was, that time had come. Then the ingest is refused and nothing changes.
"""

from __future__ import annotations

from datetime import datetime

from imsr_core.counted import counted, plural
from imsr_core.errors import ImsrError
from pipelines.lake.spans import from_us, to_us
from pipelines.workspace.ledger import Snapshot


class ClockError(ImsrError):
    """This machine's clock is behind the last ingest, and events of the time between are to be judged by it."""


def time_before(view: Snapshot, now: datetime, skew_seconds: int) -> int | None:
    """When (microseconds) the last ingest was, if that is later than ``now`` and what may be amiss; else None."""
    batches = view.batches()
    if not batches:
        return None
    try:
        last = to_us(datetime.fromisoformat(batches[-1].ingested_at))
    except ValueError:
        return None  # damaged: for the doctor to say
    return last if last > to_us(now) + skew_seconds * 1_000_000 else None


def refuse(rows: int, now: datetime, last_us: int) -> ClockError:
    """The error for rows of the time between."""
    return ClockError(
        f"the clock says {now:%Y-%m-%d %H:%M} UTC, but the last ingest was on {from_us(last_us):%Y-%m-%d %H:%M}: "
        f"{counted(rows, 'row')} {plural(rows, 'is')} of the time between, and would be refused as if to come",
        hint="set the clock right and give the command again; nothing was ingested (if it was wrong then, and is right "
        "now: raise [ingest] max_clock_skew)",
    )
