"""What to say before a large pre-training: a new workspace starts with vectors as wide as lists gain by."""

from __future__ import annotations

from collections.abc import Sequence

from imsr_core.config import ModelConfig
from pipelines.nights.pace import Pace
from pipelines.nights.plan import PlannedRun
from pipelines.workspace.layout import Workspace

#: Events from which on a pre-training is large.
LARGE = 1_000_000
#: What is light: the default where imsr.toml does not say.
LIGHT = ModelConfig()


def said_of_a_large_base(workspace: Workspace, runs: Sequence[PlannedRun]) -> list[str]:
    """One sentence if the first of ``runs`` pre-trains on very many events with wide vectors, else none."""
    if not runs or not runs[0].base:
        return []
    model, events = workspace.settings.model, Pace.of(workspace, runs[:1]).events[runs[0].span_id]
    times = model.members * model.dim / (LIGHT.members * LIGHT.dim)
    if events < LARGE or times <= 1:
        return []
    return [
        f"{events:,} events to pre-train on, with [model] members = {model.members} and dim = {model.dim}: interests "
        f"and item vectors take {times:.3g} times the room of members = {LIGHT.members} and dim = {LIGHT.dim}, whose "
        "lists are slightly worse, and which take much less time and memory; neither can be changed afterwards "
        "without learning everything anew"
    ]
