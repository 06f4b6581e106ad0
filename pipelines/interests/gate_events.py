"""The events that a version was kept from learning, and where it and the current version ranked them: gate.parquet.

They are written with the version, so that its verdict can be given again from its folder alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from imsr_core.ragged import SpanSequences
from imsr_core.state import ModelState
from pipelines.interests.evaluation import rank_events, ranks_among
from pipelines.workspace.editions import is_stored
from pipelines.workspace.parquet_files import column_names, read_table, write_table

GATE_FILE = "gate.parquet"
#: Hidden events at most: each costs a ranking of the whole catalogue by two models.
MOST_HIDDEN = 400
COLUMNS = ("user_index", "item_index", "rank_current", "rank_candidate", "new_user", "new_item", "top_n")
#: Versions made before it was written do not have it.
AMONG_KNOWN = "rank_among_known"


@dataclass(frozen=True)
class GateEvents:
    """G hidden events, columns (G,).

    Ranks are exact below ``top_n`` and ``top_n`` otherwise, also for a user or item that the model does not know;
    ``rank_current`` is -1 where there is no current version to compare with. ``new_user`` and ``new_item`` mark what
    the current version does not know. ``rank_among_known`` is the candidate's rank among the items that the current
    version knows: what is compared on old items, as new ones take places that the current version cannot give them.
    """

    user_index: NDArray[np.int64]
    item_index: NDArray[np.int64]
    rank_current: NDArray[np.int64]
    rank_candidate: NDArray[np.int64]
    new_user: NDArray[np.bool_]
    new_item: NDArray[np.bool_]
    rank_among_known: NDArray[np.int64]
    top_n: int

    def __len__(self) -> int:
        return len(self.user_index)

    def compared_with(self, other: GateEvents) -> GateEvents:
        """The same events, with what ``other``'s candidate made of them as the current ranks.

        For two models of one span that were kept from the same events; those that only one hides are not compared.
        """
        if not len(self) or not len(other):
            return self
        place = np.searchsorted(other.user_index, self.user_index).clip(max=len(other) - 1)
        same = (other.user_index[place] == self.user_index) & (other.item_index[place] == self.item_index)
        return replace(
            self,
            rank_current=np.where(same, other.rank_candidate[place], -1),
            new_user=np.where(same, other.new_user[place], self.new_user),
            new_item=np.where(same, other.new_item[place], self.new_item),
            rank_among_known=self.rank_candidate,  # both have the span's items
        )

    def write(self, folder: Path) -> None:
        """Write ``gate.parquet``."""
        current = pa.array(self.rank_current, mask=self.rank_current < 0)
        columns = [self.user_index, self.item_index, current, self.rank_candidate, self.new_user, self.new_item]
        columns += [np.full(len(self), self.top_n), self.rank_among_known]
        names = [*COLUMNS, AMONG_KNOWN]
        write_table(pa.table([pa.array(column) for column in columns], names=names), folder / GATE_FILE)

    @classmethod
    def read(cls, folder: Path) -> GateEvents:
        """The events of a version folder; none if it was made without. Raises ParquetFileError if damaged."""
        if not is_stored(folder / GATE_FILE):
            return no_events()
        later = AMONG_KNOWN in column_names(folder / GATE_FILE)
        table = read_table(folder / GATE_FILE, [*COLUMNS, AMONG_KNOWN] if later else COLUMNS)
        current = table["rank_current"].fill_null(-1)
        top_n = table["top_n"].to_numpy()
        return cls(
            user_index=table["user_index"].to_numpy().copy(),
            item_index=table["item_index"].to_numpy().copy(),
            rank_current=current.to_numpy().copy(),
            rank_candidate=table["rank_candidate"].to_numpy().copy(),
            new_user=table["new_user"].to_numpy().copy(),
            new_item=table["new_item"].to_numpy().copy(),
            rank_among_known=table[AMONG_KNOWN if later else "rank_candidate"].to_numpy().copy(),
            top_n=int(top_n[0]) if len(top_n) else 1,
        )


def no_events() -> GateEvents:
    """Nothing was hidden."""
    none, never = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
    return GateEvents(none, none, none, none, never, never, none, 1)


def rank_hidden(hidden: SpanSequences, before: ModelState | None, after: ModelState, top_n: int) -> GateEvents:
    """Rank each hidden event over the whole catalogue of the model ``before`` the span, if any, and ``after``.

    Both must hold the interests of the hidden users; those of ``after`` must not know the events.
    """
    if not hidden.n_events:
        return no_events()
    users, items = hidden.users[hidden.rows], hidden.items
    known_items = before.n_items if before is not None else None
    (candidate, among), _ = ranks_among(after, hidden, top_n, (None, known_items))
    current = np.full(len(users), -1, dtype=np.int64)
    new_user, new_item = np.ones(len(users), dtype=bool), np.ones(len(users), dtype=bool)
    if before is not None:
        current = rank_events(before, hidden, top_n)[0].numpy()
        new_user = (before.store.counts_of(torch.from_numpy(users)) == 0).numpy()
        new_item = items >= before.n_items
    return GateEvents(users, items, current, candidate.numpy(), new_user, new_item, among.numpy(), top_n)


def salt_of(seed: int, span_id: str) -> int:
    """What decides whose events of a span are hidden."""
    return int.from_bytes(hashlib.sha256(f"{seed} {span_id}".encode()).digest()[:8], "big")
