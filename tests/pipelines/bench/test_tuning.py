"""Settings from the pre-training alone."""

from datetime import date
from itertools import pairwise

import numpy as np
import pytest
from bench_cases import unwatched
from small_world import NOW, TOML, log, make

from pipelines.bench.data import BenchError
from pipelines.bench.tuning import choose, note_of, plan_tuning, tuning_data
from pipelines.settings.imsr_toml import load_settings


def test_what_comes_after_the_pretraining_is_not_looked_at(tmp_path):
    """Another future, the same plan and the same trials."""
    toml = TOML.replace("pretrain = 2", "pretrain = 3")
    found = []
    for name, seed in (("a", 1), ("b", 2)):
        events = log(range(3)) + log(range(3, 6), seed)
        plan = plan_tuning(make(tmp_path / name, events, toml), 2, now=NOW)
        found.append([(t.settings, t.score) for t in plan.trials(unwatched)])
        assert [span.id for span in plan.scope.data.spans] == ["..2024-03-01", "2024-03-02", "2024-03-03"]
        assert plan.todo == 0
    assert found[0] == found[1]


def test_a_short_pretraining_is_cut_by_time(ingested, copy_of):
    data = tuning_data(copy_of(ingested), 0, now=NOW)
    counts = [span.sequences.n_events for span in data.spans]
    with ingested.ledger.snapshot() as view:
        rows = {row.span_id: row.rows for row in view.current_span_versions()}
    assert sum(counts) == rows["2024-03-01"] + rows["2024-03-02"]
    bounds = [(s.sequences.timestamps.min(), s.sequences.timestamps.max()) for s in data.spans]
    assert all(earlier[1] < later[0] for earlier, later in pairwise(bounds))
    assert all(high - low <= 12 * 3600 * 1e6 for low, high in bounds[1:]), "a quarter of two days"


def test_a_sample_of_users(ingested, copy_of):
    data = tuning_data(copy_of(ingested), 6, now=NOW)
    assert len(np.unique(np.concatenate([span.sequences.users for span in data.spans]))) <= 6


def test_a_search_goes_on_and_ends_in_a_note(ingested, copy_of):
    workspace = copy_of(ingested)
    plan = plan_tuning(workspace, 3, now=NOW)
    assert plan.todo == 3
    assert plan.seconds > 0
    next(plan.trials(unwatched))
    again = plan_tuning(workspace, 3, now=NOW)
    assert again.todo == 2
    trials = list(again.trials(unwatched))
    choice = choose(again, trials)
    assert choice.best.score == max(trial.score for trial in trials)
    note = note_of(again, trials, choice, date(2024, 3, 10), applied=False)
    assert note.startswith("2024-03-10: 3 settings of imsr")
    assert f"{100 * choice.best.hr:.2f}" in note
    done = plan_tuning(workspace, 3, now=NOW)
    assert (done.todo, done.seconds) == (0, 0.0)


def test_a_pretraining_that_is_not_there_yet_is_refused(tmp_path):
    workspace = make(tmp_path / "w", log(range(1)))
    with pytest.raises(BenchError, match="needs 2 spans, and 1"):
        tuning_data(workspace, 0, now=NOW)


def test_a_log_whose_users_never_come_back_is_refused(tmp_path):
    """Everybody has events on one day only: all settings would be worth the same, nothing."""
    strangers = [(f"{user} {time[:10]}", item, time) for user, item, time in log(range(3))]
    plan = plan_tuning(make(tmp_path / "w", strangers, TOML.replace("pretrain = 2", "pretrain = 3")), 2, now=NOW)
    with pytest.raises(BenchError, match="had come before: there is nothing to test"):
        list(plan.trials(unwatched))


def test_settings_files_of_trials_are_valid(ingested, copy_of):
    plan = plan_tuning(copy_of(ingested), 40, now=NOW)
    assert len({cell.fingerprint for _, cell in plan.cells}) == 40
    assert plan.cells[0][1].config == load_settings(text=TOML).interests
