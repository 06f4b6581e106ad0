"""What users had: from the counts of a version's score, where these are all of it, else from the spans' sequences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imsr_core.ragged import SpanSequences
from imsr_core.score import Score
from imsr_core.sorted_keys import unique
from pipelines.interests.version import Version
from pipelines.lake.schemas import bucket_name, bucket_of
from pipelines.sequences.loader import load_history

IntArray = NDArray[np.int64]


def counts_are_all(version: Version, score: Score | None, users: IntArray) -> NDArray[np.bool_]:
    """(B,) whether ``score``, the version's, has all that each of ``users`` (B,) had in the spans that it knows.

    It has not under the paper's protocol, which keeps events back, and not of who had as many things as are kept.
    """
    if score is None or version.lineage.protocol == "holdout":
        return np.zeros(len(users), dtype=bool)
    _, count = score.personal.pairs.spans_of(users)
    return count < (score.personal.limit or np.inf)


def had_before(version: Version, score: Score | None, users: IntArray) -> tuple[IntArray, IntArray]:
    """(position in ``users``, item), each once, of what ``users`` (B,) had in any span that the version knows; -1 is
    nobody."""
    counted = counts_are_all(version, score, users)
    rest, parts = np.flatnonzero(~counted & (users >= 0)), [np.zeros((0, 2), dtype=np.int64)]
    if score is not None:
        slot, rows = score.personal.pairs.rows_of(users[counted])
        parts.append(np.stack([np.flatnonzero(counted)[slot], score.personal.pairs.other[rows]], 1))
    if len(rest):
        history = _history(version, users[rest])
        order = rest[np.argsort(users[rest], kind="stable")]
        slot = np.searchsorted(users[order], history.users)
        parts.append(np.unique(np.stack([order[slot][history.rows], history.items], 1), axis=0))
    pairs = np.concatenate(parts)
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def _history(version: Version, users: IntArray) -> SpanSequences:
    """What ``users`` did in all spans that the version knows, from the files that can have them."""
    workspace = version.workspace
    with workspace.ledger.snapshot() as view:
        buckets = int(view.meta("buckets") or 0)
    ids = version.vocabulary.user_ids(users).to_pylist()
    files = {bucket_name(bucket_of(user_id, buckets)) for user_id in ids} if buckets else None
    folders = [workspace.resolve(path) for path in version.lineage.vocabulary]
    return load_history(folders, users=unique(users), files=files)
