"""What a span adds to the term `neighbours`: its contexts, and how much each item counts with others in all.

A user's contexts depend on nobody else's, so that they are made a piece of the span at a time, and other hands may make
them by buckets of users (`imsr_core.hands`): the same rows, and the same sums, which are of whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import torch

from imsr_core.hands import Tensors, buckets_of, hands_for, sequences_of, tensors_of
from imsr_core.ragged import SpanSequences, pieces_of, restrict_users
from imsr_core.score.contexts import KINDS, PARTS, Contexts
from imsr_core.score.pairs import FloatArray, Pairs

#: Events of a span that are looked at together, or those of one user.
EVENTS = 250_000


def counted(tail: SpanSequences, had: Pairs, span: SpanSequences, n_items: int) -> tuple[Contexts, FloatArray]:
    """The contexts of a span (see `Contexts.of`) and the sum of all counts of each item by kind, its degree (N, 2)."""
    hands = hands_for(len(span))
    if hands is None:
        pieces = pieces_of(span, EVENTS)
        contexts = Contexts.together([Contexts.of(tail, _of_users(had, part), part) for part in pieces])
        return contexts, contexts.degree(n_items)

    def buckets() -> Iterator[Tensors]:
        for part in buckets_of(span, hands.bucket_users):
            known = _of_users(had, part)
            pairs = {f"had.{f.name}": torch.from_numpy(getattr(known, f.name)) for f in fields(Pairs)}
            own = tensors_of(part, "span.") | tensors_of(restrict_users(tail, part.users), "tail.")
            yield own | pairs | {"n_items": torch.tensor(n_items)}

    votes = np.zeros((n_items, len(KINDS)))
    parts: list[Contexts] = []
    for found in hands(count_bucket, {}, buckets(), "{}"):
        votes[found["counted"].numpy()] += found["votes"].numpy()
        parts.append(Contexts(*(found[f.name].numpy() for f in fields(Contexts))))
    return Contexts.together(parts), votes / PARTS


def count_bucket(shared: Tensors, bucket: Tensors, how: str) -> Tensors:
    """The contexts of a bucket's users, the items ``counted`` in them, and the `Contexts.votes` of those."""
    had = Pairs(*(bucket[f"had.{f.name}"].numpy() for f in fields(Pairs)))
    contexts = Contexts.of(sequences_of(bucket, "tail."), had, sequences_of(bucket, "span."))
    votes = contexts.votes(int(bucket["n_items"]))
    items = np.flatnonzero(votes.any(1))
    found = {f.name: torch.from_numpy(np.ascontiguousarray(getattr(contexts, f.name))) for f in fields(Contexts)}
    return found | {"counted": torch.from_numpy(items), "votes": torch.from_numpy(votes[items])}


def _of_users(had: Pairs, span: SpanSequences) -> Pairs:
    """What the users of a span had."""
    return had.take(had.rows_of(span.users)[1])
