"""Members: a model may be several that differ by their draws alone, and what serves is the mean of what they say.

Where a user's interests begin and which vectors new items start from is drawn, and a span of few events leaves much of
that draw in place: two models of other draws are wrong about different items, and their mean is wrong less often
(Hansen and Salamon, Neural Network Ensembles, 1990). Ours; the paper has one model.

The first member is the model as it would be alone, with the seed as it is set: its interests are what views and reasons
show. Each further one has item vectors, an extractor and interests of its own and learns every span by the same
strategy; `imsr_core.score.interest` takes the mean. Counts, trend and weights of the score are of all together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from imsr_core.config import InterestsConfig
from imsr_core.draws import Purpose, seeded
from imsr_core.extractors import Extractor, build_extractor
from imsr_core.interests import InterestStore
from imsr_core.rows import RowTable

#: How far the seeds of two members lie apart.
STRIDE = 1_000


@dataclass
class Member:
    """What a further member has of its own; see `imsr_core.state.ModelState` for the fields."""

    items: RowTable
    extractor: Extractor
    store: InterestStore
    extractor_optimizer: dict[str, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def initial(cls, config: InterestsConfig) -> Member:
        """One that has seen nothing, of a model with ``config`` (the member's own, see `config_of`)."""
        model = config.model
        return cls(
            items=RowTable.empty(model.dim),
            extractor=build_extractor(model, seeded(config.training.seed, 0, Purpose.EXTRACTOR)),
            store=InterestStore.empty(model.dim, model.query_units),
        )


def joint(tables: Sequence[RowTable]) -> dict[str, Tensor]:
    """The item tables of all members as they are saved, by `RowTable`'s names: of M members' rows (N, d) one row
    (N, M d), of their clocks (N,) one row (N, M); of one member as it is."""
    if len(tables) == 1:
        return tables[0].tensors()
    found = {
        name: torch.cat([getattr(table, name) for table in tables], 1) for name in ("weight", "moment1", "moment2")
    }
    return found | {"steps": torch.stack([table.steps for table in tables], 1)}


def apart(rows: Tensor, count: int) -> list[Tensor]:
    """Of ``count`` members the rows (N, d) or clocks (N,) of each, from those of `joint`: views of these, since who
    trains copies them anyway, and who reads a few rows needs no copy."""
    if count == 1:
        return [rows]
    return [part if part.shape[1] > 1 else part[:, 0] for part in rows.chunk(count, 1)]


def config_of(config: InterestsConfig, number: int) -> InterestsConfig:
    """The configuration that the member ``number`` (from 1) learns with: one model, with a seed of its own and without
    the parts that are there once for all members (counts are, unless interests learn what those leave)."""
    seed = (config.training.seed + number * STRIDE) % 2**32
    counts = config.score if config.training.residual else replace(config.score, enabled=False)
    return replace(
        config,
        model=replace(config.model, members=1),
        training=replace(config.training, seed=seed),
        trend=replace(config.trend, enabled=False),
        score=counts,
    )


def initial_members(config: InterestsConfig) -> tuple[Member, ...]:
    """The further members of a model that has seen nothing."""
    return tuple(Member.initial(config_of(config, number)) for number in range(1, config.model.members))


def renamed(memory: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    """What a strategy remembers of the member ``number``, <strategy>.<name>, as the model keeps it:
    <strategy>@<number>.<name>."""
    return {name.replace(".", _mark(number), 1): tensor for name, tensor in memory.items()}


def remembered_of(memory: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    """Of all that the model keeps what is of the member ``number``, under the names that its strategy gave."""
    mark = _mark(number)
    return {name.replace(mark, ".", 1): tensor for name, tensor in memory.items() if mark in name}


def _mark(number: int) -> str:
    return f"@{number}."
