"""What a span adds to the term `neighbours`: its contexts, and how much each item counts with others in all.

A user's contexts depend on nobody else's, so that other hands may make them by buckets of users (`imsr_core.hands`):
the same rows, and sums of the same numbers, which agree within rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import torch

from imsr_core.hands import Tensors, buckets_of, hands_for, sequences_of, tensors_of
from imsr_core.ragged import SpanSequences, restrict_users
from imsr_core.score.contexts import KINDS, Contexts
from imsr_core.score.pairs import FloatArray, Pairs


def counted(tail: SpanSequences, had: Pairs, span: SpanSequences, n_items: int) -> tuple[Contexts, FloatArray]:
    """The contexts of a span (see `Contexts.of`) and their degree (N, 2)."""
    hands = hands_for(len(span))
    if hands is None:
        contexts = Contexts.of(tail, had, span)
        return contexts, contexts.degree(n_items)

    def buckets() -> Iterator[Tensors]:
        for part in buckets_of(span, hands.bucket_users):
            known = had.take(had.rows_of(part.users)[1])
            pairs = {f"had.{f.name}": torch.from_numpy(getattr(known, f.name)) for f in fields(Pairs)}
            own = tensors_of(part, "span.") | tensors_of(restrict_users(tail, part.users), "tail.")
            yield own | pairs | {"n_items": torch.tensor(n_items)}

    degree = np.zeros((n_items, len(KINDS)))
    parts: list[Contexts] = []
    for found in hands(count_bucket, {}, buckets(), "{}"):
        degree[found["counted"].numpy()] += found["degree"].numpy()
        parts.append(Contexts(*(found[f.name].numpy() for f in fields(Contexts))))
    return _together(parts), degree


def count_bucket(shared: Tensors, bucket: Tensors, how: str) -> Tensors:
    """The contexts of a bucket's users, the items ``counted`` in them, and the degree of those."""
    had = Pairs(*(bucket[f"had.{f.name}"].numpy() for f in fields(Pairs)))
    contexts = Contexts.of(sequences_of(bucket, "tail."), had, sequences_of(bucket, "span."))
    degree = contexts.degree(int(bucket["n_items"]))
    items = np.flatnonzero(degree.any(1))
    found = {f.name: torch.from_numpy(np.ascontiguousarray(getattr(contexts, f.name))) for f in fields(Contexts)}
    return found | {"counted": torch.from_numpy(items), "degree": torch.from_numpy(degree[items])}


def _together(parts: list[Contexts]) -> Contexts:
    """The contexts of several buckets, rows of a kind together."""
    columns = [np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Contexts)]
    order = np.argsort(columns[0], kind="stable")
    return Contexts(*(column[order] for column in columns))
