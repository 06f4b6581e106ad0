"""A DuckDB session that finds the workspace's files, wherever the workspace lies.

Views name files from the workspace on, so that a copied or moved workspace, or one that a container sees at another
place, shows its own files and not those of where it was made. DuckDB knows nothing of where a view comes from, but
by default it puts its temporary files beside the database: ``<workspace>/catalog.duckdb.tmp``. Whoever opens
``catalog.duckdb`` gets the workspace's folder from there. A session on another database (``ATTACH``, or ``views.sql``
in memory) says where it is, ``SET VARIABLE workspace = '/data/shop'``, or is started in the workspace's folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import duckdb

from pipelines.workspace.engine import duckdb_session, literal
from pipelines.workspace.layout import Workspace

#: SQL for the workspace's folder with a slash at its end, or nothing: then names start from the current folder. What
#: stands in a folder's name is no pattern.
ROOT = (
    r"regexp_replace(coalesce(getvariable('workspace')::VARCHAR || '/', "
    r"regexp_extract(current_setting('temp_directory'), '^(.*/)catalog\.duckdb\.tmp$', 1), ''), "
    r"'([\[*?])', '[\1]', 'g')"
)


def open_session(
    workspace: Workspace, database: Path | str = ":memory:", *, read_only: bool = False, **config: str
) -> duckdb.DuckDBPyConnection:
    """A session in UTC that loads no extension and spills beside the workspace's catalog."""
    return duckdb_session(database, read_only=read_only, temp_directory=f"{workspace.catalog_file}.tmp", **config)


def literals(texts: Iterable[str]) -> str:
    """A list of strings in SQL."""
    return "[" + ", ".join(literal(text) for text in texts) + "]"


def literally(path: Path | str) -> str:
    """A path as DuckDB's readers want it: what stands in a name is no pattern."""
    return re.sub(r"[\[*?]", r"[\g<0>]", str(path))
