"""What a strategy remembers of users, as Parquet: ``memory-<owner>.parquet``, one row for each thing remembered.

user_index   the user whom the row is about, so that the user can be forgotten
and one column for each other tensor of the owner in `imsr_core.state.ModelState.user_memory`
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from pipelines.workspace.editions import plain, stored_files
from pipelines.workspace.parquet_files import column_names, read_table, write_table


def write_user_memory(memory: dict[str, Tensor], folder: Path) -> None:
    """Write a file for each owner of tensors; none if nothing is remembered."""
    tables: dict[str, dict[str, pa.Array]] = {}
    for name, tensor in sorted(memory.items()):
        owner, _, column = name.partition(".")
        tables.setdefault(owner, {})["user_index" if column == "user" else column] = _array(tensor)
    for owner, columns in tables.items():
        write_table(pa.table(columns), folder / f"memory-{owner}.parquet")


def read_user_memory(folder: Path) -> dict[str, Tensor]:
    """What was written. Raises `ParquetFileError` if a file is damaged."""
    memory: dict[str, Tensor] = {}
    for path in stored_files(folder, "memory-*.parquet"):
        owner = plain(path).stem.removeprefix("memory-")
        table = read_table(path, column_names(path))
        for column in table.column_names:
            memory[f"{owner}.{'user' if column == 'user_index' else column}"] = _tensor(table[column])
    return memory


def _array(tensor: Tensor) -> pa.Array:
    """Rows of one number, or of equally many."""
    flat = pa.array(tensor.contiguous().numpy().ravel())
    return flat if tensor.dim() == 1 else pa.FixedSizeListArray.from_arrays(flat, tensor.shape[1])


def _tensor(column: pa.ChunkedArray) -> Tensor:
    if not pa.types.is_fixed_size_list(column.type):
        return torch.from_numpy(column.to_numpy().copy())
    width = column.type.list_size
    flat = pc.list_flatten(column).to_numpy()
    return torch.from_numpy(flat.copy()).view(-1, width)
