"""What this machine can do, measured beside everything else: a ratio to it survives a move to another one."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Machine:
    """Float32 matrix products in GFLOP/s and copying in GB/s (read and written), of one thread, by its own clock."""

    gflops: float
    gigabytes: float


def measured(seconds: float = 1.0) -> Machine:
    """Products of 1024 x 1024 matrices, and copies of 128 MB, for so long each."""
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    source, target = torch.ones(32_000_000), torch.empty(32_000_000)
    products = rate(lambda: torch.mm(left, right), seconds) * 2 * 1024**3
    copies = rate(lambda: target.copy_(source), seconds) * 2 * 4 * len(source)
    return Machine(products / 1e9, copies / 1e9)


def rate(work, seconds: float, at_least: int = 2) -> float:
    """How often a second of processor the work is done, after it was done once."""
    work()
    done, start = 0, time.process_time()
    while (spent := time.process_time() - start) < seconds or done < at_least:
        work()
        done += 1
    return done / spent
