"""R of the users line, and which versions may go live: exact methods by bits, the others by what they forgot."""

import math

import numpy as np
import pytest
import torch
from small_world import DAYS
from task_world import add, matrix, pretrain, users_current, users_rows, with_tasks

from imsr_core.bootstrap import Interval
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.methods.conure import Conure
from imsr_core.lifelong.methods.teracon import Teracon
from imsr_core.lifelong.splits import parts_of
from pipelines.tasks import gate as task_gate
from pipelines.tasks import learning as task_learning
from pipelines.tasks.gate import (
    PROTOCOL,
    TaskScores,
    TaskVerdict,
    judge_task,
    loss_interval,
    matrix_of,
    measure,
    metric_rows,
    same_predictions,
    smoke_test,
    task_data,
)
from pipelines.tasks.learning import recorded_scores
from pipelines.tasks.version import UserVersion, current_version

T1, CLUB, SHOP = (f"u-{DAYS[-1]}.{name}" for name in ("T1", "club", "shop"))


def versions(workspace):
    return [UserVersion.open(workspace, name) for name in users_rows(workspace)]


def test_what_is_measured_is_what_the_ledger_and_the_summary_keep(taught):
    workspace = taught("conure")
    version = current_version(workspace)
    scores = measure(version)
    with workspace.ledger.snapshot() as view:
        recorded = recorded_scores(view, version.row)
    assert sorted(recorded, key=lambda s: s.name) == sorted(scores, key=lambda s: s.name)
    assert {s.name: s.main for s in scores} == {"T1": "mrr@5", "club": "accuracy", "shop": "mrr@5"}
    kept = {task["name"]: task["score"] for task in version.row.summary["tasks"]}
    assert kept == {s.name: s.value for s in scores}
    assert [s.value for s in scores] == matrix(workspace, SHOP)[-1]


def test_scores_are_those_of_test_users_by_hand(taught):
    version = current_version(taught("conure"))
    data = task_data(version.workspace, version.task("club"))
    test = np.flatnonzero(parts_of(data.users, version.state.split) == 2)
    logits = version.method.predict(version.state, "club", data.sequences)
    hits = []
    for row in test:
        place = int(np.searchsorted(data.sequences.users, data.users[row]))
        own = logits[place, data.labels[row]]
        hits.append(bool((logits[place] >= own).sum() == 1))
    (score,) = [s for s in measure(version) if s.name == "club"]
    assert score.n == len(test) > 0
    assert score.metrics == {"accuracy": pytest.approx(np.mean(hits))}


def test_the_matrix_has_a_row_for_every_version_on_the_way(taught):
    with taught("conure").ledger.snapshot() as view:
        found = matrix_of(view, SHOP)
        assert matrix_of(view, CLUB).versions == (T1, CLUB)
    assert (found.versions, found.tasks) == ((T1, CLUB, SHOP), ("T1", "club", "shop"))
    assert np.isnan(found.values).tolist() == [[False, True, True], [False, False, True], [False] * 3]


def test_an_exact_method_is_judged_by_its_bits(taught):
    first, second, third = versions(taught("conure"))
    assert same_predictions(third, second, "club")
    verdict = judge_task(third, second, measure(third), 0.0)
    assert verdict.passed
    assert verdict.identical == {"T1": True, "club": True}
    assert set(verdict.forgetting.values()) <= {0.0, None}  # None: it scored nothing to begin with
    assert judge_task(first, None, measure(first), 0.0) == TaskVerdict(True)


def test_a_version_that_touches_an_old_task_is_rejected(learnt, copy_of, monkeypatch):
    workspace = with_tasks(copy_of(learnt))
    add(workspace, "club")
    learn = Conure.learn_task

    def touching(self, state, problem):
        child = learn(self, state, problem)
        name = "head/club/weight"
        return child.replaced({name: child.tensors[name] + 1e-6})  # a silent head is zeros

    monkeypatch.setattr(Conure, "learn_task", touching)
    outcome = add(workspace, "shop")
    assert outcome.rejected
    assert outcome.verdict.identical == {"T1": True, "club": False}
    assert "task club are not those of" in outcome.verdict.reasons[0]
    assert users_current(workspace) == CLUB
    assert users_rows(workspace)[SHOP].state == "rejected"


def test_scores_that_are_no_numbers_are_rejected(learnt, copy_of, monkeypatch):
    workspace = with_tasks(copy_of(learnt))
    pretrain(workspace)
    monkeypatch.setattr(Conure, "evaluate", lambda self, state, task: {"accuracy": 0.0})
    learn = Conure.learn_task

    def broken(self, state, problem):
        child = learn(self, state, problem)
        return child.replaced({"head/club/weight": torch.full_like(child.tensors["head/club/weight"], torch.nan)})

    monkeypatch.setattr(Conure, "learn_task", broken)
    outcome = add(workspace, "club")
    assert outcome.rejected
    assert "scores that are no numbers" in outcome.verdict.reasons[0]
    assert users_current(workspace) == T1


def POINT(version, task):
    """No interval: the point estimate decides."""
    return


def scores_of(version, **values):
    kinds = {"T1": "mrr@5", "club": "accuracy", "shop": "mrr@5"}
    names = [task.name for task in version.tasks]
    return [TaskScores(name, kinds[name], {kinds[name]: values[name]}, 100) for name in names]


def with_recorded(workspace, version, **values):
    """Another history: the ledger says these scores of a version."""
    with workspace.ledger.transaction() as tx:
        tx.delete("metrics", version_id=version.row.version_id, protocol=PROTOCOL)
        tx.put_metrics(metric_rows(version.row, scores_of(version, **values)))


def test_teracon_is_judged_by_what_it_forgot_since_each_task_was_learnt(taught, copy_of):
    workspace = copy_of(taught("teracon"))
    first, second, third = versions(workspace)
    assert not third.method.exact
    with_recorded(workspace, first, T1=0.5)
    with_recorded(workspace, second, T1=0.4, club=0.8)  # the best that T1 had counts, not the last
    good = judge_task(third, second, scores_of(third, T1=0.48, club=0.9, shop=0.1), 0.05, POINT)
    assert good.passed
    assert good.forgetting == {"T1": pytest.approx(0.04), "club": 0.0}
    bad = judge_task(third, second, scores_of(third, T1=0.45, club=0.7, shop=0.9), 0.05, POINT)
    assert not bad.passed
    assert [reason.split(",")[0] for reason in bad.reasons] == [
        "task T1 lost 10.0% of the score that it had when it was learnt",
        "task club lost 12.5% of the score that it had when it was learnt",
    ]
    assert judge_task(third, second, scores_of(third, T1=0.45, club=0.7, shop=0.9), 0.2, POINT).passed


def test_a_loss_counts_where_the_whole_interval_is_beyond(taught, copy_of):
    """Few test users: a point estimate beyond the limit is chance as long as the interval reaches less."""
    workspace = copy_of(taught("teracon"))
    first, second, third = versions(workspace)
    with_recorded(workspace, first, T1=0.5)
    with_recorded(workspace, second, T1=0.5, club=0.8)
    scores = scores_of(third, T1=0.5, club=0.7, shop=0.9)
    wide = judge_task(third, second, scores, 0.05, lambda version, task: Interval(0.125, 0.04, 0.2))
    assert wide.passed
    assert wide.intervals == {"club": (0.04, 0.2)}
    assert TaskVerdict.from_json(wide.to_json()) == wide
    narrow = judge_task(third, second, scores, 0.05, lambda version, task: Interval(0.125, 0.06, 0.2))
    assert not narrow.passed
    assert "95% interval over its test users 6.0% .. 20.0%" in narrow.reasons[0]


@pytest.mark.parametrize(("low", "passed"), [(0.125, True), (float(np.nextafter(0.125, 1)), False)])
def test_an_interval_that_begins_at_the_limit_is_not_beyond_it(taught, copy_of, low, passed):
    workspace = copy_of(taught("teracon"))
    first, second, third = versions(workspace)
    with_recorded(workspace, first, T1=0.5)
    with_recorded(workspace, second, T1=0.5, club=0.5)
    scores = scores_of(third, T1=0.5, club=0.25, shop=0.9)
    assert judge_task(third, second, scores, 0.125, lambda version, task: Interval(0.5, low, 0.6)).passed is passed


def test_a_loss_of_just_what_is_allowed_passes_without_an_interval(taught, copy_of):
    workspace = copy_of(taught("teracon"))
    first, second, third = versions(workspace)
    with_recorded(workspace, first, T1=0.5)
    with_recorded(workspace, second, T1=0.5, club=0.5)
    scores = scores_of(third, T1=0.5, club=0.375, shop=0.9)
    at_the_limit = judge_task(third, second, scores, 0.25, POINT)
    assert at_the_limit.passed
    assert not at_the_limit.intervals
    assert not judge_task(third, second, scores, float(np.nextafter(0.25, 0)), POINT).passed


def test_the_interval_is_paired_over_test_users(taught, copy_of, monkeypatch):
    workspace = copy_of(taught("teracon"))
    _, second, third = versions(workspace)
    users = np.repeat(np.arange(40), 2)
    before, after = np.ones(80), np.where(users < 10, 0.0, 1.0)
    asked = []

    def scores(self, state, data):
        asked.append(state.task_names)
        return users, after if len(state.tasks) == 3 else before

    monkeypatch.setattr(Teracon, "example_scores", scores)
    found = loss_interval(third, third.task("club"))
    assert asked == [second.state.task_names, third.state.task_names]  # since the version that learnt it
    assert found.mean == 0.25
    assert 0.1 < found.low < 0.25 < found.high < 0.5
    monkeypatch.setattr(Teracon, "example_scores", lambda *a: (users, np.zeros(80)))
    assert loss_interval(third, third.task("club")) is None


def test_a_task_without_a_score_to_lose_is_not_judged(taught, copy_of):
    workspace = copy_of(taught("teracon"))
    first, second, third = versions(workspace)
    with_recorded(workspace, first, T1=0.0)
    with_recorded(workspace, second, T1=0.0, club=0.5)
    verdict = judge_task(third, second, scores_of(third, T1=0.0, club=0.5, shop=0.1), 0.0, POINT)
    assert verdict.passed
    assert verdict.forgetting == {"T1": None, "club": 0.0}


def test_what_forgets_too_much_is_kept_as_rejected_and_not_learnt_again(learnt, copy_of, monkeypatch):
    workspace = with_tasks(copy_of(learnt), "teracon", max_forgetting=0.05)
    pretrain(workspace)
    evaluate = Teracon.evaluate_base
    monkeypatch.setattr(
        Teracon, "evaluate_base", lambda *a: {"mrr@5": 0.5 / len(a[1].tasks)} | {"hr@5": evaluate(*a)["hr@5"]}
    )
    with_recorded(workspace, UserVersion.open(workspace, T1), T1=0.5)
    monkeypatch.setattr(task_gate, "loss_interval", POINT)
    outcome = add(workspace, "club")
    assert outcome.rejected
    assert outcome.verdict.forgetting == {"T1": pytest.approx(0.5)}
    assert users_current(workspace) == T1
    monkeypatch.setattr(task_learning, "get_method", None)
    again = add(workspace, "club")
    assert again.rejected
    assert again.already
    assert again.version.version_id == outcome.version.version_id
    assert again.verdict == outcome.verdict


def test_damage_on_disk_is_seen_by_the_trial(taught, copy_of):
    version = current_version(copy_of(taught("conure")))
    assert smoke_test(version) is None
    path = version.folder / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "state.safetensors" in smoke_test(current_version(version.workspace))


def test_the_verdict_survives_json():
    verdict = TaskVerdict(False, ("a",), {"T1": True}, {"T1": 0.1, "x": None})
    assert TaskVerdict.from_json(verdict.to_json()) == verdict
    assert not any(math.isnan(value) for value in verdict.forgetting.values() if value is not None)
    assert get_method("conure").exact
