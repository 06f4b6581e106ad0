"""A small world in which labels are functions of the items, and a configuration that learns it in seconds.

Items 0 .. 47 lie in 4 genres of 12. A user stays in a favourite genre and mostly steps to the next item of it, so the
next item, the genre, the place within the genre and a preference for another domain's items can all be learnt.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from imsr_core.encoders.config import EncoderConfig
from imsr_core.lifelong.config import LifelongConfig, ObjectiveConfig, PhaseConfig, SplitConfig
from imsr_core.lifelong.tasks import TaskData
from imsr_core.ragged import SpanSequences

N_ITEMS, N_GENRES, N_USERS, LENGTH = 48, 4, 400, 12
GENRE_SIZE = N_ITEMS // N_GENRES
BATCH = 64


def sequences_of(lists: list[list[int]], first_user: int = 0) -> SpanSequences:
    """Ragged sequences of these item lists, for users first_user, first_user + 1, ..."""
    items = np.array([item for row in lists for item in row], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    users = np.arange(first_user, first_user + len(lists), dtype=np.int64)
    return SpanSequences(users, offsets, items, np.arange(len(items), dtype=np.int64))


def planted_sequences(n_users: int = N_USERS, seed: int = 0) -> SpanSequences:
    """Users with 3 to 16 items; 85 % of the steps go to the genre's next item, the others anywhere in it."""
    rng = np.random.default_rng(seed)
    lists = []
    for genre in rng.integers(0, N_GENRES, n_users):
        place, row = int(rng.integers(GENRE_SIZE)), []
        for _ in range(int(rng.integers(3, 17))):
            row.append(int(genre) * GENRE_SIZE + place)
            place = (place + 1) % GENRE_SIZE if rng.random() < 0.85 else int(rng.integers(GENRE_SIZE))
        lists.append(row)
    return sequences_of(lists)


def last_items(sequences: SpanSequences) -> np.ndarray:
    """(U,) each user's most recent item."""
    return sequences.items[sequences.offsets[1:] - 1]


def planted_task(name: str, sequences: SpanSequences, seed: int = 0) -> TaskData:
    """One of: genre (4 classes), third (3 classes), half (2 classes), shop (24 items of another domain), junk.

    Only some users carry a label; ``junk`` is 5 classes at random.
    """
    rng = np.random.default_rng([seed, len(name), *name.encode()])
    labelled = np.flatnonzero(rng.random(len(sequences)) < 0.9)
    last = last_items(sequences)[labelled]
    place = last % GENRE_SIZE
    labels, n_labels = {
        "genre": (last // GENRE_SIZE, N_GENRES),
        "third": (place // 4, 3),
        "half": (place % 2, 2),
        "shop": (last // 2, N_ITEMS // 2),
        "junk": (rng.integers(0, 5, len(last)), 5),
    }[name]
    kind: Literal["items", "classes"] = "items" if name == "shop" else "classes"
    return TaskData(name, sequences, sequences.users[labelled], labels.astype(np.int64), n_labels, kind)


def small_config(encoder: str = "nextitnet", **changes: Any) -> LifelongConfig:
    """d = 16, two blocks, no wide part, about a second a task."""
    phase = PhaseConfig(12, min_epochs=8, patience=4, patience_steps=1, batch_size=BATCH, learning_rate=0.01)
    config = LifelongConfig(
        encoder=EncoderConfig(name=encoder, dim=16, length=LENGTH, dilations=(1, 2), dropout=0.0),
        pretrain=dataclasses.replace(phase, epochs=15),
        task=phase,
        retrain=phase,
        objective=ObjectiveConfig(unknown_rate=0.02, pooling="last", wide=0),
        split=SplitConfig(train=0.7, validation=0.15),
    )
    return dataclasses.replace(config, **changes)
