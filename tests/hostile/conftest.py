"""A workspace with a day that is due, to be damaged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_world import day_of_events, land

from pipelines.workspace.layout import Workspace


@pytest.fixture(autouse=True)
def _quick(without_beam: None) -> None:
    """Nothing here is about Beam."""


@pytest.fixture
def due(learnt: Workspace, copy_of: Callable[..., Workspace]) -> Workspace:
    """Six days learnt, the seventh in the lake."""
    workspace = copy_of(learnt)
    land(workspace, day_of_events(6), "seventh.csv")
    return workspace
