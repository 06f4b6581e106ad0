"""The states of a span and of a version, and the sets of them that decide something.

A span goes ingested -> sequenced -> trained -> evaluated -> published or rejected, one step of a night after the
other. New data, or a restatement, make what was built stale; an error makes it failed. From both the next night starts
over. A version is a candidate until the gate has judged it; afterwards only people and retention change its state.
"""

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
#: States in which a night was interrupted: it had begun, and neither ended nor failed.
INTERRUPTED = frozenset({SpanState.SEQUENCED, SpanState.TRAINED, SpanState.EVALUATED})
#: States that sequences move on from: in all later ones they were in force already.
BEFORE_SEQUENCES = frozenset({SpanState.PENDING, SpanState.INGESTED, SpanState.STALE})
#: States of a span that a version can have learnt without being live.
NOT_LIVE = frozenset({SpanState.REJECTED, SpanState.TRAINED, SpanState.EVALUATED})


class VersionState(StrEnum):
    """What became of a version.

    ``WAITING``: it passed the gate, and goes live when the chain that is learnt again has caught up. ``SHADOW``: made
    beside the chain, to be compared with it. ``ARCHIVED`` and ``PRUNED``: retention removed all but the interests that
    later versions read, or all of it.
    """

    CANDIDATE = "candidate"
    WAITING = "waiting"
    PUBLISHED = "published"
    REJECTED = "rejected"
    SHADOW = "shadow"
    ARCHIVED = "archived"
    PRUNED = "pruned"


#: States of a version that cannot be opened any more.
GONE = frozenset({VersionState.PRUNED, VersionState.ARCHIVED})
#: States of a version that the gate has judged.
JUDGED = frozenset({VersionState.PUBLISHED, VersionState.REJECTED})
