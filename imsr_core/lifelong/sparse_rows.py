"""A sparse matrix that is multiplied from both sides, many times.

Both products gather rows and add them up (`torch.nn.functional.embedding_bag`), which on a processor takes a twentieth
of what torch's sparse product does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class SparseRows:
    """A (U, V) matrix of these entries, no two at one place.

    Args:
        rows: (n,) ascending.
        columns: (n,).
        values: (n,).
        shape: (U, V).
    """

    def __init__(self, rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._rows, self._columns, self._values = rows, columns, values
        self._order = torch.argsort(columns, stable=True)
        self._starts, self._turned_starts = _starts(rows, shape[0]), _starts(columns[self._order], shape[1])

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self._values.device

    def __matmul__(self, table: Tensor) -> Tensor:
        """(V, Y) -> (U, Y)."""
        return _sums(self._columns, self._values, self._starts, table)

    def turned(self, table: Tensor) -> Tensor:
        """The product of the transposed matrix: (U, Y) -> (V, Y)."""
        return _sums(self._rows[self._order], self._values[self._order], self._turned_starts, table)

    def of(self, rows: Tensor) -> SparseRows:
        """These rows of it (k,), ascending."""
        places = torch.searchsorted(rows, self._rows).clamp(max=max(0, len(rows) - 1))
        kept = rows[places] == self._rows if len(rows) else torch.zeros_like(self._rows, dtype=torch.bool)
        return SparseRows(places[kept], self._columns[kept], self._values[kept], (len(rows), self.shape[1]))


def _starts(ordered: Tensor, count: int) -> Tensor:
    return torch.searchsorted(ordered.contiguous(), torch.arange(count, device=ordered.device))


def _sums(places: Tensor, values: Tensor, starts: Tensor, table: Tensor) -> Tensor:
    """(count, Y) the rows of ``table`` at these places, times their values, added up from start to start."""
    if not len(places) or not table.shape[1]:  # with threads, torch refuses a table of no columns
        return table.new_zeros(len(starts), table.shape[1])
    return F.embedding_bag(places, table, starts, mode="sum", per_sample_weights=values)
