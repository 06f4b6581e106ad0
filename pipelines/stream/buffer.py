"""Messages in memory, read ahead by a thread while a batch is written or a span is learnt.

The thread goes on to ask the broker all the time, so that a consumer whose spans take long to learn stays a member of
its group. With too much in memory it asks, but holds (back-pressure). What was read of a partition that was taken away
is dropped: whoever has it now begins where the ledger says.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from pipelines.stream.source import Bounds, Message, Positions, Source

#: Seconds that the thread waits for messages at a time.
POLL = 0.2

#: Messages by partition, in the order of their offsets.
Batch = dict[str, list[Message]]


class MessageBuffer:
    """Reads a source ahead. ``max_batch`` messages, or ``max_delay`` seconds of waiting, make a batch."""

    def __init__(self, source: Source, *, max_batch: int, max_delay: float, max_bytes: int) -> None:
        self._source = source
        self._max_batch, self._max_delay, self._max_bytes = max_batch, max_delay, max_bytes
        self._changed = threading.Condition()
        self._messages: Batch = {}
        self._count = self._bytes = 0
        self._oldest = 0.0
        self._bounds: dict[str, Bounds] = {}
        self._settled: Positions = {}
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="imsr-stream", daemon=True)

    def start(self) -> None:
        """Begin to read; the source is open."""
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether there is a batch, waiting for it so long at most. Raises what the reading thread died of."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._is_due() and self._error is None:
                left = deadline - time.monotonic()
                if self._count:
                    left = min(left, self._oldest + self._max_delay - time.monotonic())
                if deadline <= time.monotonic():
                    break
                self._changed.wait(max(left, 0.001))
            if self._error is not None and not self._count:
                raise self._error
            return self._is_due()

    def take(self) -> Batch:
        """All messages that are there."""
        with self._changed:
            batch, self._messages = self._messages, {}
            self._count = self._bytes = 0
            return batch

    def is_empty(self) -> bool:
        """Whether every message that was read is taken."""
        with self._changed:
            return self._count == 0

    def bounds(self) -> dict[str, Bounds]:
        """What the partitions held when they were last read."""
        with self._changed:
            return dict(self._bounds)

    def forget(self, partitions: set[str]) -> None:
        """Drop what was read of these partitions: they were taken away."""
        with self._changed:
            for name in partitions:
                dropped = self._messages.pop(name, [])
                self._count -= len(dropped)
                self._bytes -= sum(len(message.value or b"") for message in dropped)
                self._bounds.pop(name, None)

    def settle(self, positions: Positions) -> None:
        """Let the reading thread tell the source, which one thread at a time may use."""
        with self._changed:
            self._settled = positions

    def close(self) -> None:
        """End the thread and leave the source."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self._tell()
        finally:  # who stays in a group without reading holds its partitions from the others
            self._source.close()

    def _tell(self) -> None:
        with self._changed:
            positions, self._settled = self._settled, {}
        if positions:
            self._source.settle(positions)

    def _is_due(self) -> bool:
        if self._count == 0:
            return False
        full = self._count >= self._max_batch or self._bytes >= self._max_bytes
        return full or self._error is not None or time.monotonic() - self._oldest >= self._max_delay

    def _read(self) -> None:
        held = False
        try:
            while not self._stop.is_set():
                with self._changed:
                    full = self._bytes >= self._max_bytes or self._count >= 2 * self._max_batch
                if full != held:
                    self._source.hold(full)
                    held = full
                self._add(self._source.poll(POLL))
                self._tell()
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _add(self, messages: Sequence[Message]) -> None:
        bounds = self._source.bounds()
        with self._changed:
            self._bounds = bounds
            for message in messages:
                if self._count == 0:
                    self._oldest = time.monotonic()
                self._messages.setdefault(message.partition, []).append(message)
                self._count += 1
                self._bytes += len(message.value or b"")
            self._changed.notify_all()
