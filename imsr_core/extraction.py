"""Write H^t: one pass without gradient over a span, after it was learnt (paper, algorithm 2, last lines).

A user's interests depend on nobody else's, so that other hands may read them by buckets of users (`imsr_core.hands`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from imsr_core.batches import recent_items
from imsr_core.checkpoint import config_from_dict, config_to_dict
from imsr_core.errors import NonFiniteError
from imsr_core.extractors import build_extractor
from imsr_core.hands import Hands, Tensors, buckets_of, hands_for, sequences_of, tensors_of
from imsr_core.interests import InterestStore
from imsr_core.ragged import SpanSequences
from imsr_core.rows import RowTable
from imsr_core.sorted_keys import unique
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
    hands = hands_for(len(sequences)) if only is None else None
    if hands is not None:
        return _read_by(hands, state, sequences, working, queries, in_place=in_place)
    vectors, sequences = _vectors_for(state, sequences)
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
        if working.basis is not None:
            _separate(interests, proposed, prior.mask)
        at, found = rows[prior.mask], interests[prior.mask]
        if place is not None:
            wanted = place[at] >= 0
            at, found = place[at[wanted]], found[wanted]
        result[at] = found
        # an item nearest to an interest that is trimmed belongs to the next best
        stays = prior.mask & ~(proposed & ~survives(interests, c2))
        support.index_add_(0, rows.flatten(), _support(embedded, mask, interests, stays).flatten())
    return result, support if place is None else support[place >= 0]


def _vectors_for(state: ModelState, sequences: SpanSequences) -> tuple[Tensor, SpanSequences]:
    """The item vectors that ``sequences`` need, and the same with items by their place among those: of few events the
    catalogue is not gone through."""
    if sequences.n_events >= state.n_items:
        return state.item_vectors(), sequences
    known = unique(np.append(sequences.items, 0))  # 0 stands where there is no item
    place = np.searchsorted(known, sequences.items)
    return state.item_vectors(torch.from_numpy(known)), replace(sequences, items=place)


def _separate(interests: Tensor, proposed: Tensor, mask: Tensor) -> None:
    """Make the ``proposed`` (B, K) of ``interests`` (B, K, d) orthogonal to the user's others, in place."""
    asked = proposed.any(1).nonzero().squeeze(1)
    if len(asked):
        part, own = interests[asked], proposed[asked]
        basis = orthonormal_basis(part, mask[asked] & ~own)
        separate = orthogonal_part(part.double(), basis.double()).float()
        interests[asked] = torch.where(own[..., None], separate, part)


def _read_by(
    hands: Hands,
    state: ModelState,
    sequences: SpanSequences,
    working: WorkingInterests,
    queries: Tensor,
    *,
    in_place: bool,
) -> tuple[Tensor, Tensor]:
    """`extract_interests` of everybody, by buckets of users: the same bits, since chunks begin where they would."""
    shared = {f"extractor.{name}": tensor for name, tensor in state.extractor.state_dict().items()}
    how = json.dumps({"config": config_to_dict(state.config), "spans": state.spans})

    def buckets() -> Iterator[Tensors]:
        first = 0
        for part in buckets_of(sequences, hands.bucket_users):
            last = int(torch.searchsorted(working.store.user, int(part.users[-1]), right=True))
            yield _bucket(state, part, working, queries, slice(first, last))
            first = last

    result = _room(working.store, None, in_place)[0]
    support = torch.zeros(len(working.store), dtype=torch.int64)
    place = 0
    for found in hands(read_bucket, shared, buckets(), how):
        rows = slice(place, place + len(found["support"]))
        result[rows], support[rows], place = found["vectors"], found["support"], rows.stop
    assert place == len(support)
    return result, support


def _bucket(state: ModelState, part: SpanSequences, working: WorkingInterests, queries: Tensor, rows: slice) -> Tensors:
    """What `read_bucket` needs of some users: their events with the items' rows, and the rows of their interests."""
    known, place = np.unique(part.items, return_inverse=True)
    own = replace(part, items=place.astype(np.int64).reshape(-1))
    bucket = tensors_of(own) | {"rows": state.items.weight[torch.from_numpy(known)], "trained": queries[rows]}
    bucket |= {f"store.{f.name}": getattr(working.store, f.name)[rows] for f in fields(InterestStore)}
    columns = {"mass": working.mass, "stored": working.stored, "proposed": working.proposed, "basis": working.basis}
    return bucket | {name: column[rows] for name, column in columns.items() if column is not None}


def read_bucket(shared: Tensors, bucket: Tensors, how: str) -> Tensors:
    """The interests (R, d) of a bucket's users and their support (R,); see `extract_interests`."""
    described = json.loads(how)
    config = config_from_dict(described["config"])
    extractor = build_extractor(config.model, torch.Generator().manual_seed(0))
    extractor.load_state_dict({name.removeprefix("extractor."): tensor for name, tensor in shared.items()})
    store = InterestStore(*(bucket[f"store.{f.name}"] for f in fields(InterestStore)))
    columns = (bucket["mass"], bucket["stored"], bucket["proposed"], bucket.get("basis"))
    working = WorkingInterests(store, *columns, teacher_items=None)
    state = ModelState(config, RowTable.to_score_with(bucket["rows"]), extractor, store, described["spans"])
    vectors, support = extract_interests(state, sequences_of(bucket), working, bucket["trained"])
    return {"vectors": vectors, "support": support}


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
