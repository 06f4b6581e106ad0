"""How far each stream is, and who learns what is due: parts of `imsr status`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from flows.answers import answer
from flows.commands.options import current_time
from flows.console import say, show_table
from pipelines.lake.spans import from_us, to_us
from pipelines.nights.plan import PlannedRun
from pipelines.stream.closing import closing_of
from pipelines.stream.consumers import consumers
from pipelines.stream.watermark import stream_state, stream_states
from pipelines.workspace.layout import Workspace
from pipelines.workspace.lease import is_held
from pipelines.workspace.states import SpanState

#: Who learns everything that is due, while it holds the lease.
_LEARNERS = ("imsr run", "nightly flow")


def show_streams(workspace: Workspace) -> None:
    """How far each stream is, by the ledger: lag, watermark, and what the next span waits for."""
    now = current_time()
    with workspace.ledger.snapshot() as view:
        states = list(stream_states(view).values())
        closings = [closing_of(view, workspace.settings, state, now) for state in states]
        readers = consumers(view)
    answer.fact(consumers=readers)
    for state, closing in zip(states, closings, strict=True):
        until = f"{from_us(closing.watermark_us):%Y-%m-%d %H:%M:%S}" if closing.watermark_us is not None else "none yet"
        reads = [_named(each) for each in readers if each["stream"] == state.name]
        known = "" if reads else " when it was last read"
        say(f"stream      {state.name}: lag {state.lag:,}{known}, watermark {until}")
        say(f"            read by {' and '.join(reads) or f'nobody now; next: {_command(workspace, state.name)}'}")
        say(f"            waits for {closing.waits_for}")
        idle_us = workspace.settings.stream.idle_us
        rows = [
            [
                name,
                each.position,
                each.lag,
                f"{from_us(each.watermark_us):%Y-%m-%d %H:%M:%S}" if each.watermark_us is not None else None,
                f"{from_us(each.active_us):%Y-%m-%d %H:%M:%S}",
                each.is_idle(to_us(now), idle_us),
            ]
            for name, each in state.partitions.items()
        ]
        show_table("", ["partition", "next offset", "lag", "watermark", "last written", "idle"], rows, part="streams")


def _command(workspace: Workspace, name: str) -> str:
    """What reads a stream on."""
    if workspace.settings.stream.source:
        return "imsr stream"
    kind, _, place = name.partition(":")
    if kind == "folder":
        return f"imsr stream --from {shlex.quote(f'folder:{workspace.root / place}')}"
    return f"imsr stream --from kafka://HOST:PORT/{place}"


def who_learns(workspace: Workspace, runs: Sequence[PlannedRun], now: datetime) -> str:
    """Who learns what is due, and when; or the command that does. A failed span waits for somebody to look at it."""
    with workspace.ledger.snapshot() as view:
        states = {span.span_id: span.state for span in view.spans()}
        lease = view.lease() if is_held(view) else None
        learning = [each for each in consumers(view) if each["learns"]]
        closing = (
            closing_of(view, workspace.settings, stream_state(view, learning[0]["stream"]), now) if learning else None
        )
    at_it = lease.holder if lease is not None else None
    if at_it is not None and (at_it["command"] in _LEARNERS or str(at_it.get("doing", "")).startswith("span ")):
        return f"{at_it['command']}, {_named(at_it)}, is at it"
    if closing is None or any(states[span_id] is SpanState.FAILED for run in runs for span_id in run.spans):
        return "next: imsr run"
    if closing.opened:
        return f"the stream, {_named(learning[0])}, learns {closing.runs[0].span_id} next"
    return f"the stream, {_named(learning[0])}, learns when it has {closing.waits_for}"


def _named(process: Mapping[str, Any]) -> str:
    quiet = "" if process.get("learns", True) else " (--no-learn)"
    return f"process {process['pid']} on {process['host']}{quiet}"
