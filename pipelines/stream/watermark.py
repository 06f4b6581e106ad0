"""How far a stream is: position, end and watermark of each partition, and from them the time up to which all is there.

The watermark of a partition is the time of its newest good event; that of the stream is the lowest of these. A
partition holds it up as long as it delivers or lags behind. One that is read to its end and brought nothing good for
``[stream] idle`` does not count, so that a quiet shop does not stop the nights of the others. If all are silent the
watermark stays where the furthest of them brought it: time is told by events, never by the clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from pipelines.stream.source import Bounds
from pipelines.workspace.ledger import Snapshot, Transaction

#: Key of the ledger's ``meta``: all streams of the workspace.
STREAMS = "streams"
#: Key of the ledger's ``meta``: which stream of its name each one is.
IDENTITIES = "stream_identities"


@dataclass(frozen=True)
class Partition:
    """One partition. Times are microseconds since 1970.

    Attributes:
        position: offset of the next message to take.
        end: where the partition ended when somebody last looked.
        active_us: clock time when good events of it were last written, or when it was first seen.
        watermark_us: time of its newest good event; None before the first.
        time_unit: how its times are read; "" before the first good event.
    """

    position: int
    end: int
    active_us: int
    watermark_us: int | None = None
    time_unit: str = ""

    @property
    def lag(self) -> int:
        """Messages that wait."""
        return max(0, self.end - self.position)

    def is_idle(self, now_us: int, idle_us: int) -> bool:
        """Whether it holds up nothing."""
        return self.lag == 0 and now_us - self.active_us >= idle_us

    def took(self, position: int, newest_us: int | None, time_unit: str, now_us: int) -> Partition:
        """The partition after a batch."""
        found = [time for time in (self.watermark_us, newest_us) if time is not None]
        unit = self.time_unit or (time_unit if newest_us is not None else "")
        active = self.active_us if newest_us is None else now_us
        return Partition(position, max(self.end, position), active, max(found, default=None), unit)


@dataclass(frozen=True)
class StreamState:
    """All partitions of a stream, as the ledger has them."""

    name: str
    partitions: dict[str, Partition] = field(default_factory=dict)

    @property
    def positions(self) -> dict[str, int]:
        """partition -> offset of the next message to take."""
        return {name: partition.position for name, partition in self.partitions.items()}

    @property
    def lag(self) -> int:
        """Messages that wait, in all."""
        return sum(partition.lag for partition in self.partitions.values())

    def watermark_us(self, now_us: int, idle_us: int) -> int | None:
        """Time up to which all is there; None before every partition that counts has delivered."""
        counted = [each for each in self.partitions.values() if not each.is_idle(now_us, idle_us)]
        if counted:
            times = [each.watermark_us for each in counted]
            return None if None in times else min(time for time in times if time is not None)
        return max(
            (each.watermark_us for each in self.partitions.values() if each.watermark_us is not None), default=None
        )

    def held_by(self, now_us: int, idle_us: int) -> str | None:
        """The partition that holds the watermark where it is; None if all are silent."""
        counted = {name: each for name, each in self.partitions.items() if not each.is_idle(now_us, idle_us)}
        return min(counted, key=lambda name: counted[name].watermark_us or 0, default=None)

    def seen(self, bounds: Mapping[str, Bounds], now_us: int, *, latest: bool = False) -> StreamState:
        """With what the partitions hold now; one that was never seen begins at its first message, or at its end."""
        partitions = dict(self.partitions)
        for name, (first, end) in bounds.items():
            known = partitions.get(name)
            start = Partition(end if latest else first, end, now_us)
            partitions[name] = start if known is None else replace(known, end=max(end, known.position))
        return replace(self, partitions=partitions)

    def unread(self) -> StreamState:
        """From the first message on, whatever was read; what is known of times stays."""
        return replace(self, partitions={n: replace(each, position=0, end=0) for n, each in self.partitions.items()})

    def skipping(self, bounds: Mapping[str, Bounds]) -> StreamState:
        """With every partition whose next message is gone set to the first that is there."""
        partitions = dict(self.partitions)
        for name, (first, end) in bounds.items():
            if name in partitions and not first <= partitions[name].position <= end:
                partitions[name] = replace(partitions[name], position=first, end=end)
        return replace(self, partitions=partitions)


def stream_states(view: Snapshot) -> dict[str, StreamState]:
    """The streams that the workspace has read, by name."""
    stored = json.loads(view.meta(STREAMS) or "{}")
    return {
        name: StreamState(name, {key: Partition(**values) for key, values in partitions.items()})
        for name, partitions in stored.items()
    }


def stream_state(view: Snapshot, name: str) -> StreamState:
    """One stream; without partitions if it was never read."""
    return stream_states(view).get(name, StreamState(name))


def put_stream_state(tx: Transaction, state: StreamState) -> None:
    """Replace one stream in the ledger."""
    streams = stream_states(tx) | {state.name: state}
    stored = {
        name: {key: asdict(partition) for key, partition in sorted(each.partitions.items())}
        for name, each in sorted(streams.items())
    }
    tx.put_meta(STREAMS, json.dumps(stored))


def note_identity(tx: Transaction, name: str, identity: str) -> bool:
    """Note which stream of its name is read, by ``Source.identity``; whether another one was read before."""
    known = json.loads(tx.meta(IDENTITIES) or "{}")
    before = known.get(name, "")
    if identity and identity != before:
        tx.put_meta(IDENTITIES, json.dumps(known | {name: identity}))
    return bool(before and identity and identity != before)
