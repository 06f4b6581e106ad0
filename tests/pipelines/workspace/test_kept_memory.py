"""Training does not give memory back that the next step takes again: page faults are counted, in a process each."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from pipelines.workspace.memory import SET_BY_HAND

#: Takes and gives back what a training step takes, and prints how many pages it had to ask for.
SCRIPT = """
import resource, sys
import torch
from pipelines.workspace.memory import keep_memory, release_memory

def step():
    parts = [torch.ones(200_000 * (1 + n % 4)) for n in range(30)]
    return sum(float(part[0]) for part in parts)

kept = keep_memory() if sys.argv[1] == "keep" else None
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(30):
    step()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, open("/proc/self/statm").read().split()[1])
release_memory()
print(open("/proc/self/statm").read().split()[1])
"""


def steps(what: str, **variables: str) -> tuple[str, int, int, int]:
    """What `keep_memory` said, page faults of thirty steps, pages in memory before and after `release_memory`."""
    own = {name: value for name, value in os.environ.items() if name not in SET_BY_HAND}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, what], env={**own, **variables}, capture_output=True, text=True, check=True
    )
    said, faults, before, after = run.stdout.split()
    return said, int(faults), int(before), int(after)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own thresholds")
def test_what_a_step_frees_is_there_for_the_next_one_and_goes_when_it_is_told_to():
    said, faults, before, after = steps("keep")
    _, usual, *_ = steps("give back")
    assert said == "True"
    assert 4 * faults < usual
    assert before - after > 5_000  # pages of 4 kB, of the 60 MB of a step


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own thresholds")
def test_what_somebody_set_holds():
    assert steps("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"
