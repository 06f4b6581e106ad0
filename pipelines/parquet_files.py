"""Parquet files that are complete or absent: written aside, flushed, then given their name."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from imsr_core.errors import ImsrError

#: Ends the name of a file that is being written; whoever publishes a folder removes what is left of them.
TEMPORARY_SUFFIX = ".tmp"


class ParquetFileError(ImsrError):
    """A Parquet file that is missing, damaged, or lacks a column."""


def write_table(table: pa.Table, path: Path, *, row_group_size: int = 131_072) -> None:
    """Write a table so that ``path`` is the whole file or does not change; safe to repeat.

    The same table gives the same bytes. Pages carry checksums, so damage is found on reading.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        with open(temporary, "wb") as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True, row_group_size=row_group_size)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_table(path: Path, columns: Sequence[str], *, dictionaries: Sequence[str] = ()) -> pa.Table:
    """Read columns of one file, with page checksums verified.

    Args:
        path: the file.
        columns: what to read, in this order.
        dictionaries: those of ``columns`` to read as dictionary arrays.

    Raises:
        ParquetFileError: the file is missing or damaged, or has no such column.
    """
    try:
        with pq.ParquetFile(path, read_dictionary=list(dictionaries), page_checksum_verification=True) as file:
            missing = [column for column in columns if column not in file.schema_arrow.names]
            table = None if missing else file.read(columns=list(columns))
    except FileNotFoundError as error:
        raise ParquetFileError(f"{path}: no such file", hint="run `imsr doctor`") from error
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a column's name that is no UTF-8
        raise ParquetFileError(f"{path}: damaged Parquet file: {error}", hint="run `imsr doctor`") from error
    if table is None:
        raise ParquetFileError(f"{path}: no column {', '.join(missing)}", hint="run `imsr doctor`")
    return table.select(list(columns))
