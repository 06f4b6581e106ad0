"""Tiny logs with planted interests, tiny configurations, and states taken apart for comparison.

Items come in clusters of eight: item i belongs to cluster i // 8. A user likes some clusters and nothing else.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imsr_core.config import DetectorConfig, InterestsConfig, ModelConfig, TrainingConfig
from imsr_core.interests import InterestStore
from imsr_core.ragged import SpanSequences, from_events
from imsr_core.state import ModelState

CLUSTER = 8
EXTRACTORS = ("comirec-dr", "comirec-sa", "mind")
#: Strategies that learn a span from the state before it and the span alone.
INCREMENTAL = ("imsr", "fine_tune", "ader", "sml")


def tiny_config(extractor: str = "comirec-dr", **changes: dict[str, Any]) -> InterestsConfig:
    """d = 8, K_0 = 2, a few steps; ``changes`` maps a section to the keys that differ."""
    config = InterestsConfig(
        model=ModelConfig(extractor=extractor, dim=8, initial_interests=2, max_interests=8, history=6),
        detector=DetectorConfig(min_items=1),
        training=TrainingConfig(batch_size=32, base_epochs=2, epochs=2, negatives=10, patience=0, targets_per_user=0),
    )
    parts = {name: replace(getattr(config, name), **keys) for name, keys in changes.items()}
    return replace(config, **parts)


def span_of(sequences: dict[int, list[int]], start: int = 0) -> SpanSequences:
    """Sequences from {user: items in the order of time}; a user may have none."""
    users = np.array(sorted(sequences), dtype=np.int64)
    counts = [len(sequences[u]) for u in users.tolist()]
    items = np.array([i for u in users.tolist() for i in sequences[u]], dtype=np.int64)
    offsets = np.array([0, *np.cumsum(counts)], dtype=np.int64)
    times = np.array([start + t for n in counts for t in range(n)], dtype=np.int64)
    return SpanSequences(users, offsets, items, times).validate()


def planted_span(likes: dict[int, list[int]], events: int, seed: int) -> SpanSequences:
    """``events`` random items of each user's clusters, all clusters in turn and mixed."""
    rng = np.random.default_rng(seed)
    users, items = [], []
    for user, clusters in likes.items():
        drawn = np.resize(clusters, events) * CLUSTER + rng.integers(0, CLUSTER, events)
        users += [user] * events
        items += rng.permutation(drawn).tolist()
    times = np.arange(len(items), dtype=np.int64)
    return from_events(np.array(users, dtype=np.int64), np.array(items, dtype=np.int64), times)


def random_span(seed: int, users: range, items: int, most: int = 12) -> SpanSequences:
    """1 .. ``most`` uniform events for a random two thirds of ``users``."""
    rng = np.random.default_rng(seed)
    chosen = [u for u in users if rng.random() < 2 / 3] or [users[0]]
    return span_of({u: rng.integers(0, items, rng.integers(1, most + 1)).tolist() for u in chosen})


def store_of(vectors: dict[int, list[list[float]]], query_units: int = 0, born: int = 0) -> InterestStore:
    """A store with these interests for each user, in ascending order of users."""
    store = InterestStore.empty(len(next(iter(vectors.values()))[0]), query_units)
    for user, rows in sorted(vectors.items()):
        own = InterestStore.random(
            torch.tensor([user]),
            len(rows),
            store.dim,
            scale=1.0,
            born=born,
            generator=torch.Generator().manual_seed(user),
            query_units=query_units,
        )
        store = store.union(own.replaced(vectors=torch.tensor(rows, dtype=torch.float32)))
    return store


def tensors_of_store(store: InterestStore) -> dict[str, Tensor]:
    """Every tensor of a store by name."""
    return {f"store.{f.name}": getattr(store, f.name) for f in fields(store)}


def tensors_of(state: ModelState) -> dict[str, Tensor]:
    """Everything in a state that a span can change, by name."""
    named = {f"items.{name}": tensor for name, tensor in state.items.tensors().items()}
    named |= {f"extractor.{name}": tensor for name, tensor in state.extractor.state_dict().items()}
    for name, parts in state.extractor_optimizer.items():
        named |= {f"adam.{name}.{i}": part for i, part in enumerate(parts)}
    named |= {f"trend.{name}": tensor for name, tensor in state.trend.tensors().items()}
    named |= {f"memory.{name}": tensor for name, tensor in (state.memory | state.user_memory).items()}
    return named | tensors_of_store(state.store) | {"spans": torch.tensor(state.spans)}


def copy_of(state: ModelState) -> dict[str, Tensor]:
    """`tensors_of`, sharing no memory with the state."""
    return {name: tensor.detach().clone() for name, tensor in tensors_of(state).items()}


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    """The same tensors, bit for bit."""
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert not different
