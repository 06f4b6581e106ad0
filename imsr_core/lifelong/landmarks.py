"""Whom a user is near to: landmarks among the users' places along the main directions.

    place(u) = D' x(u)                              x: which items the user had / sqrt(how many); D: `directions`
    nearness_l(u) = exp(-|place(u) - landmark_l|^2)

Places are scaled so that two training users are typically at distance 1 (the median). Landmarks are the means of as
many groups of training users (k-means), and nobody's items. A regression on the nearnesses answers users alike who are
near each other, wherever that is, which no sum over single items can: it is kernel regression with a Gaussian kernel,
restricted to these landmarks (Nystroem; k-means: Zhang, Tsang & Kwok, ICML 2008).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

COUNT = 64
"""Landmarks; as many as there are users where those are fewer."""
ROUNDS = 10
"""Rounds of k-means."""
MOST_COMPARED = 1_000
"""The typical distance is that between so many users at most, the first ones."""
LEAST_SHARE = 1e-4
"""What landmarks hardly differ in, by this share of what they differ in most, is left out."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Landmarks at ``places`` (m, k) along ``directions`` (V, k)."""

    directions: Tensor
    places: Tensor

    def nearness(self, places: Tensor) -> Tensor:
        """Places of users (B, k) -> (B, m)."""
        return torch.exp(-_distances(places, self.places).square())

    def root(self) -> Tensor:
        """R (m, r) with R R' = the inverse of what the landmarks are near to each other: nearness @ R are columns on
        which a plain penalty is the kernel's."""
        strength, vectors = torch.linalg.eigh(self.nearness(self.places).double())
        kept = strength > LEAST_SHARE * strength[-1]
        return (vectors[:, kept] * strength[kept].rsqrt()).to(self.places.dtype)


def find_landmarks(places: Tensor, directions: Tensor, seed: int) -> Landmarks | None:
    """Landmarks for users with these places (U, k) along ``directions`` (V, k); None where all stand at one place."""
    apart = torch.pdist(places[:MOST_COMPARED])
    apart = apart[apart > 0]
    if not len(apart):
        return None
    typical = apart.median()
    return Landmarks(directions / typical, _means(places / typical, seed))


def _means(places: Tensor, seed: int) -> Tensor:
    """(m, k) the means of groups of places: k-means from users drawn at random; a group without users stays."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randperm(len(places), generator=generator)[:COUNT].to(places.device)
    means = places[first]
    for _ in range(ROUNDS if len(means) < len(places) else 0):
        own = _distances(places, means).argmin(dim=1)
        users = torch.bincount(own, minlength=len(means)).unsqueeze(1)
        sums = torch.zeros_like(means).index_add(0, own, places)
        means = torch.where(users > 0, sums / users.clamp(min=1), means)
    return means


def _distances(some: Tensor, others: Tensor) -> Tensor:
    """(B, k), (m, k) -> (B, m), each as exact as if it were alone."""
    return torch.cdist(some, others, compute_mode="donot_use_mm_for_euclid_dist")
