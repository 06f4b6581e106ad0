"""Whether the counts of a version's score are all that users had: then no file of an earlier span is opened."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imsr_core.score import Score
from pipelines.interests.version import Version


def counts_are_all(version: Version, score: Score | None, users: NDArray[np.int64]) -> bool:
    """Whether ``score``, the version's, has all that ``users`` (B,) had in the spans that the version knows.

    It has not under the paper's protocol, which keeps events back, and not of who had as many things as are kept.
    """
    if score is None or version.lineage.protocol == "holdout":
        return False
    _, count = score.personal.pairs.spans_of(users)
    return not score.personal.limit or int(count.max(initial=0)) < score.personal.limit
