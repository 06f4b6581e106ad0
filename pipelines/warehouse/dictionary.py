"""What every view and column is, in words: the comments in the database, and the page made from them.

The words stand in ``dictionary.toml``. A session has them (`DESCRIBE` does not show them; `duckdb_views()` and
`duckdb_columns()` do, and most clients beside the names), and so has ``catalog.duckdb``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files as resource_files
from typing import Any

import duckdb

from pipelines.workspace.engine import literal

SHARED = "shared"
#: Sections that describe a macro; they have no columns of their own.
MACROS = ("interests_as_of", "interest_counts_as_of")

_HEAD = """# Data dictionary

What the views of a workspace show: `imsr sql "FROM spans"`, `catalog.duckdb` in a DuckDB shell, or `views.sql` in any
session ([how](operations.md#sql-of-people-that-one-does-not-know)). The words are comments in the database, too:

```sql
SELECT view_name, comment FROM duckdb_views() WHERE NOT internal;
SELECT column_name, data_type, comment FROM duckdb_columns() WHERE table_name = 'spans';
```

`catalog.duckdb` has a storage format that DuckDB 1.1 and everything since opens (tried: 1.1.3, 1.2.2, 1.3.2, 1.4.4,
2.0.1). This page is written by `imsr views --dictionary`.
"""


@cache
def words() -> dict[str, dict[str, Any]]:
    """View -> ``about`` and ``columns`` (name -> words), with what is shared filled in."""
    text = resource_files("pipelines.warehouse").joinpath("dictionary.toml").read_text(encoding="utf-8")
    sections = tomllib.loads(text)
    shared = sections.pop(SHARED)
    return {
        name: {
            "about": section["about"],
            "columns": {column: said or shared[column] for column, said in section.get("columns", {}).items()},
        }
        for name, section in sections.items()
    }


def comments() -> str:
    """The words as SQL, a statement each; the views must be there."""
    return "".join(f"{statement};\n" for statement in _statements())


def _statements() -> Iterator[str]:
    for name, section in words().items():
        kind = "MACRO TABLE" if name in MACROS else "VIEW"
        yield f"COMMENT ON {kind} {name} IS {literal(section['about'])}"
        for column, said in section["columns"].items():
            yield f'COMMENT ON COLUMN {name}."{column}" IS {literal(said)}'


def dictionary_page(connection: duckdb.DuckDBPyConnection) -> str:
    """The data dictionary as Markdown, from the comments of a session's views."""
    parts = [_HEAD]
    abouts = dict(connection.execute("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal").fetchall())
    columns = connection.execute(
        "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() WHERE NOT internal "
        "ORDER BY table_name, column_index"
    ).fetchall()
    for name in words():
        if name in MACROS:
            parts.append(f"\n## `{name}(version)`\n\n{words()[name]['about']}\n")
            continue
        rows = [row[1:] for row in columns if row[0] == name]
        table = "".join(f"| `{column}` | {kind} | {_cell(said)} |\n" for column, kind, said in rows)
        parts.append(f"\n## `{name}`\n\n{abouts[name]}\n\n| column | type | what it is |\n|---|---|---|\n{table}")
    return "".join(parts)


def _cell(said: str | None) -> str:
    return (said or "a column of the table").replace("|", r"\|")
