"""Every view and column is said in words, in the database and on the page, and neither says what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_world import TOML

from pipelines.warehouse import dictionary
from pipelines.warehouse.catalog import connect
from pipelines.warehouse.dictionary import MACROS, comments, dictionary_page, words
from pipelines.warehouse.sandbox import QueryError, define_views
from pipelines.workspace.engine import duckdb_session
from pipelines.workspace.layout import Workspace

PAGE = Path(__file__).parents[3] / "docs" / "data-dictionary.md"


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A session on the views of a new workspace: their columns do not depend on what is in it."""
    with connect(Workspace.create(tmp_path_factory.mktemp("empty") / "w", TOML)) as connection:
        yield connection


def views_of(connection):
    found: dict[str, list[str]] = {}
    query = "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal ORDER BY column_index"
    for view, column in connection.execute(query).fetchall():
        found.setdefault(view, []).append(column)
    return found


def test_the_words_are_of_every_view_and_column_and_of_no_other(empty):
    said = {name: list(section["columns"]) for name, section in words().items() if name not in MACROS}
    assert {name: set(columns) for name, columns in said.items()} == {
        name: set(columns) for name, columns in views_of(empty).items()
    }
    assert all(section["about"] and all(section["columns"].values()) for section in words().values())


def test_the_database_says_them(learnt):
    with connect(learnt) as connection:
        (about,) = connection.execute("SELECT comment FROM duckdb_views() WHERE view_name = 'spans'").fetchone()
        assert about == words()["spans"]["about"]
        silent = connection.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND comment IS NULL"
        ).fetchall()
        (macro,) = connection.execute(
            "SELECT comment FROM duckdb_functions() WHERE function_name = 'interests_as_of'"
        ).fetchone()
    assert [column for _, column in silent if column not in ("batch", "span")] == []
    assert macro == words()["interests_as_of"]["about"]
    with duckdb_session(learnt.catalog_file, read_only=True) as catalog:
        query = "SELECT comment FROM duckdb_columns() WHERE (table_name, column_name) = ('metrics', 'value')"
        assert catalog.execute(query).fetchone() == (words()["metrics"]["columns"]["value"],)


def test_the_page_is_what_the_database_says(empty):
    written = dictionary_page(empty)
    assert PAGE.read_text(encoding="utf-8") == written, "write it anew: imsr views --dictionary"


def test_an_apostrophe_ends_no_text(monkeypatch):
    monkeypatch.setattr(dictionary, "words", lambda: {"v": {"about": "a'; DROP VIEW v; --", "columns": {"x": "it's"}}})
    with duckdb_session() as connection:
        define_views(connection, f"CREATE OR REPLACE VIEW v AS SELECT 1 AS x;\n{comments()}")
        assert connection.execute("SELECT comment FROM duckdb_views() WHERE view_name = 'v'").fetchone() == (
            "a'; DROP VIEW v; --",
        )


@pytest.mark.parametrize(
    "text",
    [
        "COMMENT ON VIEW v IS 'a'; COPY v TO '{file}'",
        "COMMENT ON VIEW v IS 'a' || read_text('/etc/passwd')",
        "COMMENT ON VIEW v IS NULL",
        "COMMENT ON TABLE v IS 'a'",
        "COMMENT ON VIEW other.main.v IS 'a'",
        "COMMENT ON COLUMN v.x IS E'a\\'; COPY v TO ''{file}'''",
    ],
)
def test_a_comment_is_a_text_and_nothing_else(tmp_path, text):
    text = f"CREATE OR REPLACE VIEW v AS SELECT 1 AS x; {text.format(file=tmp_path / 'x')}"
    with duckdb_session() as connection, pytest.raises(QueryError):
        define_views(connection, text)
    assert not (tmp_path / "x").exists()
