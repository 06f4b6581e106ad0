"""The table about items: every kind of file, what is refused, and that the copy in force changes with the file."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_world import NOW, TOML, make

from pipelines.lake.item_metadata import item_table, kept_metadata
from pipelines.lake.kept_table import KeptTableError
from pipelines.warehouse.catalog import connect, publish_catalog
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import writing

ROWS = [("007", "tea", "drinks"), ("b", "rye", "bread"), ("b", "other", "bread"), (None, "lost", "bread")]


def workspace_with(tmp_path, name: str, settings: str = "") -> Workspace:
    items = f'[items]\nmetadata = "{name}"\nitem_id = "sku"\n{settings}'
    return make(tmp_path / "w", [("u", "007", "2024-03-01T00:00:00Z")], TOML + items)


def write(path, kind: str) -> None:
    columns = ("sku", "name", "kind")
    if kind == "parquet":
        pq.write_table(pa.table(dict(zip(columns, map(list, zip(*ROWS, strict=True)), strict=True))), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in ROWS))
    else:
        mark = "," if kind == "csv" else "\t"
        columns = [f"{name}:token" for name in columns] if kind == "item" else columns
        path.write_text("".join(mark.join(cell or "" for cell in row) + "\n" for row in (columns, *ROWS)))


def keep(workspace: Workspace):
    with writing(workspace, "test", now=NOW) as writer:
        return item_table(writer.workspace.settings).keep(writer)


@pytest.mark.parametrize("kind", ["csv", "tsv", "item", "jsonl", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, kind):
    workspace = workspace_with(tmp_path, f"items.{kind}")
    write(workspace.root / f"items.{kind}", kind)
    kept = keep(workspace)
    assert (kept.rows, kept.duplicate, kept.without_id) == (2, 1, 1)
    publish_catalog(workspace)
    with connect(workspace) as connection:
        assert connection.sql("SELECT item_id, name, kind FROM item_metadata ORDER BY 1").fetchall() == [
            ("007", "tea", "drinks"),
            ("b", "rye", "bread"),
        ]


HALF = "sku,name\n" + "".join(f"i{n},name {n}\n" for n in range(30))
OTHER = "sku,name,kind\n" + "".join(f"j{n},name {n},k\n" for n in range(30))


@pytest.mark.parametrize(
    "text",
    [HALF + OTHER, OTHER + HALF, HALF + OTHER.partition("\n")[2], HALF + "k1\n", HALF + "k1,a,b\n"],
    ids=["a wider export behind", "a narrower one", "its rows alone", "a short line", "a long line"],
)
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_lines_that_do_not_fit_the_header_are_an_error_and_never_left_out(tmp_path, text, ending):
    workspace = workspace_with(tmp_path, f"items.{ending}")
    text = text if ending == "csv" else text.replace(",", "\t")
    (workspace.root / f"items.{ending}").write_text(text)
    lines = "(1 of its lines does|3[01] of its lines do) not fit the header; the first is line 32"
    with pytest.raises(KeptTableError, match=lines) as caught:
        keep(workspace)
    assert "same columns" in caught.value.hint


@pytest.mark.parametrize("line", ['k1,24" screen', 'k1,"a stray quote', "k1,it's"])
def test_a_quote_costs_no_row_of_the_table(tmp_path, line):
    workspace = workspace_with(tmp_path, "items.csv")
    (workspace.root / "items.csv").write_text(HALF + f"{line}\n" + HALF.partition("\n")[2].replace("i", "x"))
    assert keep(workspace).rows == 61


def test_without_a_table_the_view_is_empty_and_nothing_is_kept(learnt, copy_of):
    workspace = copy_of(learnt)
    assert keep(workspace) is None
    with connect(workspace) as connection:
        assert connection.execute("SELECT count(*) FROM item_metadata").fetchone() == (0,)


def test_the_copy_changes_with_the_file_and_only_then(tmp_path):
    workspace = workspace_with(tmp_path, "items.csv")
    file = workspace.root / "items.csv"
    write(file, "csv")
    first = keep(workspace)
    assert keep(workspace) == first
    assert item_table(workspace.settings).is_current(workspace)
    file.write_text(file.read_text() + "c,milk,drinks\n")
    assert not item_table(workspace.settings).is_current(workspace)
    second = keep(workspace)
    assert second.path != first.path
    assert second.rows == 3
    with workspace.ledger.snapshot() as view:
        assert kept_metadata(view) == second


@pytest.mark.parametrize(
    ("name", "content", "settings", "message"),
    [
        ("items.csv", None, "", "there is no file"),
        ("items.csv", "id,name\n1,a\n", "", "'sku'"),
        ("items.csv", "sku,name\n1,a\n", 'name = "title"', "no column 'title'"),
        ("items.csv", "sku,name\n1,a\n", 'categories = ["brand"]', "no column 'brand'"),
        ("items.xlsx", "sku\n1\n", "", "of no kind"),
        ("items.parquet", "no parquet", "", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_an_error_with_a_hint(tmp_path, name, content, settings, message):
    workspace = workspace_with(tmp_path, name, settings)
    if content is not None:
        (workspace.root / name).write_text(content)
    with pytest.raises(KeptTableError, match=message) as refused:
        keep(workspace)
    assert refused.value.hint


MOVIES = "1::Toy Story (1995)::Comedy|Family\n2::Amélie, Le (2001)::Comedy\n"


@pytest.mark.parametrize(("name", "mark"), [("movies.dat", "::"), ("u.item", "|"), ("items.txt", "\t")])
def test_a_table_without_a_header_has_its_columns_named(tmp_path, name, mark):
    settings = 'item_id = "movie"\nheader = ["movie", "title", "genres"]\nencoding = "latin-1"\nname = "title"\n'
    workspace = make(
        tmp_path / "w", [("u", "1", "2024-03-01T00:00:00Z")], f'{TOML}[items]\nmetadata = "{name}"\n{settings}'
    )
    text = MOVIES if mark == "::" else MOVIES.replace("|", "/").replace("::", mark)
    (workspace.root / name).write_bytes(text.encode("latin-1"))
    kept = keep(workspace)
    table = pq.read_table(workspace.resolve(kept.path))
    assert table.column_names == ["item_id", "title", "genres"]
    assert table["title"].to_pylist() == ["Toy Story (1995)", "Amélie, Le (2001)"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("movies.dat", MOVIES.encode(), "header = [...] in [items]"),
        ("u.item", MOVIES.replace("::", "|").encode(), "header = [...] in [items]"),
        ("items.csv", "sku,name\n1,Amélie\n".encode("latin-1"), 'encoding = "latin-1" in [items]'),
        ("items.csv", "sku,name\n1,Amélie\n".encode("utf-16"), 'encoding = "utf-16" in [items]'),
    ],
)
def test_a_table_that_is_written_otherwise_is_told_how_to_say_so(tmp_path, name, content, says):
    workspace = workspace_with(tmp_path, name)
    (workspace.root / name).write_bytes(content)
    with pytest.raises(KeptTableError) as refused:
        keep(workspace)
    assert says in refused.value.hint


def test_ids_are_written_as_those_of_events_in_every_kind_of_file(tmp_path):
    files = {
        "a.jsonl": "".join(json.dumps({"sku": n, "name": "tea"}) + "\n" for n in [*range(30_000), "late"]),
        "b.jsonl": '{"sku": 13085.0, "name": "tea"}\n{"sku": "late", "name": 2}\n',
        "c.csv": "sku,name\n13085.0,tea\nlate,x\n",
    }
    for n, (name, text) in enumerate(files.items()):
        (tmp_path / str(n)).mkdir()
        workspace = workspace_with(tmp_path / str(n), name)
        (workspace.root / name).write_text(text)
        table = pq.read_table(workspace.resolve(keep(workspace).path))
        assert {"13085", "late"} <= set(table["item_id"].to_pylist()), name


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("items.csv", "sku,name,name\n1,a,b\n", "two columns are called 'name'"),
        ("items.csv", "sku;name".encode("utf-16"), 'encoding = "utf-16" in [items]'),
        ("items.jsonl", '{"sku": 1}\n{bad\n', "is it whole"),
        ("items.parquet", b"PAR1", "is it whole"),
        ("items.csv", "a,b\n1,2\n", "set item_id in"),
    ],
)
def test_a_table_that_cannot_be_read_is_a_problem_and_no_traceback(tmp_path, name, text, says):
    workspace = workspace_with(tmp_path, name, 'name = "name"\n')
    (workspace.root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(KeptTableError) as caught:
        keep(workspace)
    assert says in str(caught.value)
