"""Write H^t: one pass without gradient over a span, after it was learnt (paper, algorithm 2, last lines)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from imsr_core.batches import recent_items
from imsr_core.errors import NonFiniteError
from imsr_core.interests import InterestStore
from imsr_core.ragged import SpanSequences
from imsr_core.state import ModelState
from imsr_core.trainer import WorkingInterests
from imsr_core.trimmer import orthogonal_part, orthonormal_basis, survives

CHUNK = 1024


@torch.no_grad()
def extract_interests(
    state: ModelState,
    sequences: SpanSequences,
    working: WorkingInterests,
    queries: Tensor,
    only: Tensor | None = None,
    *,
    in_place: bool = False,
) -> tuple[Tensor, Tensor]:
    """The interests (R, d) of the span's users after the span, row for row of the working store, and their support
    (R,): how many of the items that were read are nearest to each, of those that survive the trimmer.

    ``queries`` (R, q) are the trained ones. Reads the ``history`` most recent items of each user. Proposed interests
    come out orthogonal to the *new* values of the user's other interests if the trimmer is on. With ``only``, users in
    ascending order, it is their rows alone, with the same bits; ``in_place`` puts the result where the working store's
    vectors were. Raises `NonFiniteError` if the trained model reads NaN.
    """
    vectors = state.item_vectors()
    c2 = state.config.trimmer.c2 if state.config.trimmer.enabled else 0.0
    result, place = _room(working.store, only, in_place)
    support = torch.zeros(len(working.store), dtype=torch.int64)
    for first in range(0, len(sequences), CHUNK):
        last = min(first + CHUNK, len(sequences))
        if only is not None and not np.isin(sequences.users[first:last], only.numpy()).any():
            continue
        items, mask = recent_items(sequences, first, last, state.config.model.history)
        users = torch.from_numpy(sequences.users[first:last])
        prior, proposed, rows = working.prior(users, queries)
        embedded = vectors[items] * mask[..., None]
        interests = state.extractor(embedded, mask, prior)
        if not bool(torch.isfinite(interests).all()):
            raise NonFiniteError(
                f"span {state.spans}: the interests extracted after training hold NaN or infinite values",
                hint="the current version stays in place; try a lower [training] learning_rate",
            )
        if working.basis is not None and bool(proposed.any()):
            basis = orthonormal_basis(interests, prior.mask & ~proposed)
            separate = orthogonal_part(interests.double(), basis.double()).float()
            interests = torch.where(proposed[..., None], separate, interests)
        at, found = rows[prior.mask], interests[prior.mask]
        if place is not None:
            wanted = place[at] >= 0
            at, found = place[at[wanted]], found[wanted]
        result[at] = found
        # an item nearest to an interest that is trimmed belongs to the next best
        stays = prior.mask & ~(proposed & ~survives(interests, c2))
        support.index_add_(0, rows.flatten(), _support(embedded, mask, interests, stays).flatten())
    return result, support if place is None else support[place >= 0]


def _room(store: InterestStore, only: Tensor | None, in_place: bool) -> tuple[Tensor, Tensor | None]:
    """Where the result goes (R', d), and which of those each row of the store is, -1 for none (None: as it is)."""
    if only is None:
        return store.vectors if in_place else store.vectors.clone(), None
    rows = torch.isin(store.user, only)
    return store.vectors[rows], torch.where(rows, rows.cumsum(0) - 1, -1)


def _support(items: Tensor, item_mask: Tensor, interests: Tensor, mask: Tensor) -> Tensor:
    """Items (B, n, d) nearest to each interest (B, K, d): (B, K) counts."""
    scores = (items @ interests.transpose(1, 2)).masked_fill(~mask[:, None, :], -torch.inf)
    votes = functional.one_hot(scores.argmax(-1), interests.shape[1])
    return (votes * item_mask[..., None]).sum(1)
