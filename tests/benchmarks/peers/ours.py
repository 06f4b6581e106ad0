"""imsr's own training and lists, by the calls that a night makes."""

from __future__ import annotations

import time
from contextlib import suppress

import torch
from peers.problem import Problem

from imsr_core.config import InterestsConfig, ModelConfig, TrainingConfig
from imsr_core.interests import InterestStore
from imsr_core.retrieval import top_items
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named

#: Steps that nobody counts: the first ones warm up.
WARM = 3
EXTRACTORS = {"ComiRec-DR": "comirec-dr", "ComiRec-SA": "comirec-sa", "MIND": "mind"}


class EnoughSteps(Exception):
    """Ends a training whose rate is known."""


def samples_per_second(extractor: str, problem: Problem, seconds: float, strategy: str = "imsr") -> float:
    """Targets that a second of processor trains, batches made and rows stepped; nothing before the first step counts.

    Pre-training: every user is new, and nothing is distilled. Negatives are shared by a batch, as many as there are
    elsewhere in all."""
    model = ModelConfig(
        extractor=extractor, dim=problem.dim, initial_interests=problem.interests, history=problem.history
    )
    training = TrainingConfig(
        batch_size=problem.batch, negatives=problem.batch * problem.negatives, base_epochs=1000, patience=0, window=1
    )
    state = ModelState.initial(InterestsConfig(model=model, training=training))
    marks: list[float] = []

    def tick(done: int, total: int, loss: float) -> None:
        marks.append(time.process_time())
        if len(marks) > WARM + 2 and marks[-1] - marks[WARM] > seconds:
            raise EnoughSteps

    with suppress(EnoughSteps):
        strategy_named(strategy)(state, problem.sequences(), problem.items, progress=tick)
    steps = len(marks) - 1 - WARM
    return steps * problem.batch / (marks[-1] - marks[WARM])


def interests_and_items(users: int, items: int, dim: int, interests: int) -> tuple[InterestStore, torch.Tensor]:
    """Random directions: who is asked about, and the catalogue."""
    generator = torch.Generator().manual_seed(0)
    store = InterestStore.random(
        torch.arange(users), interests, dim, scale=1.0, born=0, generator=generator, query_units=0
    )
    return store, torch.nn.functional.normalize(torch.randn(items, dim, generator=generator), dim=-1)


def lists(store: InterestStore, items: torch.Tensor, n: int) -> torch.Tensor:
    """The n best items (B, n) of everybody, by the nearest of their interests."""
    return top_items(store, store.users, items, n).items
