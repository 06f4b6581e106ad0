"""NID, the new-interests detector: whose new items fit no interest better than another (paper, section IV-C).

For item i and the user's stored interests h_1 .. h_K, with s_ik = scale * e_i . h_k and p = softmax_k(s_i):

    KL(uniform || p) = ln sum_k exp(s_ik) - mean_k s_ik - ln K     >= 0

0 means that the item fits all interests alike: it puzzles. The user's **clarity** is the mean over the items of the
span, and the detector fires where clarity is *below* c1.

Decided (sign): the paper and the slides define P(i) = -KL <= 0 and create interests when mean P > c1 with a positive
c1, which never happens as printed. The released code fires when the KL is below a threshold; so do we, and the
public quantity has the sign that its name says.

Decided (scale): KL grows with the logits' scale and with K, so an absolute c1 means something else on every log. The
default c1 is a quantile of the span's users.

Decided (once): the detector runs once, before the span trains. The paper's algorithm 2 calls it in every epoch,
which would let an interest be born of a half-trained model.

Items that the model has never seen have no meaningful vector yet and do not count. Ours, not the paper's: a user with
fewer than ``min_items`` items that count has no clarity (NaN) and gets no new interests. On logs where a span brings a
user one or two items, the mean over them is noise, and interests that were born of it cost accuracy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import embedding

from imsr_core.config import DetectorConfig
from imsr_core.interests import InterestStore


def item_clarity(logits: Tensor, mask: Tensor) -> Tensor:
    """KL(uniform || softmax) over the real places of the last axis: (..., K), (..., K) -> (...), >= 0."""
    count = mask.sum(-1).clamp(min=1)
    mean = (logits * mask).sum(-1) / count
    total = logits.masked_fill(~mask, -torch.inf).logsumexp(-1)
    return (total - mean - count.log()).clamp(min=0)


def clarity(
    store: InterestStore,
    users: Tensor,
    event_user: Tensor,
    event_item: Tensor,
    items: Tensor,
    scale: float,
    min_items: int = 1,
    chunk: int = 2048,
) -> Tensor:
    """Mean KL of each user's items, (U,); NaN for a user with fewer than ``min_items`` that count, or no interest.

    ``users`` (U,) ascending; ``event_user`` (E,) positions in ``users``; ``event_item`` (E,) row numbers of
    ``items`` (N, d), which are the vectors of the items that the model knows; events of other items must be left
    out by the caller.
    """
    total = torch.zeros(len(users), dtype=torch.float64)
    count = torch.zeros(len(users), dtype=torch.float64)
    for start in range(0, len(event_user), chunk):
        who, what = event_user[start : start + chunk], event_item[start : start + chunk]
        found = store.rows_of(users[who])
        vectors = embedding(found.rows, store.vectors) if len(store) else torch.zeros(*found.mask.shape, store.dim)
        logits = scale * (vectors @ embedding(what, items)[..., None]).squeeze(-1)  # (e, K)
        total.index_add_(0, who, item_clarity(logits, found.mask).double())
        count.index_add_(0, who, found.mask.any(-1).double())
    return torch.where(count >= min_items, total / count, math.nan)


def threshold(clarities: Tensor, config: DetectorConfig) -> float:
    """The KL value below which the detector fires this span: c1 itself, or the c1-quantile of the users."""
    if config.rule == "absolute":
        return config.c1
    known = clarities[~clarities.isnan()]
    if not len(known) or config.c1 == 0:
        return 0.0
    # the comparison is strict, so the value in place n is that of the first user who does not fire: n users do
    fires = int(round(config.c1 * len(known), 6))  # 0.29 of 100 users are 29, though 0.29 * 100 is below
    return math.inf if fires == len(known) else float(known.sort().values[fires])


def detect(clarities: Tensor, config: DetectorConfig) -> Tensor:
    """Who gets new interests, (U,) bool: clarity below the threshold."""
    if not config.enabled or config.new_interests == 0:
        return torch.zeros(len(clarities), dtype=torch.bool)
    return clarities < threshold(clarities, config)
