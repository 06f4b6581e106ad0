"""A workspace with a day that is due, to be damaged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_world import day_of_events, land

from pipelines import beam_sequences
from pipelines.bucket_sequences import build_bucket
from pipelines.workspace import Workspace


@pytest.fixture(autouse=True)
def without_beam(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets are built in this process: starting Beam takes longer than everything else."""
    monkeypatch.setattr(beam_sequences, "run_bucket_tasks", lambda tasks, options: [build_bucket(t) for t in tasks])


@pytest.fixture
def due(learnt: Workspace, copy_of: Callable[..., Workspace]) -> Workspace:
    """Six days learnt, the seventh in the lake."""
    workspace = copy_of(learnt)
    land(workspace, day_of_events(6), "seventh.csv")
    return workspace
