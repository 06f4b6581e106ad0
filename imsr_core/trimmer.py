"""PIT, the projection-based interest trimmer: what of a new interest is really new (paper, section IV-D).

Step 1: subtract from each new interest its projection on the span of the user's existing interests,
        h_new - M (M^T M)^-1 M^T h_new, with M (d x K) the existing interests.
Step 2: drop it if what is left is shorter than c2.

Decided: the slides print the transposes so that the shapes do not fit, and the paper's text concatenates the *new*
interests into M; both are slips. M^T M may be singular (two equal interests, K > d), so we project on an orthonormal
basis from a Cholesky factor of the Gram matrix with a tiny ridge: M^T M = L L^T, basis = L^-1 M^T. It is exact where
M has full rank and stays finite where it has not. Vectors are scaled to length 1 first, which does not change their
span.

The basis of the *stored* interests is computed once a span and used in every training step, so that new interests
are trained in the space that will be left of them; the released code projects in every routing iteration, which
gives the same result at a higher price.
"""

from __future__ import annotations

import torch
from torch import Tensor

from imsr_core.objectives import unit

RIDGE = 1e-10


def orthonormal_basis(existing: Tensor, mask: Tensor) -> Tensor:
    """Rows that span what the real rows of ``existing`` (B, K, d) span: (B, K, d), zero where padded or dependent."""
    rows = unit(existing.double()) * mask[..., None]
    gram = rows @ rows.transpose(1, 2)
    # padded rows get a 1 on the diagonal: they are solved apart and come back as zero
    ridge = torch.where(mask, RIDGE, 1.0).double()
    factor = torch.linalg.cholesky(gram + torch.diag_embed(ridge))
    basis = torch.linalg.solve_triangular(factor, rows, upper=False)
    # a dependent row leaves a remainder of rounding errors; taking it for a direction would be noise
    basis = basis * (basis.norm(dim=-1, keepdim=True) > 0.5)
    return basis.to(existing.dtype)


def orthogonal_part(vectors: Tensor, basis: Tensor) -> Tensor:
    """``vectors`` (B, J, d) without their projection on ``basis`` (B, K, d).

    A second pass takes away what rounding left of the first; a training step does without
    (`WorkingInterests.separate`).
    """
    for _ in range(2):
        vectors = vectors - (vectors @ basis.transpose(1, 2)) @ basis
    return vectors


def survives(orthogonal: Tensor, c2: float) -> Tensor:
    """Which new interests (B, J, d), already orthogonal, are long enough to stay: (B, J) bool."""
    return orthogonal.norm(dim=-1) >= c2
