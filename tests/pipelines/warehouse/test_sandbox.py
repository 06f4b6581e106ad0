"""People's queries read the views, and nothing that they contain writes or looks elsewhere."""

import duckdb
import pytest
from small_world import tree

from pipelines.care.doctor import examine
from pipelines.warehouse.catalog import connect
from pipelines.warehouse.sandbox import QueryError, require_reading, run_query

READS = [
    "FROM spans",
    "SELECT 1; SELECT 2;",
    "-- a comment\nSELECT count(*) FROM interactions",
    "WITH a AS (SELECT 1 AS n) SELECT * FROM a UNION ALL SELECT 2",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) FROM r",
    "DESCRIBE interactions",
    "SUMMARIZE interactions",
    "SHOW TABLES",
    "VALUES (1), (2)",
    "EXPLAIN SELECT 1",
    "explain analyze SELECT 1",
    'SELECT \'"type":"COPY_QUERY_NODE"\'',
    "SELECT 'COPY interactions TO ''x'''",
    "FROM (SELECT span_id, user_id FROM interactions) PIVOT (count(*) FOR span_id IN ('2024-03-01', '2024-03-02'))",
]


@pytest.mark.parametrize("text", READS)
def test_queries_run(learnt, text):
    with connect(learnt) as connection:
        assert run_query(connection, text).fetchall()


class Replaced:
    """A session that reads a file at the very moment when it is replaced, ``times`` times."""

    def __init__(self, connection, times):
        self._connection, self._times = connection, times

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, text, *values):
        if text == "FROM spans" and self._times:
            self._times -= 1
            raise duckdb.InvalidInputException("Invalid Error: Out of buffer")
        return self._connection.execute(text, *values)


def test_a_query_whose_file_was_replaced_meanwhile_is_asked_again(learnt):
    with connect(learnt) as connection:
        assert (
            run_query(Replaced(connection, 2), "FROM spans").fetchall() == connection.execute("FROM spans").fetchall()
        )
        with pytest.raises(QueryError, match="Out of buffer"):
            run_query(Replaced(connection, 3), "FROM spans")


def test_a_session_of_ones_own_says_what_happened_to_its_files(learnt, copy_of):
    workspace = copy_of(learnt)
    with connect(workspace) as connection:
        relation = connection.sql("SELECT user_id FROM interactions").order("user_id")
        assert len(relation.limit(3).fetchall()) == 3
        for path in workspace.root.glob("lake/**/bucket=*.parquet"):
            path.unlink()
        for ask in (
            lambda: relation.fetchall(),
            lambda: connection.sql("FROM interactions").fetchall(),
            lambda: connection.execute("SELECT count(user_id) FROM interactions"),
            lambda: connection.cursor().execute("FROM interactions"),
        ):
            with pytest.raises(QueryError, match="gone since it was opened") as caught:
                ask()
            assert "open it again" in caught.value.hint
        with pytest.raises(duckdb.CatalogException):
            connection.sql("FROM nowhere")


def test_a_session_of_ones_own_asks_again_where_a_file_was_replaced(learnt):
    with connect(learnt) as connection:
        inner = connection._inner
        connection._inner = Replaced(inner, 2)
        assert connection.execute("FROM spans") is not None
        connection._inner = Replaced(inner, 3)
        with pytest.raises(QueryError, match="rewritten while the query read it") as caught:
            connection.execute("FROM spans")
        assert caught.value.hint.startswith("ask again")


WRITES = [
    "COPY (SELECT 1) TO '{file}'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}'",
    "WITH a AS (COPY (SELECT 1) TO '{file}') SELECT 1",
    "SELECT * FROM (WITH a AS (COPY (SELECT 1) TO '{file}') SELECT 1)",
    "SELECT (WITH a AS (COPY (SELECT 1) TO '{file}') SELECT 1)",
    "DESCRIBE (WITH a AS (COPY (SELECT 1) TO '{file}') SELECT 1)",
    "explain analyze WITH a AS (COPY (SELECT 1) TO '{file}') SELECT 1",
    "SELECT 1; COPY (SELECT 1) TO '{file}'",
    "EXPORT DATABASE '{folder}'",
    "ATTACH '{folder}x.db'",
    "PREPARE s AS COPY (SELECT 1) TO '{file}'",
    "EXECUTE s",
    "CREATE TABLE t (a INT)",
    "DROP VIEW spans",
    "INSTALL httpfs",
    "LOAD httpfs",
    "UPDATE EXTENSIONS",
    "ATTACH IF NOT EXISTS '{folder}x.db' AS y",
    "COPY (FROM spans) TO '{folder}x.parquet' (FORMAT parquet)",
    "WITH a AS (DELETE FROM spans RETURNING *) FROM a",
    "CREATE TEMP MACRO m() AS 1",
    "CREATE SECRET s (TYPE s3)",
    "SET VARIABLE workspace = '/'",
    "IMPORT DATABASE '{folder}'",
    "COMMENT ON VIEW spans IS 'x'",
    "SET threads = 1",
    "RESET allowed_directories",
    "PRAGMA enable_profiling",
    "CALL pragma_version()",
    "INSERT INTO t VALUES (1)",
    "VACUUM",
    "CHECKPOINT",
    "USE memory",
    "BEGIN",
]


@pytest.mark.parametrize("text", WRITES)
def test_what_could_write_is_refused_and_touches_nothing(learnt, copy_of, text):
    workspace = copy_of(learnt)
    file = next(path for path in workspace.root.glob("lake/**/*.parquet"))
    with connect(workspace) as connection:
        before = tree(workspace.root)
        with pytest.raises(QueryError) as caught:
            run_query(connection, text.format(file=file, folder=f"{workspace.root}/lake/"))
        assert tree(workspace.root) == before
    assert caught.value.hint


OUTSIDE = [
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')",
    "FROM '/etc/passwd'",
    "FROM read_csv('/etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "FROM read_text('{root}/imsr.toml')",
    "FROM read_text('{root}/lake/../imsr.toml')",
    "FROM read_parquet('https://example.org/x.parquet')",
    "FROM read_text('.tmp/x')",
    "FROM read_text('../x')",
    "FROM glob('{root}/lake/../*')",
    "FROM read_text('/proc/self/environ')",
    "FROM read_text('file:///etc/passwd')",
    "FROM parquet_schema('{root}/ledger.sqlite')",
    "FROM query('FROM read_text(''/etc/passwd'')')",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''/etc/passwd'')'))",
    "FROM duckdb_secrets()",
    "SELECT getenv('HOME')",
]


@pytest.mark.parametrize("text", OUTSIDE)
def test_other_files_are_out_of_reach(learnt, text, tmp_path, monkeypatch):
    (tmp_path / ".tmp").mkdir()
    for name in ("x", ".tmp/x"):
        (tmp_path / name).write_text("mine")
    monkeypatch.chdir(tmp_path / ".tmp" if ".." in text else tmp_path)
    with connect(learnt) as connection, pytest.raises(QueryError):
        run_query(connection, text.format(root=learnt.root))


def test_only_who_asks_for_it_gets_a_session_that_reads_other_files(learnt, tmp_path):
    (tmp_path / "own.csv").write_text("user_id\nu1\n")
    query = f"SELECT count(*) FROM '{tmp_path}/own.csv' JOIN users USING (user_id)"
    with connect(learnt) as connection, pytest.raises(duckdb.PermissionException):
        connection.execute(query)
    with connect(learnt, sandbox=False) as connection:
        assert connection.execute(query).fetchall() == [(1,)]


LINKED = [
    "FROM read_text('{root}/lake/link')",
    "FROM read_blob('{root}/lake/folder/secret')",
    "FROM glob('{root}/lake/folder/*')",
    "FROM read_text('{root}/lake/folder/../secret')",
    "FROM read_text('{root}/lake/folder/x/../../secret')",
]


@pytest.mark.parametrize("text", LINKED)
def test_a_link_in_the_workspace_leads_nowhere_else(learnt, copy_of, tmp_path, text):
    workspace, elsewhere = copy_of(learnt), tmp_path / "elsewhere"
    elsewhere.mkdir()
    for secret in (elsewhere / "secret", tmp_path / "secret"):
        secret.write_text("mine")
    (workspace.root / "lake" / "link").symlink_to(elsewhere / "secret")
    if "folder" in text:
        (workspace.root / "lake" / "folder").symlink_to(elsewhere)
    with pytest.raises(QueryError) as caught, connect(workspace) as connection:
        run_query(connection, text.format(root=workspace.root))
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", ["COPY (SELECT 1) TO '/tmp/x.csv'", "SET threads = 1", "INSTALL httpfs", "LOAD httpfs"]
)
def test_the_session_itself_refuses_most_of_it(learnt, text):
    with connect(learnt) as connection, pytest.raises(duckdb.Error):
        connection.execute(text)


@pytest.mark.parametrize("text", ["", "  ", "-- nothing", ";"])
def test_no_query_is_said(learnt, text):
    with connect(learnt) as connection, pytest.raises(QueryError):
        run_query(connection, text)


@pytest.mark.parametrize(
    "text", ["SELEC 1", "SELECT nothing FROM spans", "FROM nowhere", "SELECT error('no') FROM spans"]
)
def test_an_error_of_the_query_is_one_message(learnt, text):
    with connect(learnt) as connection, pytest.raises(QueryError) as caught:
        run_query(connection, text).fetchall()
    assert "imsr sql" in caught.value.hint


def test_reading_is_decided_by_the_parser(learnt):
    with connect(learnt) as connection:
        require_reading(connection, "SELECT 1")
        with pytest.raises(QueryError, match="DELETE does more than read"):
            require_reading(connection, "WITH a AS (DELETE FROM t) SELECT 1")


CRAFTED = [
    "COPY (SELECT 1 AS x) TO '{file}' (FORMAT csv);",
    "CREATE TABLE t AS SELECT 1;",
    "CREATE OR REPLACE VIEW spans AS WITH a AS (COPY (SELECT 1) TO '{file}') SELECT 1 AS span_id;",
    "ATTACH '{file}';",
    "SET enable_external_access = true;",
    "CREATE OR REPLACE VIEW a AS SELECT 1; COPY (SELECT 1) TO '{file}';",
]


@pytest.mark.parametrize("place", ["outside", "lake"])
@pytest.mark.parametrize("text", CRAFTED)
def test_crafted_views_write_nothing_whoever_opens_them(learnt, copy_of, tmp_path, text, place):
    """A workspace may come from somebody else."""
    workspace = copy_of(learnt)
    file = tmp_path / "written" if place == "outside" else workspace.root / "lake" / "written"
    whole = workspace.views_file.read_text()
    workspace.views_file.write_text(whole + text.format(file=file))
    with pytest.raises(QueryError, match=r"views\.sql|does more than read"):
        connect(workspace)
    assert any(finding.where == "views.sql" for finding in examine(workspace))
    assert not file.exists()


@pytest.mark.parametrize("text", ["SELECT * FROM read_text('{file}') AS x", "FROM '{file}'"])
def test_crafted_views_read_nothing_outside(learnt, copy_of, tmp_path, text):
    workspace, file = copy_of(learnt), tmp_path / "secret.csv"
    file.write_text("x\n1\n")
    definition = "CREATE OR REPLACE VIEW spans AS " + text.format(file=file)
    workspace.views_file.write_text(workspace.views_file.read_text() + f"\n{definition};")
    with pytest.raises(QueryError, match="disabled by configuration"):
        connect(workspace)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("PIVOT spans ON state", "has to name its values"),
        ("COPY spans TO 'x.csv'", "COPY does more than read"),
        ("PREPARE s AS SELECT 1", "PREPARE does more than read"),
        ("CREATE MACRO a() AS 1", "CREATE does more than read"),
    ],
)
def test_what_is_refused_is_said_in_words(learnt, text, said):
    with connect(learnt) as connection, pytest.raises(QueryError, match=said):
        run_query(connection, text)
