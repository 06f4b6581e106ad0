"""How distinct the interests of a user are: each against the older ones of the same user.

K overstates what a model knows of somebody: old interests converge, and those of a user with few items may never part.
"""

from __future__ import annotations

import torch
from torch import Tensor


def overlap(vectors: Tensor, first: Tensor) -> Tensor:
    """Cosine of each interest to the nearest older one of the same user (R,); NaN for a user's oldest.

    ``vectors`` (R, d) in the order of (user, interest_id); ``first`` (R,) is the row of the user's first interest.
    """
    unit = torch.nn.functional.normalize(vectors, dim=1)
    order = torch.arange(len(vectors))
    best = torch.full((len(vectors),), torch.nan)
    for back in range(1, int((order - first).max()) + 1 if len(vectors) else 1):
        here = order[order - back >= first]
        best[here] = torch.fmax(best[here], (unit[here] * unit[here - back]).sum(1))
    return best
