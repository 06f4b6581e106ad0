"""The directions in which users differ most: principal components of which items they had.

They are found from items alone, without a label, so what they know of a label costs no labelled user.
"""

from __future__ import annotations

import torch
from torch import Tensor

from imsr_core.lifelong.sparse_rows import SparseRows

SPARE, ROUNDS = 16, 8
"""Further columns and rounds of the subspace iteration (Halko et al., SIAM Review 2011)."""
MOST_USERS = 10_000
"""The directions are those of this many users at most, the first ones."""


def main_directions(matrix: SparseRows, count: int, seed: int) -> Tensor:
    """The ``count`` main directions (V, k) of the rows of a (U, V) matrix about their mean.

    Orthonormal columns, strongest first; fewer than ``count`` where the matrix has no more.
    """
    users, items = matrix.shape
    if users > MOST_USERS:
        users, matrix = MOST_USERS, matrix.of(torch.arange(MOST_USERS, device=matrix.device))
    count = min(count, users - 1, items)
    if count < 1:
        return torch.zeros(items, 0, device=matrix.device)
    width = min(count + SPARE, users, items)
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(items, width, generator=generator).to(matrix.device)
    mean = matrix.turned(torch.ones(users, 1, device=matrix.device)) / users  # (V, 1)
    for _ in range(ROUNDS):
        basis = torch.linalg.qr(basis).Q
        seen = matrix @ basis - mean.t() @ basis
        basis = matrix.turned(seen) - mean @ seen.sum(dim=0, keepdim=True)
    basis = torch.linalg.qr(basis).Q
    _, strength, right = torch.linalg.svd(matrix @ basis - mean.t() @ basis, full_matrices=False)
    kept = int((strength[:count] > 1e-5 * strength[0]).sum())
    return basis @ right[:kept].t()
