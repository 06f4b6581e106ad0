"""New items after T1: rows are appended to the item table, and nothing that was learnt before changes.

None of the three papers defines this. Decided:

- A row belongs to the first task learnt after it was appended; that task trains it, then it is frozen like the
  rest of the table (methods that train the whole table for ever, TERACON and SinMoAll, keep training it).
- A task of a frozen method knows the items that existed when it was learnt, and reads newer ones as UNKNOWN. So
  its scores cannot depend on rows appended later.
- T1's output layer stays closed: a new item can be an input, not a prediction, until T1 is learnt anew.
"""

from __future__ import annotations

import torch
from torch import Tensor

from imsr_core.counted import counted
from imsr_core.encoders.build import initial_rows
from imsr_core.encoders.protocol import ITEM_TABLE
from imsr_core.encoders.tokens import FIRST_ITEM
from imsr_core.lifelong.errors import TaskError
from imsr_core.lifelong.seeds import phase_seed
from imsr_core.lifelong.state import LifelongState

TABLE = f"encoder/{ITEM_TABLE}"
TABLE_OWNER = f"owner/{ITEM_TABLE}"


def grow_items(state: LifelongState, n_items: int, seed: int) -> LifelongState:
    """A version that knows ``n_items`` items: fresh rows are appended, old rows are the same bit for bit.

    Raises:
        TaskError: the version already has more items than that (rows are never removed).
    """
    added = n_items - state.n_items
    if added < 0:
        raise TaskError(
            f"this version has {counted(state.n_items, 'item')}, not {n_items}", hint="indices are append-only"
        )
    if added == 0:
        return state
    generator = torch.Generator().manual_seed(phase_seed(seed, f"items {state.n_items}", "new rows"))
    table = state.tensors[TABLE]
    changed = {TABLE: torch.cat([table, initial_rows(added, table.shape[1], generator).to(table.device)])}
    if TABLE_OWNER in state.tensors:  # Conure with a pruned table: new weights are free
        owner = state.tensors[TABLE_OWNER]
        changed[TABLE_OWNER] = torch.cat([owner, owner.new_zeros(added, owner.shape[1])])
    return state.replaced(changed, n_items=n_items)


def first_open_row(state: LifelongState) -> int:
    """Table row from which on no task has trained the item table; its length where all are trained."""
    return FIRST_ITEM + max(task.n_items for task in state.tasks)


def open_rows(state: LifelongState) -> dict[str, Tensor]:
    """``rows``: the (n, d) table rows that the next task of a frozen method trains; empty where there are none."""
    rows = state.tensors[TABLE][first_open_row(state) :]
    return {"rows": rows} if len(rows) else {}


def merged_table(state: LifelongState, learnt: dict[str, Tensor]) -> dict[str, Tensor]:
    """The item table with what a task learnt of ``open_rows``, for the new version; empty without."""
    if "rows" not in learnt:
        return {}
    return {TABLE: torch.cat([state.tensors[TABLE][: first_open_row(state)], learnt["rows"]])}
