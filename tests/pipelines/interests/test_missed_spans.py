"""A span that was rejected or rolled back: the next version has not learnt it, and knows that it happened."""

from dataclasses import replace

import numpy as np
import pytest
from gated_world import held
from small_world import DAYS, NOW, TOML, VERSIONS, current, land, log, make, run_all, version_rows

from imsr_core.ragged import concatenate
from imsr_core.score import Score
from pipelines.care.doctor import examine
from pipelines.interests.promotion import rollback
from pipelines.interests.recommend import Recommender
from pipelines.interests.scoring import length_of_a_span
from pipelines.interests.version import Version
from pipelines.sequences.loader import load_sequences

SCORED = TOML.replace("[evaluation]", "[score]\nenabled = true\n[evaluation]")


@pytest.fixture(scope="module")
def missed(tmp_path_factory):
    """Six days, of which the last but one was rolled back before the last one was learnt."""
    workspace = make(tmp_path_factory.mktemp("missed"), log(range(5)), SCORED)
    run_all(workspace)
    held(workspace, rollback, now=NOW)
    land(workspace, log([5]), "last.csv")
    run_all(workspace)
    return workspace


def sequences(workspace, version):
    return [load_sequences(workspace.resolve(path)) for path in version.lineage.vocabulary]


def test_it_is_not_learnt(missed):
    row = version_rows(missed)[current(missed)]
    assert row.parent == VERSIONS[-3]
    assert Version.open(missed).lineage.spans == (*DAYS[1:4], DAYS[5])


def test_the_doctor_names_a_version_of_before_that_does_not_count_it(missed):
    row = version_rows(missed)[current(missed)]
    assert row.summary["missed"] == [DAYS[4]]
    assert [finding.what for finding in examine(missed) if "does not count" in finding.what] == []
    with missed.ledger.transaction() as tx:
        tx.put_version(replace(row, summary={k: v for k, v in row.summary.items() if k != "missed"}))
    (finding,) = [finding for finding in examine(missed) if "does not count" in finding.what]
    with missed.ledger.transaction() as tx:
        tx.put_version(row)
    assert finding.what == f"span {DAYS[4]} was rejected, and {row.version_id} does not count what happened in it"
    assert finding.mend == f"imsr restate {DAYS[5]}"


def test_it_is_counted(missed):
    version = Version.open(missed)
    state = version.load()
    once = Score.empty(state.config.score, length_of_a_span(missed))
    once = once.after(concatenate(sequences(missed, version)), state.n_items)
    users = once.personal.pairs.owners
    items = np.tile(np.arange(once.n_items), (len(users), 1))
    for name in ("trend", "personal", "neighbours"):
        one, other = getattr(state.score, name), getattr(once, name)
        np.testing.assert_allclose(one.at(users, items), other.at(users, items), rtol=2e-3, atol=1e-3)


def test_what_a_user_took_then_is_not_new(missed):
    version = Version.open(missed)
    *_, away, _ = sequences(missed, version)
    vocabulary = version.vocabulary
    users = vocabulary.user_ids(away.users).to_pylist()
    lists = Recommender.open(missed).top_n(users, 100, exclude_seen=True).to_pylist()
    shown = {(row["user_id"], row["item_id"]) for row in lists}
    had = set(zip(np.array(users)[away.rows], vocabulary.item_ids(away.items).to_pylist(), strict=True))
    assert shown
    assert not shown & had


def test_who_came_then_and_not_since_has_counts_and_no_interest(missed):
    recommender = Recommender.open(missed)
    *_, away, last = sequences(missed, recommender.version)
    users = recommender.version.vocabulary.user_ids(np.setdiff1d(away.users, last.users)).to_pylist()
    strange = [user for user, known in zip(users, recommender.known(users), strict=True) if not known]
    rows = recommender.top_n(strange, 5).to_pylist()
    assert len(rows) == 5 * len(strange) > 0
    assert {row["interest_id"] for row in rows} == {None}
    assert "popular" not in {row["reason"] for row in rows}  # the list is the user's own
