"""What a command is said to hold is its own."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from command_costs import cost_of


def test_a_command_is_not_said_to_hold_what_held_the_one_that_began_it():
    held = np.ones(40_000_000)  # 320 MB
    seconds, peak = cost_of([sys.executable, "-c", "print(sum(range(1_000_000)))"], os.environ)
    assert seconds > 0
    assert 1_000_000 < peak < held.nbytes / 2


def test_a_command_that_fails_is_not_measured():
    with pytest.raises(SystemExit, match="-c raise SystemExit\\(3\\): exit code 3"):
        cost_of([sys.executable, "-c", "raise SystemExit(3)"], os.environ)
