"""The small world with enough hidden events for the gate to tell good from bad, and strategies that go wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from small_world import NOW, TOML, Event, day_of_events, make

from flows.holding import holding
from imsr_core.strategies import SpanUpdate, strategy_named
from pipelines.interests import training
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import Writer

GATED = TOML.replace("base_epochs = 2", "base_epochs = 8").replace("targets_per_user = 5", "targets_per_user = 0")
GATED += "[gate]\nholdout = 0.4\nmin_events = 10\n"


def busy_log(days: range) -> list[Event]:
    """Like `small_world.log`, with three times the events."""
    return [event for day in days for event in day_of_events(day, per_user=21)]


def gated(root: Path, days: range, extra: str = "") -> Workspace:
    """A workspace with these days in the lake and a gate that sees something; ``extra`` is more TOML."""
    return make(root, busy_log(days), GATED + extra)


def held(workspace: Workspace, action: Callable[[Writer], Any], *, now: datetime = NOW) -> Any:
    """Do something with the right to write, and show it in the views, as a command would."""
    with holding(workspace, "test", now=now) as writer:
        return action(writer)


def spoil(update: SpanUpdate) -> SpanUpdate:
    """The update with item vectors that belong to other items."""
    state = update.state.clone()
    order = torch.randperm(state.n_items, generator=torch.Generator().manual_seed(1))
    state.items.weight = state.items.weight[order]
    return replace(update, state=state)


def spoil_span(monkeypatch: Any, ordinal: int) -> None:
    """From now on the span of this ordinal (0 = the base) comes out spoilt."""

    def strategy(state: Any, *arguments: Any, **options: Any) -> SpanUpdate:
        update = strategy_named("imsr")(state, *arguments, **options)
        return spoil(update) if state.spans == ordinal else update

    monkeypatch.setattr(training, "strategy_named", lambda name: strategy)
