"""The list of somebody whom a version does not know: the most popular items of the last span that it has learnt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.interests.version import Version
from pipelines.sequences.loader import load_sequences


def most_popular(version: Version, n: int, n_items: int, allowed: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """At most ``n`` of the first ``n_items`` items by their events in the version's last span, the most popular first.

    ``allowed`` (N,) are the items that may be shown; items without an event are not.
    """
    newest = load_sequences(version.workspace.resolve(version.lineage.vocabulary[-1]))
    counts = np.bincount(newest.items, minlength=n_items)[:n_items]
    if allowed is not None:
        counts = counts * allowed
    best = np.argsort(-counts, kind="stable")[: min(n, int((counts > 0).sum()))]
    return best.astype(np.int64)
