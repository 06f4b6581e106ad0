"""The states of a span and of a version, and the sets of them that decide something."""

from __future__ import annotations

from enum import StrEnum


class SpanState(StrEnum):
    """What has happened to a span. ``STALE``: its data, or the data of a span before it, changed since."""

    PENDING = "pending"
    INGESTED = "ingested"
    SEQUENCED = "sequenced"
    TRAINED = "trained"
    EVALUATED = "evaluated"
    PUBLISHED = "published"
    REJECTED = "rejected"
    FAILED = "failed"
    STALE = "stale"


#: States in which work was done that rests on the span's data: new data makes them stale.
BUILT = frozenset(
    {
        SpanState.SEQUENCED,
        SpanState.TRAINED,
        SpanState.EVALUATED,
        SpanState.PUBLISHED,
        SpanState.REJECTED,
        SpanState.FAILED,
    }
)


#: States in which nothing is left to do for a span.
DONE = frozenset({SpanState.PUBLISHED, SpanState.REJECTED})


#: States of a span that some model has learnt.
LEARNT = DONE | {SpanState.TRAINED, SpanState.EVALUATED, SpanState.STALE}


#: States of a version that retention removed: all of it, or all but the interests that later versions read.
PRUNED, ARCHIVED = "pruned", "archived"


GONE = frozenset({PRUNED, ARCHIVED})
