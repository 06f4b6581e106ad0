"""Messages of a broker, written exactly once.

Under the lease, so that no other consumer writes meanwhile, what the ledger has beyond is left out, the rest is decoded
and ingested, and the new positions are part of the transaction that commits the rows. So it does not matter who read a
message, how often, or what became of the process: its row is there if and only if the position is behind it.
"""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq

from pipelines.lake.delivery import Delivery
from pipelines.lake.ingest import ingest
from pipelines.lake.report import IngestReport
from pipelines.lake.spans import to_us
from pipelines.stream.buffer import Batch, MessageBuffer
from pipelines.stream.decode import decoder
from pipelines.stream.feed import Written
from pipelines.stream.source import Bounds, Positions, Source, anew
from pipelines.stream.watermark import Partition, StreamState, note_identity, put_stream_state, stream_state
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Transaction
from pipelines.workspace.publish import staging_folder
from pipelines.workspace.writer import Writer

#: Seconds after which a consumer that was given no partition takes it that the others have them all.
JOIN = 15.0


class MessageFeed:
    """The ``Feed`` of a broker.

    Args:
        now: when partitions that were never read are first seen.
        skip_lost: where the next messages are gone, go on with the first that is there.
    """

    def __init__(self, workspace: Workspace, source: Source, now: datetime, *, skip_lost: bool = False) -> None:
        settings = workspace.settings.stream
        self.name = source.name
        self._workspace, self._label = workspace, source.label
        self._decode = decoder(settings, workspace.settings.source, workspace.root)
        self._taken: Batch = {}
        self._settled: dict[str, int] = {}
        self._buffer = MessageBuffer(
            source,
            max_batch=settings.max_batch,
            max_delay=settings.max_delay_seconds,
            max_bytes=settings.buffer_mb << 20,
        )
        self._refuse_another(source.identity(), skip_lost)
        bounds = source.open(self._positions, self._buffer.forget)
        with workspace.ledger.transaction() as tx:  # before it is read: where it begins is what stands there
            state = stream_state(tx, self.name)
            state = state.skipping(bounds) if skip_lost else state
            put_stream_state(tx, state.seen(bounds, to_us(now), latest=settings.start == "latest"))
        self._buffer.start()
        self._opened = time.monotonic()

    def _refuse_another(self, identity: str, skip_lost: bool) -> None:
        with self._workspace.ledger.transaction() as tx:
            if note_identity(tx, self.name, identity):
                if not skip_lost:
                    raise anew(self.name)
                put_stream_state(tx, stream_state(tx, self.name).unread())

    def wait(self, seconds: float) -> bool:
        """Whether a batch is ready."""
        return bool(self._taken) or self._buffer.wait(seconds)

    def write(self, writer: Writer) -> Written:
        """Put the batch into the lake; after an error the same one again."""
        self._taken = self._taken or self._buffer.take()
        with self._workspace.ledger.snapshot() as view:
            state = stream_state(view, self.name)
        fresh = self._fresh(state.positions)
        report = self._ingest(fresh, state, writer) if fresh else None
        self._taken = {}
        return Written(sum(map(len, fresh.values())), report)

    def settle(self) -> None:
        """Tell the broker the positions in the ledger, for its own tools."""
        mine = self._buffer.bounds()
        positions = {name: at for name, at in self._positions().items() if name in mine}
        if positions != self._settled:
            self._buffer.settle(positions)
            self._settled = positions

    def is_exhausted(self) -> bool:
        """Whether all that its partitions hold is in the lake; of a consumer that gets none, that of all partitions."""
        bounds = self.bounds()
        if not bounds and time.monotonic() - self._opened < JOIN:
            return False
        with self._workspace.ledger.snapshot() as view:
            partitions = stream_state(view, self.name).seen(bounds, 0).partitions
        mine = bounds or partitions
        return not any(partitions[name].lag for name in mine) and not self._taken and self._buffer.is_empty()

    def bounds(self) -> dict[str, Bounds]:
        """What the partitions of this consumer hold."""
        return self._buffer.bounds()

    def close(self) -> None:
        """Leave the group."""
        self._buffer.close()

    def _positions(self) -> Positions:
        with self._workspace.ledger.snapshot() as view:
            return stream_state(view, self.name).positions

    def _fresh(self, positions: Positions) -> Batch:
        """The messages of the batch that the lake has not."""
        found = {}
        for name, messages in sorted(self._taken.items()):
            position = positions.get(name, messages[0].offset)
            found[name] = [message for message in messages if message.offset >= position]
        return {name: messages for name, messages in found.items() if messages}

    def _ingest(self, fresh: Batch, state: StreamState, writer: Writer) -> IngestReport:
        now = writer.now
        with staging_folder(self._workspace, "stream") as folder:
            deliveries = [self._delivery(folder, number, name, fresh, state) for number, name in enumerate(fresh)]

            def record(tx: Transaction, report: IngestReport) -> None:
                put_stream_state(tx, self._after(stream_state(tx, self.name), fresh, report, now))

            return ingest(self._workspace, deliveries, now=now, writer=writer, again=True, also=record)

    def _delivery(self, folder: Path, number: int, name: str, fresh: Batch, state: StreamState) -> Delivery:
        first = fresh[name][0].offset
        path = folder / f"{number}.parquet"
        pq.write_table(self._decode(fresh[name], first), path, compression="none")
        known = state.partitions.get(name)
        return Delivery(path, f"{self._label}/{name}", first, (known and known.time_unit) or None)

    def _after(self, state: StreamState, fresh: Batch, report: IngestReport, now: datetime) -> StreamState:
        """The state when this batch is in the lake."""
        state = state.seen(self.bounds(), to_us(now))
        partitions = dict(state.partitions)
        for (name, messages), file in zip(fresh.items(), report.files, strict=True):
            first, last = messages[0].offset, messages[-1].offset
            before = partitions.get(name) or Partition(first, last + 1, to_us(now))
            partitions[name] = before.took(last + 1, file.newest_us, self._unit(file.time_unit), to_us(now))
        return StreamState(state.name, partitions)

    def _unit(self, found: str) -> str:
        """The unit to keep; where the settings say how times are written there is nothing to keep."""
        source = self._workspace.settings.source
        return found if source.time_unit == "auto" and not source.time_formats else ""
