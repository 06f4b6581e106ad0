"""A world of many items in which a night touches few: three nights, each written as changes of the one before.

The base day has everybody and all items; each later day three users with a few events each.
"""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

from small_world import DAYS, START, Event, make, run_all

from pipelines.workspace.layout import Workspace

USERS, ITEMS = 30, 500
TOML = """
[spans]
unit = "day"
pretrain = 1
[ingest]
buckets = 2
[model]
dim = 8
initial_interests = 2
max_interests = 4
history = 10
[training]
seed = 3
base_epochs = 1
epochs = 1
negatives = 5
[score]
enabled = true
[gate]
holdout = 0.1
min_events = 1000
"""
NIGHTS = [f"{day}.1" for day in DAYS[:4]]


def wide_log(days: int = 4) -> list[Event]:
    """The base day and the nights after it."""
    chance = random.Random(1)
    events = [(f"u{user}", f"i{item}", START) for item in range(ITEMS) for user in (item % USERS, item * 7 % USERS)]
    events = [(user, item, at + timedelta(seconds=chance.randrange(86_400))) for user, item, at in events]
    for day in range(1, days):
        for user in range(day, day + 3):
            for _ in range(4):
                at = START + timedelta(days=day, seconds=chance.randrange(86_400))
                events.append((f"u{user}", f"i{chance.randrange(ITEMS)}", at))
    return [(user, item, at.isoformat()) for user, item, at in events]


def wide(root: Path, *, learn: bool = True) -> Workspace:
    """The world at ``root``, learnt unless one wants it not to be."""
    workspace = make(root, wide_log(), TOML)
    if learn:
        run_all(workspace)
    return workspace
