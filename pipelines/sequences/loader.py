"""Sequences from Parquet to the arrays that the models read."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imsr_core.ragged import SpanSequences, concatenate, empty_sequences, take_rows
from pipelines.workspace.editions import plain, stored_files
from pipelines.workspace.parquet_files import ParquetFileError, read_table

IntArray = NDArray[np.int64]
_KINDS = {"user_index": pa.int64(), "items": pa.list_(pa.int64()), "timestamps": pa.list_(pa.int64())}


def load_sequences(
    folder: Path, *, users: IntArray | None = None, files: Container[str] | None = None
) -> SpanSequences:
    """The sequences of one span, users in increasing order.

    Args:
        folder: a published ``sequences/span=<id>/<fingerprint>`` folder.
        users: (n,) user indices to keep; all without it. Users whom the span does not have are left out.
        files: the names of the files that these users can be in; all without it.

    Raises:
        ParquetFileError: the folder or a file is missing or damaged; the message names it.
        SequenceError: the values are not valid sequences.
    """
    if not folder.is_dir():
        raise ParquetFileError(f"{folder}: no such folder", hint="run: imsr doctor")
    found = [f for f in stored_files(folder, "bucket=*.parquet") if files is None or plain(f).name in files]
    having = None if users is None else ("user_index", users)
    tables = [read_table(file, list(_KINDS), kinds=_KINDS, having=having) for file in found]
    if users is not None:
        wanted = pa.array(users, pa.int64())
        tables = [table.filter(pc.is_in(table["user_index"], value_set=wanted)) for table in tables]
    return _sequences_in(tables)


def load_bucket(folder: Path, number: int) -> SpanSequences:
    """The sequences of one file of a span: of a part of its users, by a hash of their id. Empty if there are fewer."""
    files = stored_files(folder, "bucket=*.parquet")[number : number + 1]
    return _sequences_in([read_table(file, list(_KINDS), kinds=_KINDS) for file in files])


def _sequences_in(tables: Sequence[pa.Table]) -> SpanSequences:
    if not tables:
        return empty_sequences()
    table = pa.concat_tables(tables)
    counts = pc.list_value_length(table["items"]).to_numpy()
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    unsorted = SpanSequences(
        users=table["user_index"].to_numpy(),
        offsets=offsets,
        items=pc.list_flatten(table["items"]).to_numpy(),
        timestamps=pc.list_flatten(table["timestamps"]).to_numpy(),
    )
    return take_rows(unsorted, np.argsort(unsorted.users)).validate()


def load_history(
    folders: Sequence[Path], *, users: IntArray | None = None, files: Container[str] | None = None
) -> SpanSequences:
    """Several spans as one sequence per user, oldest folder first (see ``load_sequences``)."""
    return concatenate([load_sequences(folder, users=users, files=files) for folder in folders])
