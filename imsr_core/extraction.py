"""Write H^t: one pass without gradient over a span, after it was learnt (paper, algorithm 2, last lines)."""

from __future__ import annotations

import torch
from torch import Tensor

from imsr_core.batches import recent_items
from imsr_core.ragged import SpanSequences
from imsr_core.state import ModelState
from imsr_core.trainer import WorkingInterests
from imsr_core.trimmer import orthogonal_part, orthonormal_basis

CHUNK = 1024


@torch.no_grad()
def extract_interests(
    state: ModelState, sequences: SpanSequences, working: WorkingInterests, queries: Tensor
) -> Tensor:
    """The interests (R, d) of the span's users after the span, row for row of the working store.

    ``queries`` (R, q) are the trained ones. Reads the ``history`` most recent items of each user. Proposed interests
    come out orthogonal to the *new* values of the user's other interests if the trimmer is on.
    """
    vectors = state.item_vectors()
    result = working.store.vectors.clone()
    for first in range(0, len(sequences), CHUNK):
        last = min(first + CHUNK, len(sequences))
        items, mask = recent_items(sequences, first, last, state.config.model.history)
        users = torch.from_numpy(sequences.users[first:last])
        prior, proposed, rows = working.prior(users, queries)
        interests = state.extractor(vectors[items] * mask[..., None], mask, prior)
        if working.basis is not None and bool(proposed.any()):
            basis = orthonormal_basis(interests, prior.mask & ~proposed)
            separate = orthogonal_part(interests.double(), basis.double()).float()
            interests = torch.where(proposed[..., None], separate, interests)
        result[rows[prior.mask]] = interests[prior.mask]
    return result
