"""A checkpoint as changes: of everything that has a row an item, the rows that a span touched.

    checkpoint(t) = the rows of checkpoint(t - 1), faded to t, with the changed rows of t in their place

An item table is a model's largest tensor, and a span touches a fraction of it. What fades with time (the counts of the
trend) moves in every row; it fades by a rule, so that only rows with events are changes. Reading a chain of changes
gives the same bits as reading the whole checkpoint. Groups of rows that change together:

    items    items.weight, items.moment1, items.moment2, items.steps        (n, ...)
    trend    trend.counts                                                   (S, n)
    score    score.trend, score.degree                                      (n, ...)
    factors  score.factors                                                  (n, f)

A file of changes holds these tensors under their usual names with n rows each, the rows' numbers as
``changed.<group>``, and ``changed.size``: the number of items, which link of the chain it is, then what the score's
trend fades by (its time before and after, and the length of a span).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from imsr_core.errors import CheckpointError
from imsr_core.rows import RowTable
from imsr_core.score.trend import TrendTerm
from imsr_core.state import ModelState
from imsr_core.trend import Trend

#: Changes are written as long as the chain of them has at most so many links, and in all at most this share of the
#: items' rows: then a checkpoint is written whole again, and reading stays near to that of a whole one.
MOST_LINKS, MOST_ROWS = 24, 0.5
ITEMS = "items"
GROUPS = {
    "items.weight": ITEMS,
    "items.moment1": ITEMS,
    "items.moment2": ITEMS,
    "items.steps": ITEMS,
    "trend.counts": "trend",
    "score.trend": "score",
    "score.degree": "score",
    "score.factors": "factors",
}
#: Tensors whose rows are along the second dimension.
SIDEWAYS = {"trend.counts"}
SIZE = "changed.size"


@dataclass(frozen=True)
class Chain:
    """How many checkpoints of changes lie upon a whole one, and how many rows of items they hold in all."""

    links: int = 0
    rows: int = 0

    def longer(self, rows: Tensor) -> Chain:
        """With one more link, which holds these ``rows`` (n,)."""
        return Chain(self.links + 1, self.rows + len(rows))

    def is_worth_it(self, n_items: int) -> bool:
        """Whether it is still quick to read."""
        return self.links <= MOST_LINKS and self.rows <= MOST_ROWS * n_items


def changed_rows(before: ModelState, after: ModelState) -> dict[str, Tensor]:
    """The numbers (n,) of the rows that ``after`` has otherwise than ``before``, faded to its time, by group."""
    known = _counts_by_item(before)
    known["trend.counts"] = before.trend.as_of(after.trend.until, after.n_items).counts
    if before.score is not None and after.score is not None:
        ages = (before.score.trend.until, after.score.trend.until, after.score.unit)
        known["score.trend"] = _score_trend_at(known["score.trend"], *ages, after.n_items)
    found = {ITEMS: _changed_items(before.item_tables(), after.item_tables())}
    for name, new in _counts_by_item(after).items():
        old, group = known.get(name, new[:0]), GROUPS[name]
        differ = _differing(_by_item(name, old), _by_item(name, new))
        found[group] = differ | found[group] if group in found else differ
    return {group: differ.nonzero().squeeze(1) for group, differ in found.items()}


def _changed_items(before: Sequence[RowTable], after: Sequence[RowTable]) -> Tensor:
    """(N,) which items have another row, moment or clock with any member. (Tables are not `joint`: that would be a copy
    of all of them, for a span that moved a few rows.)"""
    found = torch.full((len(after[0]),), len(before) != len(after))
    for old, new in zip(before, after, strict=False):
        for name, tensor in new.tensors().items():
            found |= _differing(old.tensors()[name], tensor)
    return found


def _counts_by_item(state: ModelState) -> dict[str, Tensor]:
    """What a state counts of items, by the name that it is saved under."""
    tensors = {"trend.counts": state.trend.counts}
    if state.score is not None:
        own = state.score.tensors()
        tensors |= {f"score.{name}": own[name] for name in ("trend", "degree")}
        if len(own["factors"]) == state.n_items:  # none where that part of the score is off
            tensors["score.factors"] = own["factors"]
    return tensors


def only_changes(
    tensors: dict[str, Tensor], rows: dict[str, Tensor], before: ModelState, after: ModelState, link: int
) -> dict[str, Tensor]:
    """Of the tensors of a file those of `GROUPS` with the changed rows alone, and which rows those are; the file is
    this ``link`` of its chain, from 1. Tensors of the group `ITEMS` have their changed rows alone already."""
    kept = dict(tensors)
    for name in sorted(tensors.keys() & GROUPS.keys()):
        if GROUPS[name] not in rows:
            continue
        own = rows[GROUPS[name]]
        if GROUPS[name] != ITEMS:
            kept[name] = tensors[name][:, own] if name in SIDEWAYS else tensors[name][own]
        kept[f"changed.{GROUPS[name]}"] = own
    fade = (0, 0, 1)
    if before.score is not None and after.score is not None:
        fade = (before.score.trend.until, after.score.trend.until, after.score.unit)
    return kept | {SIZE: torch.tensor([after.n_items, link, *fade])}


def link_of(tensors: dict[str, Tensor]) -> int:
    """Which link of a chain the tensors of a file are; 0 if they are whole. Raises `CheckpointError` if they do not
    say."""
    if SIZE not in tensors:
        return 0
    size = tensors[SIZE]
    fits = size.shape == (5,) and size.dtype == torch.int64
    if not fits or bool((size[:2] < 0).any()) or int(size[4]) < 1:  # the two times between may be before 1970
        raise CheckpointError(f"{SIZE} is not five whole numbers")
    return int(size[1])


def with_changes(whole: dict[str, Tensor], changes: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file as of ``changes``, from those of the checkpoint before; ``whole`` may be written to.

    Raises:
        CheckpointError: the changes do not fit what they change.
    """
    n_items, _, before, after, unit = (int(number) for number in changes.pop(SIZE))
    named = [group for group in dict.fromkeys(GROUPS.values()) if f"changed.{group}" in changes]
    rows = {group: _rows(changes.pop(f"changed.{group}"), group, n_items) for group in named}
    result = dict(changes)
    for name, group in GROUPS.items():
        if name not in changes or group not in rows:
            continue
        old = whole.get(name)
        if (old is None or _became_wider(name, old, changes[name])) and len(rows[group]) == n_items:
            old = changes[name][:0]  # it came with this version, or is made anew by it
        if old is None:
            raise CheckpointError(f"{name} changes, and the checkpoint before does not have it")
        if name == "trend.counts":
            trend = replace(Trend.empty(), counts=old, until=int(whole["trend.until"]))
            old = trend.as_of(int(changes["trend.until"]), n_items).counts
        elif name == "score.trend":
            old = _score_trend_at(old, before, after, unit, n_items)
        result[name] = _put(name, old, rows[group], changes[name], n_items)
    return result


def _rows(rows: Tensor, group: str, n_items: int) -> Tensor:
    fits = rows.dim() == 1 and rows.dtype == torch.int64 and bool((rows.diff() > 0).all())
    if not fits or (len(rows) and (int(rows[0]) < 0 or int(rows[-1]) >= n_items)):
        raise CheckpointError(f"changed.{group} are not numbers of {n_items} rows, ascending")
    return rows


def _put(name: str, old: Tensor, rows: Tensor, new: Tensor, n_items: int) -> Tensor:
    """``old`` with the ``new`` rows in their places, and room for ``n_items``, all of whose later ones must be new."""
    sideways = name in SIDEWAYS
    known = old.shape[1] if sideways else len(old)
    shape = (*old.shape[:1], len(rows)) if sideways else (len(rows), *old.shape[1:])
    if tuple(new.shape) != shape or new.dtype != old.dtype or n_items < known:
        raise CheckpointError(f"{name} has {tuple(new.shape)} {new.dtype} of changes, expected {shape} {old.dtype}")
    if n_items > known:
        more = (*old.shape[:1], n_items - known) if sideways else (n_items - known, *old.shape[1:])
        old = torch.cat([old, torch.zeros(more, dtype=old.dtype)], 1 if sideways else 0)
    if sideways:
        old[:, rows] = new
    else:
        old[rows] = new
    return old


def _became_wider(name: str, old: Tensor, new: Tensor) -> bool:
    return name not in SIDEWAYS and old.shape[1:] != new.shape[1:]


def _score_trend_at(counts: Tensor, before: int, after: int, unit: int, n_items: int) -> Tensor:
    return torch.from_numpy(TrendTerm(unit, counts.numpy(), before).as_of(after, n_items).counts)


def _by_item(name: str, tensor: Tensor) -> Tensor:
    return tensor.T if name in SIDEWAYS else tensor


def _places(part: Tensor) -> list[int]:
    """Where the rows of a table begin, how far they lie apart, and how long they are, in numbers."""
    return [int(number) for number in (part.storage_offset(), part.shape[-1], *part.stride()[:-1])]


def _differing(old: Tensor, new: Tensor) -> Tensor:
    """(N,) the rows of ``new`` (N, ...) that are not the same bits in ``old``; those that it lacks are not, and where
    rows became wider, none is."""
    old = old if old.shape[1:] == new.shape[1:] else new[:0]
    both = min(len(old), len(new))
    parts = [part[:both] if not part.dim() or part.stride(-1) == 1 else part[:both].contiguous() for part in (old, new)]
    pairs = new.dim() > 1 and not any(place % 2 for part in parts for place in _places(part))
    bits = torch.int64 if new.dtype == torch.float64 or pairs else torch.int32  # two numbers of 32 bits at once
    differ = np.not_equal(*(part.detach().view(bits).numpy() for part in parts))
    found = torch.ones(len(new), dtype=torch.bool)
    found[:both] = torch.from_numpy(differ.any(1) if differ.ndim > 1 else differ)  # NumPy's: a third of the time
    return found
