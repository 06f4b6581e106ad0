"""`imsr sql` and `imsr views`: what the workspace holds, to whoever asks in SQL."""

from __future__ import annotations

import itertools
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.answers import answer, flat
from flows.commands.options import WorkspaceOption
from flows.console import console, say, show_table
from imsr_core.counted import counted
from imsr_core.errors import ConfigError
from pipelines.warehouse.catalog import connect, publish_catalog
from pipelines.warehouse.dictionary import dictionary_page, words
from pipelines.warehouse.sandbox import FilesGone, run_query
from pipelines.workspace.engine import literal
from pipelines.workspace.layout import Workspace


def sql(
    query: Annotated[str, typer.Argument(help="SQL; '-' reads it from standard input.")],
    workspace: WorkspaceOption = Path("."),
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="Rows of a table at most; 0 = all. CSV and JSON have all.")
    ] = 50,
) -> None:
    """Query the workspace with DuckDB, also while a run is writing.

    Views: spans, interactions, quarantine, users, items, sequences, versions, promotions, verdicts, metrics, drift,
    span_metrics, forgetting, interests, interest_history, interest_counts, interest_histogram, interest_count_history,
    interest_changes, interest_items, interest_overlap, user_items, item_neighbours, item_metadata, user_segments,
    score_weights, recommendations, tasks, task_metrics; and, of a version, interests_as_of('VERSION') and
    interest_counts_as_of('VERSION').
    The session reads the workspace and nothing else.
    """
    text = _standard_input() if query == "-" else query
    opened = Workspace.open(workspace)
    if csv or answer.as_json:
        limit = 0
    most = limit + 1 if limit else None
    try:
        columns, rows = _answer(opened, text, most)
    except FilesGone:  # pruned or rewritten at this very moment: the views name others by now
        columns, rows = _answer(opened, text, most)
    shown = rows[: limit or None]
    if csv:
        _print_csv(columns, shown)
        return
    show_table("", columns, shown, as_objects=_named(columns, shown))
    if len(shown) < len(rows):
        console.print(f"(the first {counted(limit, 'row')}; --limit 0 shows all)")


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the query cannot be read: {error}", hint="it is to be UTF-8") from error


def _answer(workspace: Workspace, query: str, most: int | None) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The columns and rows of a query, in a session of its own."""
    with connect(workspace) as connection:
        result = run_query(connection, query)
        columns = [column[0] for column in result.description or []]
        return columns, result.fetchall() if most is None else result.fetchmany(most)


def views(
    workspace: WorkspaceOption = Path("."),
    dictionary: Annotated[
        bool, typer.Option("--dictionary", help="Print what every view and column is, as Markdown.")
    ] = False,
) -> None:
    """Write views.sql and catalog.duckdb anew, and say how to use them from the duckdb shell and from Python."""
    opened = Workspace.open(workspace)
    if dictionary:
        publish_catalog(opened)  # as an older release wrote them they have other words
        with connect(opened) as connection:
            page = dictionary_page(connection)
        answer.fact(views=words())
        if not answer.as_json and not answer.quiet:
            typer.echo(page, nl=False)
        return
    publish_catalog(opened, anew=True)
    answer.fact(views=opened.views_file, catalog=opened.catalog_file)
    root, catalog = shlex.quote(str(opened.root)), shlex.quote(str(opened.catalog_file))
    say(f"duckdb shell   duckdb -readonly {catalog}")
    say(f"or             cd {root} && duckdb -init {opened.views_file.name}")
    say(f"elsewhere      SET VARIABLE workspace = {literal(str(opened.root))}; ATTACH, or .read them")
    say("Python         from pipelines.warehouse.catalog import connect")
    say(f"               connect({str(opened.root)!r}).sql('FROM spans')")


def _named(columns: list[str], rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Rows of a query as objects: their columns are named as the query names them, a second "a" as ``a_1``."""
    names: list[str] = []
    for column in columns:
        others = (f"{column}_{n}" for n in itertools.count(1))
        names.append(column if column not in names else next(name for name in others if name not in [*names, *columns]))
    return [dict(zip(names, row, strict=True)) for row in rows]


def _print_csv(columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    """Lines end as a shell's tools want them; a row with a CR in it is quoted, which is not done by itself then."""
    import csv as csv_module

    plain = csv_module.writer(sys.stdout, lineterminator="\n")
    quoted = csv_module.writer(sys.stdout, lineterminator="\n", quoting=csv_module.QUOTE_ALL)
    for row in itertools.chain([columns], rows):
        cells = [flat(cell) if isinstance(cell, dict | list | bytes) else cell for cell in row]
        (quoted if any("\r" in cell for cell in cells if isinstance(cell, str)) else plain).writerow(cells)
