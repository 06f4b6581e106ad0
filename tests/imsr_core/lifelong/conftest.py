"""The planted world and versions trained on it once; no test writes to a version."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from planted_users import planted_sequences, planted_task, small_config

from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.state import LifelongState
from imsr_core.ragged import SpanSequences

TASKS = ("genre", "shop", "half")


@cache
def chain(method: str, encoder: str, tasks: tuple[str, ...]) -> LifelongState:
    """The version after T1 and these tasks."""
    if not tasks:
        return get_method(method).pretrain(planted_sequences(), small_config(encoder), seed=1)
    parent = chain(method, encoder, tasks[:-1])
    task = planted_task(tasks[-1], planted_sequences())
    return get_method(method).add_task(parent, task, small_config(encoder), seed=1)


def chain_of(method: str, tasks: tuple[str, ...] = TASKS, encoder: str = "nextitnet") -> list[LifelongState]:
    """All versions on the way, T1's first."""
    return [chain(method, encoder, tasks[:count]) for count in range(len(tasks) + 1)]


@pytest.fixture(scope="session")
def sequences() -> SpanSequences:
    return planted_sequences()


@pytest.fixture(scope="session")
def probe() -> SpanSequences:
    """Other users, to compare predictions on."""
    return planted_sequences(40, seed=9)


@pytest.fixture(scope="session")
def versions():  # type: ignore[no-untyped-def]
    """``chain_of``: method, tasks, encoder -> the versions on the way; trained once and shared by all tests."""
    torch.set_num_threads(1)
    return chain_of
