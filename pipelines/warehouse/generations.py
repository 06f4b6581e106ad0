"""The generations of the views' own files: the ledger's tables as they were at each publish, ``catalog/g<N>/``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import ParquetFileError, read_table

#: Older generations are kept for sessions that still read them.
KEPT_GENERATIONS = 20


def make_generation(workspace: Workspace) -> Path:
    """A new empty folder, numbered after all others."""
    while True:
        numbers = [int(path.name[1:]) for path in generations(workspace)]
        folder = workspace.root / "catalog" / f"g{max(numbers, default=0) + 1:08d}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # another process publishes, too
            continue
        return folder


def generations(workspace: Workspace) -> list[Path]:
    """The folders that are there, the oldest first."""
    return sorted((workspace.root / "catalog").glob("g" + "[0-9]" * 8))


def drop_old_generations(workspace: Workspace) -> None:
    """Remove those that no session can be expected to read any more."""
    for folder in generations(workspace)[:-KEPT_GENERATIONS]:
        shutil.rmtree(folder)


def drop_generations_with(workspace: Workspace, pattern: str) -> None:
    """Remove older generations whose text (of errors, for one) matches a regular expression (RE2).

    Those that are damaged go, too: nobody can say what is in them, nor read it.
    """
    for folder in generations(workspace)[:-1]:
        if any(_matches(path, pattern) for path in sorted(folder.glob("*.parquet"))):
            shutil.rmtree(folder)


def _matches(path: Path, pattern: str) -> bool:
    try:
        names = [field.name for field in pq.read_schema(path) if pa.types.is_string(field.type)]
        texts = read_table(path, names).columns
    except (ParquetFileError, pa.ArrowException, OSError):
        return True
    return any(pc.any(pc.match_substring_regex(column, pattern)).as_py() for column in texts)
