"""The weights of a score's columns: two sets, and the evidence they rest on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

#: What may be shown: everything, or only what is new to the user.
SETS = ("everything", "new")

#: With what a chain begins, until the first span has been held against it.
START = {
    "interest": 0.2,
    "trend_span": 0.2,
    "trend_4_spans": 0.2,
    "personal_span": 0.3,
    "personal_ever": 0.3,
    "neighbours_steps": 0.3,
    "neighbours_taste": 0.2,
}


@dataclass(frozen=True)
class Evidence:
    """What a fit rests on: ``events`` of ``users`` that the model had not learnt, and the mean loss of them before
    and after the fit (in nats, as it is fitted; ``chance`` is that of a score that knows nothing)."""

    events: int = 0
    users: int = 0
    before: float = 0.0
    after: float = 0.0
    chance: float = 0.0


@dataclass(frozen=True)
class Weights:
    """``values`` (2, F) float64: a row for each of `SETS`, a column for each of ``columns``."""

    columns: tuple[str, ...]
    values: Tensor
    evidence: dict[str, Evidence] = field(default_factory=dict)

    @classmethod
    def start(cls, columns: tuple[str, ...]) -> Weights:
        """The weights of a chain that has no evidence yet."""
        row = torch.tensor([START.get(name, 0.0) for name in columns], dtype=torch.float64)
        return cls(columns, torch.stack([row, row]))

    def row(self, which: str, columns: tuple[str, ...]) -> Tensor:
        """(F,) float32 the weights of some columns in one of `SETS`."""
        row = self.values[SETS.index(which)]
        return torch.stack([row[self.columns.index(name)] for name in columns]).float()

    def with_row(self, which: str, columns: tuple[str, ...], row: Tensor, evidence: Evidence) -> Weights:
        """Other values (C,) for some columns in one of `SETS`, and what they rest on."""
        values = self.values.clone()
        values[SETS.index(which), [self.columns.index(name) for name in columns]] = row.double()
        return replace(self, values=values, evidence=self.evidence | {which: evidence})

    def for_columns(self, columns: tuple[str, ...]) -> Weights:
        """For these columns: what is known of them, or their start."""
        if columns == self.columns:
            return self
        missing = tuple(name for name in columns if name not in self.columns)
        fresh = Weights.start(missing)
        both = torch.cat([self.values, fresh.values], 1)
        names = (*self.columns, *missing)
        return replace(self, columns=columns, values=both[:, [names.index(name) for name in columns]])
