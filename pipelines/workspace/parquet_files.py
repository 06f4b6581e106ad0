"""Parquet files that are complete or absent: written aside, flushed, then given their name."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imsr_core.errors import ImsrError
from pipelines.workspace.editions import opened

#: Ends the name of a file that is being written; whoever publishes a folder removes what is left of them.
TEMPORARY_SUFFIX = ".tmp"
#: What an error about a damaged file advises.
ADVICE = "run `imsr doctor`"
NO_KINDS: Mapping[str, pa.DataType] = MappingProxyType({})


class ParquetFileError(ImsrError):
    """A Parquet file that is missing, damaged, or lacks a column."""


def write_table(table: pa.Table, path: Path, *, row_group_size: int = 131_072, rising: Sequence[str] = ()) -> None:
    """Write a table so that ``path`` is the whole file or does not change; safe to repeat.

    The same table gives the same bytes. Pages carry checksums, so damage is found on reading. Integers of ``rising``
    columns, which rise for long stretches, are written as differences.
    """
    write_tables([table], path, row_group_size=row_group_size, rising=rising)


def write_tables(
    tables: Iterable[pa.Table], path: Path, *, row_group_size: int = 131_072, rising: Sequence[str] = ()
) -> None:
    """The same for a table that comes in pieces, at least one, of which one is in memory at a time."""
    pieces = iter(tables)
    first = next(pieces)
    how = {"column_encoding": dict.fromkeys(rising, "DELTA_BINARY_PACKED")} if rising else {}
    plain = [name for name in first.column_names if name not in rising] if rising else True
    with (
        _replacing(path) as file,
        pq.ParquetWriter(
            file, first.schema, compression="zstd", write_page_checksum=True, use_dictionary=plain, **how
        ) as writer,
    ):
        for table in chain([first], pieces):
            writer.write_table(table, row_group_size=row_group_size)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of ``path`` when it is whole."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def column_names(path: Path) -> list[str]:
    """The names of a file's columns. Raises ParquetFileError if it is missing or damaged."""
    try:
        return opened(path, lambda stored: list(pq.read_schema(stored).names))
    except FileNotFoundError as error:
        raise ParquetFileError(f"{path}: no such file", hint=ADVICE) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ParquetFileError(f"{path}: damaged Parquet file: {error}", hint=ADVICE) from error


def row_count(path: Path) -> int:
    """How many rows a file has, from its footer. Raises ParquetFileError if it is missing or damaged."""
    try:
        return int(opened(path, pq.read_metadata).num_rows)
    except FileNotFoundError as error:
        raise ParquetFileError(f"{path}: no such file", hint=ADVICE) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ParquetFileError(f"{path}: damaged Parquet file: {error}", hint=ADVICE) from error


def read_table(
    path: Path,
    columns: Sequence[str],
    *,
    dictionaries: Sequence[str] = (),
    kinds: Mapping[str, pa.DataType] = NO_KINDS,
    having: tuple[str, NDArray[np.int64]] | None = None,
) -> pa.Table:
    """Read columns of one file, in whichever edition it is there, with page checksums verified.

    Args:
        path: the file.
        columns: what to read, in this order.
        dictionaries: those of ``columns`` to read as dictionary arrays.
        kinds: the types that columns must have.
        having: an integer column and the keys that are wanted of it. Row groups that can hold none of them, by their
            statistics, are not read; what comes back may have other rows all the same.

    Raises:
        ParquetFileError: the file is missing or damaged, or has no such column, or one of another type.
    """
    missing: list[str] = []
    wrong = ""

    def read(stored: Path) -> pa.Table | None:
        nonlocal missing, wrong
        with pq.ParquetFile(stored, read_dictionary=list(dictionaries), page_checksum_verification=True) as file:
            missing = [column for column in columns if column not in file.schema_arrow.names]
            wrong = _wrong_kind(file.schema_arrow, kinds)
            return None if missing or wrong else _read(file, list(columns), having)

    try:
        table = opened(path, read)
    except FileNotFoundError as error:
        raise ParquetFileError(f"{path}: no such file", hint=ADVICE) from error
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a column's name that is no UTF-8
        raise ParquetFileError(f"{path}: damaged Parquet file: {error}", hint=ADVICE) from error
    if table is None:
        problem = f"no column {', '.join(missing)}" if missing else wrong
        raise ParquetFileError(f"{path}: {problem}", hint=ADVICE)
    return table.select(list(columns))


def _read(file: pq.ParquetFile, columns: list[str], having: tuple[str, NDArray[np.int64]] | None) -> pa.Table:
    return file.read(columns=columns) if having is None else file.read_row_groups(groups_with(file, *having), columns)


def groups_with(file: pq.ParquetFile, column: str, keys: NDArray[np.int64]) -> list[int]:
    """The row groups of a file that can hold one of the keys in an integer column."""
    keys = np.sort(keys)
    place = file.schema_arrow.get_field_index(column)
    found = []
    for number in range(file.num_row_groups):
        statistics = file.metadata.row_group(number).column(place).statistics
        if statistics is None or not statistics.has_min_max:
            found.append(number)
            continue
        first, after = np.searchsorted(keys, statistics.min), np.searchsorted(keys, statistics.max, side="right")
        found += [number] if first < after else []
    return found


def _wrong_kind(schema: pa.Schema, kinds: Mapping[str, pa.DataType]) -> str:
    found = {name: schema.field(name).type for name in kinds if name in schema.names}
    decoded = {name: t.value_type if pa.types.is_dictionary(t) else t for name, t in found.items()}
    wrong = [f"column {name} is {t}, not {kinds[name]}" for name, t in decoded.items() if t != kinds[name]]
    return "; ".join(wrong)
