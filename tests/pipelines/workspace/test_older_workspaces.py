"""A workspace that an earlier version made opens, goes on, and learns what that version would have learnt."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from small_world import NOW, run_all
from task_world import add, predictions, users_current

from pipelines.care.doctor import examine
from pipelines.care.forget import forget, trace
from pipelines.interests.recommend import Recommender
from pipelines.interests.version import Version
from pipelines.lake.ingest import ingest
from pipelines.warehouse.catalog import connect, publish_catalog
from pipelines.workspace.layout import Workspace

OLDER = Path(__file__).parent / "older"
NEXT = "2024-03-05.1"
#: The fingerprint that the next version had in the code that made `before_rooms`.
FINGERPRINT = "dd74bc71d30884d07691917023ab680caaa5dc316cc04f402cf40ba8cb79311c"


def unpacked(name: str, folder: Path) -> Workspace:
    with tarfile.open(OLDER / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return Workspace.open(folder)


@pytest.fixture(params=sorted(path.name.partition(".")[0] for path in OLDER.glob("*.tar.xz")))
def workspace(request, tmp_path):
    """The workspace as it was, with the next day in its lake."""
    workspace = unpacked(request.param, tmp_path)
    ingest(workspace, [OLDER / "next.csv"], now=NOW)
    return workspace


def test_it_goes_on(workspace):
    (outcome,) = run_all(workspace)
    assert outcome.version is not None
    assert outcome.version.version_id == NEXT
    assert outcome.metric("ndcg@5") is not None
    publish_catalog(workspace)
    assert examine(workspace, deep=True) == []


def test_every_view_shows_what_the_older_code_wrote_and_what_ours_does(workspace):
    run_all(workspace)
    publish_catalog(workspace)
    with connect(workspace) as connection:
        views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        counts = {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in views}
        spans = connection.execute("SELECT DISTINCT span_id FROM interest_changes ORDER BY 1").fetchall()
    assert counts["interactions"]
    assert counts["interests"]
    assert [span for (span,) in spans] == ["2024-03-02", "2024-03-03", "2024-03-04", "2024-03-05"]


def test_its_versions_can_be_asked(workspace):
    before = Recommender.open(workspace).top_n(["u1"], 3)
    assert before.num_rows == 3
    run_all(workspace)
    assert Recommender.open(workspace).top_n(["u1"], 3).num_rows == 3


def test_a_user_of_it_can_be_forgotten_and_it_goes_on(workspace):
    forget(workspace, "u1", now=NOW)
    assert not trace(workspace, "u1")
    (outcome,) = run_all(workspace)
    assert outcome.version is not None
    with connect(workspace) as connection:
        for view in ("interactions", "interests", "users", "quarantine"):
            assert connection.execute(f"SELECT count(*) FROM {view} WHERE user_id = 'u1'").fetchone() == (0,), view
    assert examine(workspace, deep=True) == []


def test_the_next_version_is_the_one_that_the_code_before_would_have_made(tmp_path):
    workspace = unpacked("before_rooms", tmp_path)
    ingest(workspace, [OLDER / "next.csv"], now=NOW)
    run_all(workspace)
    version = Version.open(workspace, NEXT)
    assert version.row.fingerprint == FINGERPRINT
    for name in ("model.safetensors", "optimizer.safetensors"):
        found, expected = load_file(version.folder / name), load_file(OLDER / "expected" / name)
        assert set(found) == set(expected)
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], msg=lambda text, key=key: f"{key}: {text}")
    tables = {"interests": ["user_id", "interest_id", "born", "vector"], "changes": ["user_id", "change"]}
    for name, columns in tables.items():
        found, expected = (
            pq.ParquetFile(folder / f"{name}.parquet").read(columns).to_pydict()
            for folder in (version.folder, OLDER / "expected")
        )
        for column in columns:
            if column == "vector":
                torch.testing.assert_close(torch.tensor(found[column]), torch.tensor(expected[column]))
            else:
                assert found[column] == expected[column]


def test_its_tasks_answer_as_they_did_and_another_can_be_learnt(tmp_path):
    workspace = unpacked("before_rooms_tasks", tmp_path)
    made, expected = users_current(workspace), json.loads((OLDER / "expected" / "tasks.json").read_text())
    assert made == "u-2024-03-04.shop"
    with workspace.settings_file.open("a", encoding="utf-8") as file:
        file.write('[tasks.again]\nlabels = "club.csv"\nuser_id = "who"\nlabel = "club"\n')
    workspace = Workspace.open(workspace.root)
    outcome = add(workspace, "again")
    assert outcome.version is not None
    publish_catalog(workspace)
    assert examine(workspace, deep=True) == []
    for version in (made, outcome.version.version_id):
        for task, scores in expected.items():
            assert predictions(workspace, version, task, made) == [pytest.approx(row, abs=1e-5) for row in scores]
