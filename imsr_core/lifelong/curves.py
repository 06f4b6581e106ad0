"""What a user's place along the main directions says that is no straight line.

    place(u) = D' x(u)                    x: which items the user had / sqrt(how many); D: `directions`
    curve_j(u) = cos or sin of f_j . place(u), divided by sqrt(J / 2)

The frequencies f are drawn once, so that the curves of two users have about this product, where m is the median of the
squared distance between users: random Fourier features (Rahimi & Recht, NIPS 2007), orthogonal ones (Yu et al., NIPS
2016).

    exp(-|place(u) - place(v)|^2 / m)

So a regression on curves answers users alike who are near each other, wherever that is: it is one on neighbours that
keeps nobody's items.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FREQUENCIES = 256
"""Frequencies f; each has a cosine and a sine."""
MOST_COMPARED = 1_000
"""The median distance is that between so many users at most, the first ones."""


@dataclass(frozen=True, eq=False)
class Curves:
    """The curves along these directions.

    Attributes:
        directions: D (V, k).
        frequencies: f (k, J / 2).
    """

    directions: Tensor
    frequencies: Tensor

    def of(self, places: Tensor) -> Tensor:
        """Places (B, k) -> curves (B, J), of length 1."""
        turned = places @ self.frequencies
        return torch.cat([turned.cos(), turned.sin()], dim=1) / self.frequencies.shape[1] ** 0.5


def draw_curves(places: Tensor, directions: Tensor, seed: int) -> Curves | None:
    """Curves for users with these places (U, k) along ``directions`` (V, k); None where all stand at one place."""
    few = places[:MOST_COMPARED]
    apart = torch.pdist(few).square()
    if not len(apart) or float(apart.max()) <= 0.0:
        return None
    typical = apart[apart > 0].median()
    generator, width = torch.Generator().manual_seed(seed), directions.shape[1]
    blocks = [_orthogonal(width, generator) for _ in range(-(-FREQUENCIES // width))]
    frequencies = torch.cat(blocks, dim=1)[:, :FREQUENCIES].to(places.device)
    return Curves(directions, frequencies * (2.0 / typical).sqrt())


def _orthogonal(width: int, generator: torch.Generator) -> Tensor:
    """(k, k) columns at right angles, each as long as a vector of k normal numbers is."""
    normal = torch.randn(width, width, generator=generator)
    lengths = torch.randn(width, width, generator=generator).norm(dim=0)
    return torch.linalg.qr(normal).Q * lengths
