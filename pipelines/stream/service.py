"""The loop of `imsr stream`: write what has come, learn what is over, until it is told to stop.

A batch is written under the lease, which is given back after it, so that a night, a query of the status, or another
consumer of the group gets its turn. Spans are over by the watermark (see ``pipelines.stream.closing``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime

from imsr_core.counted import counted
from imsr_core.errors import ImsrError
from pipelines.lake.spans import to_us
from pipelines.nights.plan import PlannedRun
from pipelines.stream.closing import Closing, closing_of
from pipelines.stream.consumers import noted_consumer
from pipelines.stream.feed import Feed, Written
from pipelines.stream.interim import drop_interim
from pipelines.stream.watermark import StreamState, put_stream_state, stream_state
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.lease import LeaseHeld, LeaseLost
from pipelines.workspace.ledger import Transaction
from pipelines.workspace.writer import Writer

#: Seconds that one turn waits for a batch, and between two tries to get the lease.
TURN = 1.0
WAIT = 0.5
#: Seconds after which the ends of the partitions are noted, though nothing was written.
NOTE = 10.0

Learn = Callable[[Sequence[PlannedRun], Writer], object]


@dataclass
class Service:
    """One consumer at work.

    Attributes:
        hold: the right to write for a block, after which the views show what it did; raises LeaseHeld while another
            run has it.
        learn: learns these, in order; None learns nothing.
        say: told what happens, a line a batch.
        clock: what time it is.
        stop: set to end after the batch that is being written.
        learning: whether a span is being learnt now.
    """

    workspace: Workspace
    feed: Feed
    hold: Callable[[], AbstractContextManager[Writer]]
    learn: Learn | None
    say: Callable[[str], None]
    clock: Callable[[], datetime]
    stop: threading.Event = field(default_factory=threading.Event)
    learning: bool = False
    _failed: tuple[object, ...] = ()
    _noted: float = 0.0

    def serve(self, *, drain: bool = False) -> None:
        """Write and learn until ``stop`` is set; with ``drain`` until everything that there is was taken."""
        with noted_consumer(self.workspace, self.feed.name, learns=self.learn is not None) as beat:
            self._leased(self._tidy)
            while not self.stop.is_set():
                if self.feed.wait(TURN):
                    self._leased(self._write)
                elif drain and self.feed.is_exhausted():
                    self._note(beat, at_once=True)
                    self._learn_what_is_over()
                    return
                self._note(beat)
                self._learn_what_is_over()

    def closing(self) -> Closing:
        """What is over now, and what the stream waits for."""
        with self.workspace.ledger.snapshot() as view:
            state = self._live(stream_state(view, self.feed.name))
            return closing_of(view, self.workspace.settings, state, self.clock())

    def _live(self, state: StreamState) -> StreamState:
        return state.seen(self.feed.bounds(), to_us(self.clock()))

    def _leased(self, work: Callable[[Writer], None]) -> None:
        """Do this under the lease once it is free; given up if the service is to stop meanwhile."""
        told = False
        while not self.stop.is_set():
            try:
                with self.hold() as writer:
                    work(writer)
                    return
            except LeaseHeld as held:
                if not told:
                    self.say(f"waiting: {held.message}")
                told = True
                self.stop.wait(WAIT)
            except LeaseLost:
                self.say("overtaken by another run: the batch is written again")

    def _write(self, writer: Writer) -> None:
        started = time.monotonic()
        written = self.feed.write(writer)
        if written.report is None:
            return
        hit(FailPoint.STREAM_WRITTEN)
        self._tidy(writer, [row.span_id for row in written.report.span_versions])
        self.feed.settle()
        self.say(_line(written, time.monotonic() - started, self.closing()))

    def _tidy(self, writer: Writer, spans: Sequence[str] | None = None) -> None:
        """Remove what is superseded in these spans; in all of them what a run that was killed left."""
        if spans is None:
            with self.workspace.ledger.snapshot() as view:
                spans = [span.span_id for span in view.spans()]
        drop_interim(writer, spans)

    def _note(self, beat: Callable[[Transaction], None], *, at_once: bool = False) -> None:
        """Let the ledger know where the partitions end and that this one is alive, for the status and the others."""
        if not at_once and time.monotonic() - self._noted < NOTE:
            return
        self._noted = time.monotonic()
        with self.workspace.ledger.transaction() as tx:
            state = stream_state(tx, self.feed.name)
            if (live := self._live(state)) != state:
                put_stream_state(tx, live)
            beat(tx)

    def _learn_what_is_over(self) -> None:
        if self.learn is None:
            return
        closing = self.closing()
        if closing.opened and self._key(closing) != self._failed and not self.stop.is_set():
            self._leased(self._learn)

    def _learn(self, writer: Writer) -> None:
        closing = self.closing()  # another consumer may have learnt it while this one waited
        if not closing.opened or self.learn is None:
            return
        key = self._key(closing)
        self.learning = True
        try:
            self.learn(closing.runs, writer)
        except (LeaseHeld, LeaseLost):
            raise
        except ImsrError as error:  # the span is marked as failed; what comes in must not wait for that
            self._failed = self._key(self.closing()) or key
            self.say(f"not learnt: {error.message}; events are taken on; see: imsr status")
        finally:
            self.learning = False

    def _key(self, closing: Closing) -> tuple[object, ...]:
        """The runs with their data: after a failure they are tried again when this changes."""
        with self.workspace.ledger.snapshot() as view:
            versions = {span.span_id: span.data_version for span in view.spans()}
        return tuple((span_id, versions[span_id]) for run in closing.runs for span_id in run.spans)


def _line(written: Written, seconds: float, closing: Closing) -> str:
    report = written.report
    assert report is not None
    parts = [counted(written.messages, "message"), counted(report.kept, "new row")]
    parts += [f"{report.duplicate:,} known"] if report.duplicate else []
    parts += [f"{report.quarantined:,} quarantined"] if report.quarantined else []
    return f"{', '.join(parts)}, {seconds:.1f} s; waits for {closing.waits_for}"
