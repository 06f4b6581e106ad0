"""Names that look like paths, ids that look like anything, links and records that lead out of the workspace."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from small_world import DAYS, NOW, TOML, current, land, make, run_all, run_one, tree

from imsr_core.errors import ImsrError
from pipelines.care.doctor import examine
from pipelines.care.forget import forget
from pipelines.care.prune import prune
from pipelines.interests.promotion import promote, rollback
from pipelines.interests.recommend import Recommender
from pipelines.interests.version import Version
from pipelines.nights.backfill import Which, plan_backfill
from pipelines.nights.restate import mark_stale
from pipelines.sequences.build import sequence_span
from pipelines.settings.imsr_toml import load_settings
from pipelines.settings.names import WorkspaceError
from pipelines.tasks.adding import add_task
from pipelines.warehouse.catalog import connect, publish_catalog
from pipelines.warehouse.sandbox import QueryError, run_query
from pipelines.workspace.layout import Workspace
from pipelines.workspace.seal import READY, PublishError, file_sha256
from pipelines.workspace.writer import writing

DUE = "2024-03-07"
NAMES = [
    "../../x",
    "/etc/passwd",
    "a/b",
    "..",
    ".",
    "",
    "..%2f..%2fx",
    "2024-03-01/../2024-03-02",
    "2024-03-01\n",
    "x" * 300,
    "nul\0byte",
    "'; DROP TABLE spans; --",
    "$(touch x)",
]
#: A way to hand a name in that comes from outside.
DOORS = {
    "a span to run": lambda w, writer, name: run_one(w, name),
    "a span to sequence": lambda w, writer, name: sequence_span(w, name, writer=writer, now=NOW),
    "a span to restate": lambda w, writer, name: mark_stale(writer, name),
    "the first of a range": lambda w, writer, name: plan_backfill(
        w, first=name or ".", last=None, which=Which.ALL, now=NOW
    ),
    "a version to open": lambda w, writer, name: Version.open(w, name or "."),
    "a version to promote": lambda w, writer, name: promote(writer, name or ".", "why"),
    "a version to go back to": lambda w, writer, name: rollback(writer, to=name or "."),
    "a task": lambda w, writer, name: add_task(writer, name),
}


@pytest.mark.parametrize("door", DOORS)
def test_names_that_look_like_paths_are_refused_and_touch_nothing(learnt, door):
    before = tree(learnt.root)
    for name in NAMES:
        if door == "a span to run":
            with pytest.raises(ImsrError):
                run_one(learnt, name)
            continue
        with writing(learnt, "test", now=NOW) as writer, pytest.raises(ImsrError):
            DOORS[door](learnt, writer, name)
    assert tree(learnt.root).keys() == before.keys()


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "a b", "x" * 300, "a.b/../c"])
def test_names_of_tasks_in_the_settings_that_look_like_paths_are_refused(name):
    with pytest.raises(ImsrError):
        load_settings(text=f'[tasks.{json.dumps(name)}]\nlabels = "x.csv"\n')


IDS = [
    "../../etc/passwd",
    "'; DROP TABLE interactions; --",
    '" OR ""="',
    "{user}",
    "%s%n",
    "${HOME}",
    "$(touch x)",
    "[red]x[/red]",
    "a,b\tc",
    "line\nbreak",
    "\u202eflipped",
    "e\u0301",
    "\u00e9",
    "null",
    "NaN",
    "0",
    "00",
    "-1",
    "forgotten:abc",
]


def test_ids_that_look_like_anything_are_only_ids(tmp_path):
    users, items = [f"u{each}" for each in IDS], [f"i{each}" for each in IDS]
    events = [
        (user, items[(n + k) % len(items)], f"{day}T{k:02d}:00:00+00:00")
        for day in DAYS[:3]
        for n, user in enumerate([*IDS, *users])
        for k in range(3)
    ]
    # words that stand for nothing are no ids unless the settings say so
    workspace = make(tmp_path / "w", events, TOML + "[source]\nnull_values = []\n")
    run_all(workspace)
    with connect(workspace) as connection:
        known = {row[0] for row in connection.execute("SELECT DISTINCT user_id FROM interactions").fetchall()}
    assert known == {*IDS, *users}
    for user in IDS:
        assert Recommender.open(workspace).top_n([user], 2)["user_id"].to_pylist() == [user] * 2
    outside = {path for path in tmp_path.rglob("*") if not path.is_relative_to(workspace.root)}
    for user in IDS[:4]:
        assert forget(workspace, user, now=NOW).is_of(user)
    with connect(workspace) as connection:
        left = {row[0] for row in connection.execute("SELECT DISTINCT user_id FROM interactions").fetchall()}
    assert left == known - set(IDS[:4])
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(workspace.root)} == outside


@pytest.fixture
def treasure(tmp_path: Path) -> Path:
    """A folder outside the workspace that nobody may change."""
    folder = tmp_path / "treasure"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file.parquet").write_text("mine")
    return folder


@pytest.mark.parametrize("place", ["staging", "versions", "lake/span=2024-03-01", "sequences/span=2024-03-01"])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_link_among_what_is_cleared_away_goes_and_what_it_points_to_stays(due, treasure, place, what):
    target = treasure if what == "folder" else treasure / "deep" / "file.parquet"
    name = "v=9" if place.startswith("lake") else "link"
    (due.root / place / name).symlink_to(target)
    prune(due, now=NOW)
    assert run_one(due, DUE).version is not None
    assert (treasure / "deep" / "file.parquet").read_text() == "mine"


@pytest.mark.parametrize(
    "name", [f"lake/span={DUE}", "lake/span=2024-03-07/v=1", "versions/2024-03-06.1", "sequences/span=2024-03-06"]
)
def test_a_room_that_was_replaced_by_a_link_out_of_the_workspace_is_not_entered(due, tmp_path, name):
    away = tmp_path / "away"
    shutil.move(due.root / name, away)
    (due.root / name).symlink_to(away)
    before = tree(away)
    live = current(due)
    with pytest.raises(ImsrError, match="leads out of the workspace"):
        run_one(due, DUE)
    assert tree(away) == before
    assert current(due) == live


def edit(path: Path, change: dict) -> None:
    """Change a JSON file of a published folder, and its seal with it."""
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    ready = json.loads((path.parent / READY).read_text())
    ready["files"][path.name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    (path.parent / READY).write_text(json.dumps(ready))


@pytest.mark.parametrize("key", ["interests", "vocabulary"])
@pytest.mark.parametrize("path", ["../treasure/deep/file.parquet", "/etc/passwd", "versions/../../treasure"])
def test_a_lineage_that_leads_out_of_the_workspace_is_refused(due, treasure, key, path):
    edit(due.version_folder("2024-03-06.1") / "lineage.json", {key: [path]})
    with pytest.raises(ImsrError, match="leads out of the workspace"):
        Recommender.open(due).top_n(["u1"], 3)
    with pytest.raises(ImsrError):
        run_one(due, DUE)
    assert (treasure / "deep" / "file.parquet").read_text() == "mine"


@pytest.mark.parametrize("span", ["../../treasure", "/etc", "..", "2024-03-05/../../x"])
def test_sequences_whose_parent_leads_out_of_the_workspace_are_refused(due, span):
    folder = next(due.root.glob("sequences/span=2024-03-06/*"))
    edit(folder / "sequences.json", {"parent": {"span": span, "fingerprint": "0" * 16}})
    with pytest.raises(ImsrError, match="cannot be a file name"):
        run_one(due, DUE)


@pytest.mark.parametrize("path", ["../treasure", "/etc", "versions/../../treasure"])
def test_a_ledger_whose_rows_lead_out_of_the_workspace_is_not_followed(due, treasure, path):
    with due.ledger.transaction() as tx:
        tx.put_version(replace(tx.version("2024-03-06.1"), path=path))
    with pytest.raises(ImsrError, match="leads out of the workspace"):
        Version.open(due)
    with pytest.raises(ImsrError):
        run_one(due, DUE)
    assert (treasure / "deep" / "file.parquet").read_text() == "mine"


def test_a_landed_link_to_another_file_is_read_like_the_file_and_never_written(learnt, copy_of, tmp_path):
    workspace: Workspace = copy_of(learnt)
    elsewhere = tmp_path / "elsewhere.csv"
    (workspace.root / "landing" / "link.csv").symlink_to(elsewhere)
    land(workspace, [("zoe", "i1", f"{DUE}T05:00:00+00:00")], "link.csv")
    text = elsewhere.read_text()
    receipt = forget(workspace, "zoe", now=NOW, landing=True)
    assert receipt.landing == {"landing/link.csv": "still there: it is a link"}
    assert elsewhere.read_text() == text


def test_a_workspace_in_a_folder_whose_name_is_full_of_signs(learnt, tmp_path):
    """Quotes, spaces and braces in the path: the views and the sandbox mean this folder."""
    root = tmp_path / """sp ace 'q' "d" ü ;$(x) %s {y} #z""" / "w"
    shutil.copytree(learnt.root, root)
    workspace = Workspace.open(root)
    publish_catalog(workspace, anew=True)
    with connect(workspace) as session:
        wanted = run_query(session, "SELECT count(*) FROM interests").fetchone()
        assert wanted[0] > 0
    with duckdb.connect(str(workspace.catalog_file), read_only=True) as shell:
        assert shell.execute("SELECT count(*) FROM interests").fetchone() == wanted
    assert examine(workspace, deep=True) == []


@pytest.mark.parametrize("name", ["shop*", "shop[1-9]", "shop?"])
def test_a_workspace_whose_name_stands_for_its_neighbours(learnt, tmp_path, name):
    """The engine would read `shop2`, too, where the sandbox allows `shop*`."""
    with pytest.raises(WorkspaceError, match="takes for a pattern") as caught:
        Workspace.create(tmp_path / name)
    assert "without" in caught.value.hint
    assert not (tmp_path / name).exists()
    shutil.copytree(learnt.root, tmp_path / name)  # moved there
    with pytest.raises((QueryError, PublishError)), connect(Workspace.open(tmp_path / name)) as session:
        run_query(session, f"FROM read_text('{tmp_path}/shop*/lake/*/*/READY')")
