"""One seed in, an independent seed for every (task, phase) out."""

from __future__ import annotations

import hashlib


def phase_seed(seed: int, task: str, phase: str) -> int:
    """A seed in [0, 2^63) that depends on nothing but its arguments: not on the order of tasks."""
    digest = hashlib.sha256(f"{seed}\x1f{task}\x1f{phase}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
