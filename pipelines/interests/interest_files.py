"""Interests as Parquet: one row an interest, written for the users whose interests a span touched.

    version_id, span_id, user_id, user_index, interest_id, born_span, active_span, support, norm, vector FLOAT[d],
    overlap with the nearest older interest of the user, and for self-attention query FLOAT[q], query_moment1,
    query_moment2, query_steps

The interests *as of* a version are, for each user, the rows of the newest file in its chain that has the user. A
chain starts over with a file of everybody when its files hold more than twice what is alive, so that reading stays
proportional to the users and not to the age of the chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.interests import InterestStore
from imsr_core.overlap import overlap
from imsr_core.sorted_keys import IntArray, is_in, unique
from pipelines.workspace.parquet_files import ParquetFileError, read_pieces, read_table, row_count, write_tables

#: A chain with more rows than this times the living interests is written anew as one file.
COMPACTION_FACTOR = 2.0

#: Users whose rows are made ready to be written at once.
CHUNK_USERS = 16_384
#: Rows of a row group: who reads one user reads so many; fewer where a vector has more than so many numbers.
GROUP_ROWS, GROUP_DIM = 4_096, 64
#: Columns that readers look for rows by: the others' least and largest values would be most of a footer, which every
#: reader reads.
SOUGHT = ("version_id", "span_id", "user_id", "user_index")

_QUERY_COLUMNS = ("query", "query_moment1", "query_moment2")


def write_interests(
    store: InterestStore, user_ids: pa.ChunkedArray, spans: Sequence[str], version_id: str, path: Path
) -> None:
    """Write a store to ``path``, a chunk of users at a time.

    ``user_ids`` are the ids of ``store.users``, in that order; ``spans`` names the span of each ordinal.
    """
    tables = (_table(part, ids, spans, version_id) for part, ids in chunks(store, user_ids))
    rows = max(1, GROUP_ROWS * GROUP_DIM // max(store.dim, GROUP_DIM))
    write_tables(tables, path, row_group_size=rows, statistics=SOUGHT)


def chunks(store: InterestStore, user_ids: pa.ChunkedArray) -> Iterator[tuple[InterestStore, pa.ChunkedArray]]:
    """The store in pieces of whole users, at least one piece, with the users' ids."""
    ends = store.counts.cumsum(0)
    for first in range(0, max(len(ends), 1), CHUNK_USERS):
        last = min(first + CHUNK_USERS, len(ends))
        rows = slice(int(ends[first - 1]) if first else 0, int(ends[last - 1]) if last else 0)
        yield store.take(rows), user_ids.slice(first, last - first)


def _table(store: InterestStore, user_ids: pa.ChunkedArray, spans: Sequence[str], version_id: str) -> pa.Table:
    counts = store.counts.numpy()
    labels = pa.array(spans, pa.string())
    columns: dict[str, pa.Array] = {
        "version_id": pa.array([version_id] * len(store), pa.string()),
        "span_id": pa.array([spans[-1]] * len(store), pa.string()),
        "user_id": user_ids.take(pa.array(np.repeat(np.arange(len(counts)), counts))),
        "user_index": _integers(store.user),
        "interest_id": _integers(store.interest_id),
        "born": _integers(store.born),
        "active": _integers(store.active),
        "born_span": labels.take(_integers(store.born)),
        "active_span": labels.take(_integers(store.active)),
        "support": _integers(store.support),
        "norm": pa.array(store.vectors.norm(dim=1).numpy()),
        "overlap": pa.array(overlaps(store).numpy(), from_pandas=True),  # NaN: NULL
        "vector": _vectors(store.vectors),
    }
    if store.queries.shape[1]:
        moments = store.query_moments
        for name, part in zip(_QUERY_COLUMNS, (store.queries, moments[:, 0], moments[:, 1]), strict=True):
            columns[name] = _vectors(part)
        columns["query_steps"] = pa.array(store.query_steps.numpy())
    return pa.table(columns)


def overlaps(store: InterestStore) -> Tensor:
    """The overlap (R,) of each interest with the older ones of its user; see `imsr_core.overlap`."""
    return overlap(store.vectors, torch.repeat_interleave(store.counts.cumsum(0) - store.counts, store.counts))


def read_interests(chain: Sequence[Path], dim: int, query_units: int, users: IntArray | None = None) -> InterestStore:
    """The interests as of the last file of ``chain`` (oldest first), of ``users`` or of everybody.

    Of a few users only the row groups are read that may hold them: the files are sorted by user. A few row groups are
    there at once, beside what is returned.

    Raises:
        ParquetFileError: a file is missing or damaged, or holds vectors of another length.
    """
    names = _names(query_units)
    parts, found = [InterestStore.empty(dim, query_units)], np.zeros(0, dtype=np.int64)
    for path in reversed(chain):
        newest = partial(_newest, newer=found, users=users, dim=dim, query_units=query_units, path=path)
        pieces = read_pieces(path, names, newest, having=None if users is None else ("user_index", users))
        found = unique(np.concatenate([found, *(owners for owners, _ in pieces)]))
        parts += [part for _, part in pieces]
        if users is not None and is_in(users, found).all():
            break
    return InterestStore.of_parts(parts)


def not_finite(path: Path, dim: int, query_units: int) -> IntArray:
    """The users (U,) of a file some of whose interests hold NaN or infinite values; a few row groups are there at once.

    Raises:
        ParquetFileError: the file is missing or damaged, or holds vectors of another length.
    """

    def look(table: pa.Table) -> IntArray:
        store = _store(table, dim, query_units, path)
        sound = store.vectors.isfinite().all(1) & store.queries.isfinite().all(1)
        return unique(store.user[~sound].numpy())

    return unique(np.concatenate(read_pieces(path, _names(query_units), look)))


def _names(query_units: int) -> list[str]:
    """The columns that a store is made of."""
    names = ["user_index", "interest_id", "born", "active", "support", "vector"]
    return names + ([*_QUERY_COLUMNS, "query_steps"] if query_units else [])


def _newest(
    table: pa.Table, newer: IntArray, users: IntArray | None, dim: int, query_units: int, path: Path
) -> tuple[IntArray, InterestStore]:
    """Whose the rows of a table are, and those of who is not among ``newer``, of ``users`` alone if they are named."""
    owner = table["user_index"].to_numpy()
    wanted = ~is_in(owner, newer)
    if users is not None:
        wanted &= is_in(owner, users)
    return unique(owner), _store(table.filter(pa.array(wanted)), dim, query_units, path)


def member_file(folder: Path, number: int) -> Path:
    """The interests of the further member ``number`` (from 1) in a version folder: rows like those of the first."""
    return folder / f"member-{number}.parquet"


def rows_in(chain: Sequence[Path]) -> int:
    """Rows of all files of a chain, living or superseded."""
    return sum(row_count(path) for path in chain)


def owners_in(path: Path) -> NDArray[np.int64]:
    """The users (U,) whose interests a file has, ascending."""
    return unique(read_table(path, ["user_index"])["user_index"].to_numpy())


def _store(table: pa.Table, dim: int, query_units: int, path: Path) -> InterestStore:
    rows = table.num_rows

    def integers(name: str) -> Tensor:
        return torch.from_numpy(table[name].to_numpy().copy())

    def vectors(name: str, width: int) -> Tensor:
        kind = table.schema.field(name).type
        flat = pc.list_flatten(table[name]).to_numpy() if pa.types.is_nested(kind) else np.zeros(0)
        if flat.dtype != np.float32 or len(flat) != rows * width:
            raise ParquetFileError(f"{path}: {name} is not of length {width}, or no floats", hint="run `imsr doctor`")
        return torch.from_numpy(flat.reshape(rows, width).copy())

    queries, moments, steps = torch.zeros(rows, 0), torch.zeros(rows, 2, 0), torch.zeros(rows)
    if query_units:
        queries, first, second = (vectors(name, query_units) for name in _QUERY_COLUMNS)
        moments = torch.stack([first, second], 1)
        steps = torch.from_numpy(table["query_steps"].to_numpy().copy())
    return InterestStore(
        user=integers("user_index"),
        interest_id=integers("interest_id"),
        born=integers("born"),
        active=integers("active"),
        support=integers("support"),
        vectors=vectors("vector", dim),
        queries=queries,
        query_moments=moments,
        query_steps=steps,
    )


def _integers(values: Tensor) -> pa.Array:
    return pa.array(values.numpy())


def _vectors(values: Tensor) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.contiguous().numpy().ravel()), values.shape[1])
