"""The model that a span begins with is read once: its test and its training mostly ask for the same users. So is the
one that it ends with: by the gate, and the sample of spans is ranked with what that has read.

A span of few events is little but reading: row groups of interests, a chain of checkpoints with the rows that changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imsr_core.state import ModelState
from pipelines.interests.version import Version

Users = NDArray[np.int64]
#: Reads the model of a version with the interests of some users (sorted).
Read = Callable[[Version, Users], ModelState]


def read_to_train(version: Version, users: Users) -> ModelState:
    """The model with all that training goes on from, for whoever may change it."""
    return version.load(users, optimizer=True)


def read_to_try(version: Version, users: Users) -> ModelState:
    """The model as a reader has it, but for what earlier versions know of what goes with what."""
    return version.load(users, own=True)


@dataclass
class Tried:
    """A model that was tried out is kept for whoever needs its item vectors next."""

    _kept: tuple[str, ModelState] | None = None

    def look(self, version: Version, users: Users) -> ModelState:
        """What `read_to_try` reads, to be left as it is."""
        state = read_to_try(version, users)
        self._kept = (version.row.version_id, state)
        return state

    def take(self, version_id: str) -> ModelState | None:
        """The model of a version, with the interests of some users, if it was looked at last."""
        kept, self._kept = self._kept, None
        return kept[1] if kept is not None and kept[0] == version_id else None


@dataclass
class ReadOnce:
    """A model that was looked at is kept until it is taken; one at most."""

    _kept: tuple[str, Users, ModelState] | None = None

    def look(self, version: Version, users: Users) -> ModelState:
        """What `read_to_train` reads, to be left as it is."""
        self._kept = None
        state = read_to_train(version, users)
        self._kept = (version.row.version_id, users, state)
        return state

    def take(self, version: Version, users: Users) -> ModelState:
        """What `read_to_train` reads, which was read already if it was looked at for the same users."""
        kept, self._kept = self._kept, None
        if kept is not None and kept[0] == version.row.version_id and np.array_equal(kept[1], users):
            return kept[2]
        del kept  # nobody needs two of them at a time
        return read_to_train(version, users)
