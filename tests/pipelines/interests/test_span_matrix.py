"""R[version, span] against ranking every sampled event by hand; and the views over it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from small_world import DAYS, NOW, TOML, VERSIONS, log, make, run_all

from flows.after_learning import after_learning
from pipelines.care.doctor import examine
from pipelines.interests.span_matrix import write_span_matrix
from pipelines.interests.version import Version
from pipelines.report.matrix import span_matrix
from pipelines.sequences.loader import load_bucket
from pipelines.warehouse.catalog import connect, publish_catalog
from pipelines.warehouse.generations import generations
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import ParquetFileError, column_names, read_table
from pipelines.workspace.writer import writing

USERS = 5


@pytest.fixture(scope="module")
def workspace(learnt, tmp_path_factory) -> Workspace:
    root = tmp_path_factory.mktemp("matrix") / "w"
    shutil.copytree(learnt.root, root)
    settings = root / "imsr.toml"
    settings.write_text(settings.read_text().replace("[evaluation]\n", f"[evaluation]\nmatrix_users = {USERS}\n"))
    opened = Workspace.open(root)
    for version in VERSIONS:
        write_span_matrix(opened, version)
    publish_catalog(opened)
    return opened


def asked(workspace, text, *values):
    with connect(workspace) as connection:
        return connection.execute(text, list(values)).fetchall()


def by_hand(workspace, version_id, span_id):
    """(hits, events): the sampled users' events, each ranked in a list of all items by the nearest interest."""
    version = Version.open(workspace, version_id)
    state, hits, events = version.load(), 0, 0
    (folder,) = [workspace.resolve(path) for path in version.lineage.vocabulary if f"span={span_id}/" in path]
    bucket = load_bucket(folder, 0)
    for place in range(min(USERS, len(bucket))):
        own = state.store.vectors[state.store.user == int(bucket.users[place])]
        scores = (own @ state.item_vectors().T).max(0).values if len(own) else None
        for item in bucket.items[bucket.offsets[place] : bucket.offsets[place + 1]].tolist():
            if scores is not None and item < state.n_items:
                events += 1
                hits += int((scores >= scores[item]).sum()) - 1 < 10
    return hits, events


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_as_by_hand(workspace, version):
    learnt = DAYS[: DAYS.index(version.removesuffix(".1")) + 1]
    path = workspace.matrix_file(version)
    rows = read_table(path, column_names(path)).to_pylist()
    assert [row["span_id"] for row in rows] == learnt
    for row in rows:
        hits, events = by_hand(workspace, version, row["span_id"])
        assert (round(row["value"] * row["n"]), row["n"]) == (hits, events)
        assert row["metric"] == "hr@10"


def test_the_views_compare_the_rows_of_a_span(workspace):
    rows = asked(
        workspace, "SELECT version_span, span_id, value, learnt_value, best_value, forgotten FROM span_metrics"
    )
    table = {(version, span): value for version, span, value, *_ in rows}
    for version, span, value, learnt_value, best, forgotten in rows:
        first = span if span in DAYS[1:] else DAYS[1]  # the first two days were learnt together
        assert learnt_value == table[first, span]
        before = [table[day, span] for day in DAYS if first <= day < version]
        assert best == (max(before) if before else None)
        assert forgotten == (max(before) - value if before else None)
    means = asked(workspace, "SELECT forgetting, spans FROM forgetting WHERE version_id = ?", VERSIONS[-1])
    wanted = [row[5] for row in rows if row[0] == DAYS[-1] and row[1] != DAYS[-1]]
    assert means == [(pytest.approx(np.mean(wanted)), len(wanted))]


def test_the_report_shows_it(workspace, learnt):
    with connect(workspace) as connection:
        (section,) = span_matrix(connection, VERSIONS[-1], "hr@10")
    assert section.table.columns == ("after", *DAYS)
    assert [row[0] for row in section.table.rows] == DAYS[1:]
    with connect(learnt) as connection:
        assert span_matrix(connection, VERSIONS[-1], "hr@10") == []


def test_the_doctor_names_the_command_that_mends_it(workspace, tmp_path):
    shutil.copytree(workspace.root, tmp_path / "w")
    broken = Workspace.open(tmp_path / "w")
    broken.matrix_file(VERSIONS[1]).write_bytes(b"PAR1")
    (finding,) = [each for each in examine(broken) if "matrix/" in each.where]
    assert finding.mend == f"imsr report {VERSIONS[1]}"


@pytest.fixture
def nights(tmp_path) -> Workspace:
    """A base and a night to come, with a row for each version that goes live."""
    settings = TOML.replace("[evaluation]\n", f"[evaluation]\nmatrix_users = {USERS}\n")
    return make(tmp_path / "nights", log(range(3)), settings)


def test_a_night_writes_the_row_of_its_version_and_then_the_views_once(nights):
    outcomes = run_all(nights)
    assert all(nights.matrix_file(outcome.version.version_id).exists() for outcome in outcomes)
    assert len(generations(nights)) == len(outcomes) == 2
    assert not publish_catalog(nights)  # nothing is left to show
    with writing(nights, "test", now=NOW) as writer:
        after_learning(writer)
    assert len(generations(nights)) == 2
    assert asked(nights, "SELECT count(DISTINCT version_id) FROM span_metrics") == [(2,)]


def test_a_row_that_fails_takes_no_version_back_and_is_made_by_the_next_night(nights, monkeypatch):
    def fail(*_):
        raise ParquetFileError("sequences are damaged")

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.nights.night.write_span_matrix", fail)
        with pytest.raises(ParquetFileError):
            run_all(nights)
    live = Version.open(nights).row.version_id
    assert asked(nights, "SELECT count(*) FROM spans WHERE state = 'published'") == [(2,)]  # the base, of two days
    with writing(nights, "test", now=NOW) as writer:
        after_learning(writer)
    assert nights.matrix_file(live).exists()
