"""How far each stream is: a part of `imsr status`."""

from __future__ import annotations

from flows.commands.options import current_time
from flows.console import console, show_table
from pipelines.lake.spans import from_us, to_us
from pipelines.stream.closing import closing_of
from pipelines.stream.watermark import stream_states
from pipelines.workspace.layout import Workspace


def show_streams(workspace: Workspace) -> None:
    """How far each stream is, by the ledger: lag, watermark, and what the next span waits for."""
    now = current_time()
    with workspace.ledger.snapshot() as view:
        states = list(stream_states(view).values())
        closings = [closing_of(view, workspace.settings, state, now) for state in states]
    for state, closing in zip(states, closings, strict=True):
        until = f"{from_us(closing.watermark_us):%Y-%m-%d %H:%M:%S}" if closing.watermark_us is not None else "none yet"
        console.print(f"stream      {state.name}: lag {state.lag:,}, watermark {until}", markup=False)
        console.print(f"            waits for {closing.waits_for}", markup=False)
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
