"""Random draws of the `interests` line: one seed in, a generator of its own for every span and purpose out."""

from __future__ import annotations

from enum import IntEnum

import torch


class Purpose(IntEnum):
    """What is drawn. The numbers are part of what a seed gives: none ever changes, a new purpose takes a new one."""

    EXTRACTOR = 0
    ITEM_ROWS = 1
    INTERESTS = 2
    TRAINING = 3
    TREND_SAMPLE = 4
    EXEMPLAR_START = 5
    EXEMPLAR_CHOICE = 6
    TRANSFER = 7
    TEACHING = 8


def seeded(seed: int, span: int, purpose: Purpose) -> torch.Generator:
    """A generator that depends on nothing but the seed, the span's ordinal and what it is for."""
    return torch.Generator().manual_seed((seed * 1_000_003 + span) * 31 + purpose)
