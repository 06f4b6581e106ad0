"""The score's tables on disk: as of any version they are what learning everything at once would count."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_world import DAYS, LATER, TOML, VERSIONS, land, log, make, run_all

from imsr_core.ragged import concatenate
from imsr_core.score import Score, factors
from imsr_core.score.pairs import Pairs
from imsr_core.score.strangers import best_alone
from pipelines.care.forget import trace
from pipelines.interests import rank_job, score_files
from pipelines.interests.evaluation import seen_before
from pipelines.interests.recommend import Recommender
from pipelines.interests.remembered import counts_are_all
from pipelines.interests.score_files import (
    CONTEXTS,
    COUNTS,
    OLDER_COUNTS,
    contexts_since,
    pairs_in,
    read_base,
    write_base,
)
from pipelines.interests.scoring import length_of_a_span
from pipelines.interests.version import Version
from pipelines.sequences.loader import load_sequences
from pipelines.warehouse.catalog import connect
from pipelines.workspace.parquet_files import row_count

SCORED = TOML.replace("[evaluation]", "residual = true\nwindow = 1\n[score]\nenabled = true\n[evaluation]")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A workspace whose six days were learnt with a score."""
    workspace = make(tmp_path_factory.mktemp("scored"), log(), SCORED)
    run_all(workspace)
    return workspace


def counted(workspace, version_id):
    """What learning everything at once gives."""
    version = Version.open(workspace, version_id)
    parts = [load_sequences(workspace.resolve(path)) for path in version.lineage.vocabulary]
    state = version.load()
    return state, Score.empty(state.config.score, length_of_a_span(workspace)).after(concatenate(parts), state.n_items)


def require_same(score, expected):
    users = expected.personal.pairs.owners
    items = np.tile(np.arange(expected.n_items), (len(users), 1))
    for name in ("trend", "personal", "neighbours"):  # factors are learnt span by span, and are no counts
        one, other = getattr(score, name), getattr(expected, name)
        np.testing.assert_allclose(one.at(users, items), other.at(users, items), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("version_id", VERSIONS)
def test_as_of_every_version_the_counts_are_those_of_all_its_spans_at_once(scored, version_id):
    state, expected = counted(scored, version_id)
    require_same(state.score, expected)


def test_a_few_users_are_read_alone(scored):
    version = Version.open(scored)
    everybody, some = version.load().score, version.load(np.array([2, 7])).score
    assert set(some.personal.pairs.owners) <= {2, 7}
    mine = everybody.personal.pairs.of_owners(np.array([2, 7]))
    np.testing.assert_array_equal(some.personal.pairs.values, mine.values)


def test_weights_are_fitted_night_by_night_and_said(scored):
    with connect(scored) as connection:
        rows = connection.sql(
            "SELECT span_id, shown, count(*), max(events) FROM score_weights GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    alone = {row[0]: row[2] for row in rows if row[1] == "strangers"}
    fitted = [row for row in rows if row[1] != "strangers"]
    assert len(fitted) == 2 * len(VERSIONS)
    score = Version.open(scored).load().score
    assert {row[2] for row in fitted} == {len(score.columns)}
    assert all(row[3] >= 30 for row in fitted[-4:] if row[1] == "everything")
    assert alone[fitted[-1][0]] == len(score.strangers) == len(score.trend.columns)
    weights = [tuple(Version.open(scored, v).load().score.weights.values[0].tolist()) for v in VERSIONS]
    assert len(set(weights)) >= len(VERSIONS) - 1  # the first day has too few events to say anything


def test_the_views_show_what_a_user_had_and_what_goes_with_what(scored):
    with connect(scored) as connection:
        had = connection.sql("SELECT user_id, item_id, times, last_time FROM user_items ORDER BY ALL").fetchall()
        events = connection.sql(
            "SELECT user_id, item_id, count(*), max(timestamp) AT TIME ZONE 'UTC' FROM interactions GROUP BY ALL "
            "ORDER BY ALL"
        ).fetchall()
        near = connection.sql("SELECT count(*), min(steps + taste) FROM item_neighbours").fetchall()[0]
    assert had == events
    assert near[0] > 0
    assert near[1] > 0


def test_metrics_and_the_gate_are_of_the_score(scored):
    with connect(scored) as connection:
        spans = connection.sql("SELECT DISTINCT span_id FROM metrics ORDER BY 1").fetchall()
    assert [row[0] for row in spans] == LATER


def test_a_score_that_is_switched_on_later_counts_what_was_learnt_before(tmp_path):
    workspace = make(tmp_path / "w", log(range(4)))
    run_all(workspace)
    assert Version.open(workspace).load().score is None
    workspace.settings_file.write_text(SCORED)
    reopened = type(workspace).open(workspace.root)
    land(reopened, log(range(4, 6)), "more.csv")

    run_all(reopened)
    state, expected = counted(reopened, None)
    require_same(state.score, expected)


def test_a_workspace_with_one_table_of_factors_serves_as_it_did_and_goes_on_with_two(tmp_path, monkeypatch):
    users = np.arange(5)
    with monkeypatch.context() as older:
        older.setattr(factors, "WEIGHTS", factors.WEIGHTS[:1])
        workspace = make(tmp_path / "w", log(range(4)), SCORED)
        run_all(workspace)
        before = Version.open(workspace).load().scorer("everything").scores(users)
    state = Version.open(workspace).load()
    torch.testing.assert_close(state.scorer("everything").scores(users), before, rtol=0, atol=0)
    land(workspace, log(range(4, 6)), "more.csv")

    run_all(workspace)
    now = Version.open(workspace).load().score
    assert (state.score.factors.tables, now.factors.tables) == (1, 2)
    assert bool(now.factors.factors[:, factors.RANK :].any())
    with connect(workspace) as connection:
        weighed = connection.sql(
            """SELECT span_id FROM score_weights WHERE "column" = 'factors_often' GROUP BY ALL ORDER BY ALL"""
        ).fetchall()
    assert [row[0] for row in weighed] == DAYS[4:6]


@pytest.mark.parametrize("day", LATER)
def test_what_users_had_is_in_the_counts_and_no_earlier_span_is_opened(scored, day, monkeypatch):
    """The figures of a test are those of one that looks into every span before."""
    with scored.ledger.snapshot() as view:
        row, version = view.sequences(day)[-1], VERSIONS[LATER.index(day)]
    found, looked = {}, []
    for counts in (True, False):
        monkeypatch.setattr(rank_job, "seen_before", lambda *given: looked.append(given) or seen_before(*given))
        if not counts:
            monkeypatch.setattr(rank_job, "counts_are_all", lambda *given: np.zeros(1, dtype=bool))
        found[counts] = [(r.slice, r.metric, r.value, r.n) for r in rank_job.score(scored, version, row, "next_span")]
        assert bool(looked) is not counts
    assert found[True] == found[False]
    assert {"repeat", "explore"} <= {name for name, *_ in found[True]}


def test_counts_that_are_not_all_are_not_believed(scored):
    version = Version.open(scored)
    score, users = version.load().score, np.arange(9)
    _, had = score.personal.pairs.spans_of(users)
    assert had.max() > had.min()
    assert counts_are_all(version, score, users).all()
    few = score.configured(replace(score.config, history=int(had.max())))
    np.testing.assert_array_equal(counts_are_all(version, few, users), had < had.max())
    paper = replace(version, lineage=replace(version.lineage, protocol="holdout"))
    assert not counts_are_all(paper, score, users).any()
    assert not counts_are_all(version, None, users).any()


def test_a_forgotten_user_is_in_no_table(scored):
    found = trace(scored, "u3").found
    assert {path.split("/")[-1] for path in found if path.startswith("versions/")} >= {
        "user_items.parquet",
        "recent_items.parquet",
        "neighbour_contexts.parquet",
    }


def test_days_are_days(scored):
    assert length_of_a_span(scored) == 86_400_000_000
    assert DAYS[0] == "2024-03-01"


def pairs_in_sql(workspace):
    with connect(workspace) as connection:
        rows = connection.sql("SELECT item_id, neighbour_id, steps, taste FROM item_neighbours ORDER BY ALL").fetchall()
    return {row[:2]: row[2:] for row in rows}


def pairs_of(workspace, score):
    near = score.neighbours.pairs
    owner, other = (Version.open(workspace).vocabulary.item_ids(ids).to_pylist() for ids in (near.owner, near.other))
    return dict(zip(zip(owner, other, strict=True), map(tuple, near.values), strict=True))


def test_sql_counts_what_goes_with_what_as_the_model_does(scored):
    _, expected = counted(scored, None)
    found, wanted = pairs_in_sql(scored), pairs_of(scored, expected)
    assert found.keys() == wanted.keys()
    np.testing.assert_allclose([found[key] for key in wanted], list(wanted.values()), rtol=1e-5)


def test_a_span_writes_what_its_events_go_with_and_nothing_else_of_items(scored):
    first, *later = (Version.open(scored, version_id).folder for version_id in VERSIONS)
    assert (first / COUNTS).exists()
    assert not (first / CONTEXTS).exists()
    for folder in later:
        assert (folder / COUNTS).exists() != (folder / CONTEXTS).exists()
    assert any((folder / CONTEXTS).exists() for folder in later)


def test_contexts_that_outgrow_the_counts_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("imsr_core.score.neighbours.FEW", 0)
    monkeypatch.setattr("imsr_core.score.neighbours.OVERGROWN", 1)
    workspace = make(tmp_path / "w", log(), SCORED)
    run_all(workspace)
    folders = [Version.open(workspace, version_id).folder for version_id in VERSIONS]
    assert sum((folder / COUNTS).exists() for folder in folders) >= 3
    state, expected = counted(workspace, None)
    require_same(state.score, expected)
    found, wanted = pairs_in_sql(workspace), pairs_of(workspace, expected)
    assert found.keys() == wanted.keys()
    np.testing.assert_allclose([found[key] for key in wanted], list(wanted.values()), rtol=1e-5)


def pairs_table(*rows):
    owner, other, steps = (np.array(column) for column in zip(*rows, strict=True))
    return Pairs(owner, other, np.zeros(len(rows), np.int64), np.stack([steps, steps / 2], 1).astype(float))


def test_counts_that_an_older_version_wrote_in_parts_are_read_and_counted_anew(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    for folder, rows in zip(folders, ([(0, 1, 3), (0, 2, 1), (4, 1, 1)], [(0, 1, 4)]), strict=False):
        write_base([pairs_table(*rows)], "v", folder / OLDER_COUNTS)
    base = read_base(folders)
    assert list(zip(base.owner, base.other, base.values[:, 0], strict=True)) == [(0, 1, 4.0), (4, 1, 1.0)]
    assert contexts_since(folders) == [folders[2] / CONTEXTS]
    assert pairs_in(folders) == 0
    write_base([pairs_table((7, 8, 1))], "v", folders[2] / COUNTS)
    assert read_base(folders).owner.tolist() == [7]
    assert (contexts_since(folders), pairs_in(folders)) == ([], 1)


def test_strangers_get_what_the_trend_was_worth(scored):
    recommender = Recommender.open(scored.root)
    score = recommender.state.score
    best = recommender.version.vocabulary.item_ids(best_alone(score.strangers, score.trend).numpy()).to_pylist()
    table = recommender.top_n(["stranger"], 5, exclude=[best[1]])
    assert table["item_id"].to_pylist() == [best[0], *best[2:6]]
    assert set(table["reason"].to_pylist()) == {"popular"}


def test_counts_that_come_in_pieces_are_the_file_that_they_are_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(score_files, "_COUNT_ROWS", 4)
    monkeypatch.setattr(score_files, "_WRITTEN_ROWS", 8)
    whole = pairs_table(*((n // 5, n % 5, n) for n in range(30)))
    write_base([whole], "v", tmp_path / "whole.parquet")
    pieces = [whole.take(slice(first, first + 7)) for first in range(0, 30, 7)]
    write_base(pieces, "v", tmp_path / "pieces.parquet")
    assert (tmp_path / "pieces.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert max(map(len, score_files._in_groups(pieces))) == 8
    write_base([pieces[0].take(slice(0))], "v", tmp_path / "none.parquet")
    assert row_count(tmp_path / "none.parquet") == 0
