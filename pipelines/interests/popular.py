"""The list of somebody whom a version does not know: what is in fashion, as far as that said what people took.

A score that was asked about a span weighs the trend for that (`imsr_core.score.strangers`). Where there is none, or it
was not asked yet, it is the most popular items of the last span that the version has learnt.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from imsr_core.score import Score
from imsr_core.score.strangers import best_alone
from pipelines.interests.version import Version
from pipelines.sequences.loader import load_sequences


def most_popular(
    version: Version, score: Score | None, n: int, n_items: int, allowed: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """At most ``n`` of the first ``n_items`` items, the best for a stranger first; ``score`` is the version's.

    ``allowed`` (N,) are the items that may be shown; items without an event are not.
    """
    if score is not None and score.strangers:
        best = best_alone(score.strangers, score.trend, None if allowed is None else torch.from_numpy(allowed))
        return best[best < n_items][:n].numpy()
    newest = load_sequences(version.workspace.resolve(version.lineage.vocabulary[-1]))
    counts = np.bincount(newest.items, minlength=n_items)[:n_items]
    if allowed is not None:
        counts = counts * allowed
    best_of_span = np.argsort(-counts, kind="stable")[: min(n, int((counts > 0).sum()))]
    return best_of_span.astype(np.int64)
