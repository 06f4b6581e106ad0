"""How far back late events may change what was learnt.

Each late event that is taken makes its span, and all that were learnt after it, stale: one straggler from last year
would rebuild the year every night. The window is a number of learnt spans, counted back from the newest one, and never
the clock, so that it does not matter when a file arrives.
"""

from __future__ import annotations

from pipelines.workspace.ledger import Snapshot


def boundary_us(view: Snapshot, lookback_spans: int) -> int | None:
    """Start of the window (microseconds since 1970): new events before it are too late. None: nothing is learnt yet.

    A span counts as learnt if a version learnt it, whatever became of the version.
    """
    named = {span_id for row in view.versions() for span_id in (row.span_id, *row.spans)}
    learnt = [span for span in view.spans() if span.span_id in named]
    if not learnt:
        return None
    return learnt[-1].end_us if lookback_spans == 0 else learnt[-lookback_spans:][0].start_us
