"""PIT: projections against exact Gram-Schmidt, also where interests are collinear or more than d."""

import literal_formulas as literal
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.trimmer import orthogonal_part, orthonormal_basis, survives


@st.composite
def matrices(draw):
    """Small integer matrices (existing, new): duplicates, multiples and K > d are common."""
    d = draw(st.integers(1, 4))
    row = st.lists(st.integers(-3, 3), min_size=d, max_size=d)
    return draw(st.lists(row, min_size=1, max_size=6)), draw(st.lists(row, min_size=1, max_size=3))


def on_real_rows(existing: list, padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, K + padding, d) with rubbish in the padded rows, and its mask; padding comes in front."""
    d = len(existing[0])
    rows = torch.tensor([[9.0] * d] * padding + existing)[None]
    mask = torch.arange(rows.shape[1])[None] >= padding
    return rows.float(), mask


@given(matrices(), st.integers(0, 2))
def test_the_orthogonal_part_equals_exact_gram_schmidt(pair, padding):
    existing, new = pair
    basis = orthonormal_basis(*on_real_rows(existing, padding))
    found = orthogonal_part(torch.tensor(new)[None].double(), basis.double())[0]
    expected = [literal.orthogonal_part(v, existing) for v in new]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), atol=1e-4)
    assert not basis[0, :padding].any()


@given(matrices())
def test_the_basis_is_orthonormal_and_as_large_as_the_rank(pair):
    existing, _ = pair
    basis = orthonormal_basis(*on_real_rows(existing, 0))[0].double()
    rank = int(torch.linalg.matrix_rank(torch.tensor(existing).double()))
    real = basis[basis.norm(dim=-1) > 0]
    assert len(real) == rank
    assert torch.allclose(real @ real.T, torch.eye(rank, dtype=torch.float64), atol=2e-3)


@given(st.integers(1, 12), st.integers(0, 200), st.floats(-7, -1))
def test_nearly_collinear_interests_leave_nothing_in_their_direction(k, seed, exponent):
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(1, 1, 8, generator=generator)
    existing = first + 10**exponent * torch.randn(1, k, 8, generator=generator)
    new = torch.randn(1, 3, 8, generator=generator).double()
    left = orthogonal_part(new, orthonormal_basis(existing, torch.ones(1, k, dtype=torch.bool)).double())
    assert torch.isfinite(left).all()
    cosine = left @ torch.nn.functional.normalize(existing.double(), dim=-1).transpose(1, 2) / new.norm()
    assert cosine.abs().max() < 1e-4


@pytest.mark.parametrize("k", [8, 11])
def test_a_full_rank_leaves_nothing_and_more_than_d_is_no_error(k):
    existing = torch.randn(2, k, 8, generator=torch.Generator().manual_seed(0))
    left = orthogonal_part(torch.ones(2, 1, 8), orthonormal_basis(existing, torch.ones(2, k, dtype=torch.bool)))
    assert left.norm() < 1e-4


def test_without_existing_interests_nothing_is_taken_away():
    new = torch.randn(2, 3, 4)
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    assert torch.equal(orthogonal_part(new, orthonormal_basis(torch.randn(2, 3, 4), nothing)), new)
    assert not orthonormal_basis(torch.zeros(1, 2, 4), torch.ones(1, 2, dtype=torch.bool)).any()


def test_c2_trims_what_is_shorter():
    vectors = torch.tensor([[[0.3, 0.4], [0.0, 0.0], [3.0, 4.0]]])
    assert survives(vectors, 0.5).tolist() == [[True, False, True]]
    assert survives(vectors, 0.0).all()
    assert not survives(vectors, float("inf")).any()
