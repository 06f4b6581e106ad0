"""The model that a span begins with is read once: its test and its training mostly ask for the same users.

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
