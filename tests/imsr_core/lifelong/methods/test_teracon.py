"""TERACON's invariants: nothing about old tasks is exact, so mechanism and bounds are tested."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from imsr_core.encoders.tokens import left_pad
from imsr_core.lifelong.config import PhaseConfig, TeraconConfig
from imsr_core.lifelong.growing import grow_items
from imsr_core.lifelong.methods import distillation, holding, teracon
from imsr_core.lifelong.methods.distillation import Retention
from imsr_core.lifelong.methods.relation_masks import annealed, task_mask
from imsr_core.lifelong.methods.teracon import Teracon
from imsr_core.lifelong.problems import task_problem
from imsr_core.lifelong.splits import parts_of
from imsr_core.lifelong.tasks import BASE_TASK, TaskData
from imsr_core.lifelong.training import Step
from imsr_core.lifelong.view import Pooled
from imsr_core.testing.planted_users import BATCH, planted_task, sequences_of, small_config

TERACON = Teracon()
QUICK = PhaseConfig(epochs=2, min_epochs=2, batch_size=64, learning_rate=0.01)


def quick(**settings: object):  # type: ignore[no-untyped-def]
    """Two epochs, and the network moves."""
    return small_config(task=QUICK, teracon=TeraconConfig(**({"least_gain": 0.0} | settings)))


def test_invariant_12_the_teacher_is_bitwise_unchanged_and_gets_no_gradient(versions, sequences, monkeypatch) -> None:
    parent = versions("teracon")[1]
    before, seen = parent.fingerprints(), []
    loss = Retention.loss

    def watched(self, student, inputs, s):
        value = loss(self, student, inputs, s)
        seen.extend(tensor.requires_grad for tensor in self._teacher.values())
        seen.extend(student[name] is self._teacher[name] for name in self._teacher if name in student)
        return value

    monkeypatch.setattr(Retention, "loss", watched)
    child = TERACON.add_task(parent, planted_task("half", sequences), quick(), 1)
    assert seen
    assert not any(seen)
    assert parent.fingerprints() == before
    moved = [name for name in parent.tensors if "convolutions" in name or name.startswith(("head", "embedding"))]
    assert not any(torch.equal(child.tensors[name], parent.tensors[name]) for name in moved)


def test_invariant_13_s_runs_from_its_reciprocal_to_just_below_s_max_in_every_epoch() -> None:
    batches, s_max = 7, 50.0
    values = [annealed(Step(epoch=3, batch=b, batches=batches), s_max) for b in range(batches)]
    assert values[0] == 1 / s_max
    assert values == sorted(set(values))
    assert values[-1] == pytest.approx(s_max - (s_max - 1 / s_max) / batches)
    assert values == [annealed(Step(epoch=0, batch=b, batches=batches), s_max) for b in range(batches)]


def test_invariant_13_embeddings_are_clamped_rates_are_bounded_and_somebody_is_sampled(
    versions, sequences, monkeypatch
) -> None:
    rates, sampled, largest = [], [], []
    renew = Retention.renew_rates

    def watched(self, student, tasks, s):
        renew(self, student, tasks, s)
        rates.extend(self.rates.values())
        sampled.extend(self.sampled.values())
        largest.extend(float(t.abs().max()) for n, t in student.items() if n.startswith("embedding/"))

    monkeypatch.setattr(Retention, "renew_rates", watched)
    settings = {"clamp": 0.5, "min_sampled": 1}
    TERACON.add_task(versions("teracon")[1], planted_task("half", sequences), quick(**settings), 1)
    low = 1.0 - torch.sigmoid(torch.tensor(6.0)).item()
    assert min(rates) >= low - 1e-6
    assert max(rates) <= 0.5
    assert min(rates) < 0.01  # s near 0: all masks alike, rho at its floor, int(64 rho) = 0 in the released code
    assert min(sampled) >= 1
    assert max(largest) <= 0.5


def test_invariant_13_scoring_runs_at_s_max(versions, sequences, monkeypatch) -> None:
    steepness: list[tuple[bool, float]] = []
    mask = task_mask

    def watched(tensors, tasks, task, s):
        steepness.append((any(t.requires_grad for t in tensors.values()) and torch.is_grad_enabled(), s))
        return mask(tensors, tasks, task, s)

    monkeypatch.setattr(teracon, "task_mask", watched)
    TERACON.add_task(versions("teracon")[0], planted_task("half", sequences), quick(), 1)
    # every view of the new task is built with gradients on; the scoring ones are those at s_max
    assert 50.0 in {s for _, s in steepness}
    assert sum(s == 50.0 for _, s in steepness) == QUICK.epochs


@pytest.mark.parametrize("n_before", [0, 1, 2])
def test_invariant_14_training_path_and_serving_path_are_the_same_function(
    versions, sequences, probe, monkeypatch, n_before
) -> None:
    parent, inputs = versions("teracon")[n_before], left_pad(probe, 12)
    views = []
    fit = teracon.fit

    def watched(problem, start, view_of, *args, **kwargs):
        result = fit(problem, start, view_of, *args, **kwargs)
        views.append(view_of(result.parameters, None))
        return result

    student_views = []
    original = Retention.__init__

    def remember(self, teacher, past, teacher_view, student_view, *args):
        student_views.append(student_view)
        original(self, teacher, past, teacher_view, student_view, *args)

    monkeypatch.setattr(teracon, "fit", watched)
    monkeypatch.setattr(Retention, "__init__", remember)
    child = TERACON.add_task(parent, planted_task("third", sequences), quick(), 1)
    with torch.no_grad():
        assert torch.equal(views[0].logits(inputs), TERACON.predict(child, "third", probe))
        for past in parent.task_names:  # as the distillation sees a past task, so it is served
            trained = student_views[0](child.tensors, past, 50.0).logits(inputs)
            assert torch.equal(trained, TERACON.predict(child, past, probe))


def test_invariant_14_the_plain_mask_is_for_one_task_only(versions) -> None:
    one, two = versions("teracon")[0], versions("teracon")[1]
    plain = torch.sigmoid(50.0 * one.tensors["embedding/T1"])
    assert torch.equal(TERACON.view(one, BASE_TASK).adapter.gates, plain)
    served = TERACON.view(two, BASE_TASK).adapter.gates
    assert torch.equal(served, task_mask(two.tensors, two.task_names, BASE_TASK, 50.0))
    assert not torch.allclose(served, torch.sigmoid(50.0 * two.tensors["embedding/T1"]))


def past_error(tensors, parent, probe) -> float:
    """Mean squared difference to the parent's logits over all past tasks, as a student of ``half`` serves them."""
    errors = []
    for name in parent.task_names:
        view = TERACON.view_of_tensors(parent, tensors, (*parent.task_names, "half"), name)
        with torch.no_grad():
            student = view.logits(left_pad(probe, 12))
        errors.append(float((student - TERACON.predict(parent, name, probe)).square().mean()))
    return float(np.mean(errors))


def diverse(parent):
    """The version with masks far from 1: a short training leaves sigmoid(50 * ...) saturated at its start."""
    generator = torch.Generator().manual_seed(3)
    relations = {n: t for n, t in parent.tensors.items() if n.startswith("relation/")}
    return parent.replaced({n: 0.05 * torch.randn(t.shape, generator=generator) for n, t in relations.items()})


def test_invariant_16_distillation_repairs_what_new_relation_layers_broke(versions, sequences, probe) -> None:
    parent, task = diverse(versions("teracon")[1]), planted_task("half", sequences)
    at_start = past_error(TERACON.student_start(parent, task_problem(parent, task, quick(), 1)), parent, probe)
    child = TERACON.add_task(parent, task, small_config(teracon=TeraconConfig(least_gain=0.0)), 1)
    assert at_start > 0.5
    assert past_error(child.tensors, parent, probe) < 0.5 * at_start


def test_invariant_16_without_distillation_more_is_forgotten(versions, sequences, probe) -> None:
    parent, task = versions("teracon")[1], planted_task("half", sequences)
    children = [
        TERACON.add_task(parent, task, small_config(teracon=TeraconConfig(distillation=alpha, least_gain=0.0)), 1)
        for alpha in (0.0, 0.7)
    ]
    unprotected, protected = (past_error(child.tensors, parent, probe) for child in children)
    assert protected < 0.5 * unprotected
    scores = [TERACON.evaluate_base(child, sequences)["mrr@5"] for child in children]
    assert scores[0] < scores[1] - 0.2


def test_invariant_16_carried_relations_make_the_student_start_as_the_teacher(versions, sequences, probe) -> None:
    parent = diverse(versions("teracon")[1])
    carried = task_problem(parent, planted_task("half", sequences), quick(carry_relations=True), 1)
    anew = dataclasses.replace(carried, config=quick())
    assert past_error(TERACON.student_start(parent, carried), parent, probe) < 1e-8
    assert past_error(TERACON.student_start(parent, anew), parent, probe) > 0.5


def test_without_relation_layers_every_task_has_its_own_mask_for_ever(versions, sequences) -> None:
    child = TERACON.add_task(versions("teracon")[0], planted_task("half", sequences), quick(relations=False), 1)
    grandchild = TERACON.add_task(child, planted_task("third", sequences), quick(relations=True), 1)
    assert not any(name.startswith("relation/") for name in grandchild.tensors)
    for name in grandchild.task_names:
        own = torch.sigmoid(50.0 * grandchild.tensors[f"embedding/{name}"])
        assert torch.equal(TERACON.view(grandchild, name).adapter.gates, own)


def test_all_tasks_are_served_from_one_set_of_tensors(versions, sequences) -> None:
    first, parent, *_ = versions("teracon")
    last = TERACON.add_task(parent, planted_task("half", sequences), quick(), 1)
    assert {n for n in last.tensors if n.startswith("encoder/")} == {
        n for n in first.tensors if n.startswith("encoder/")
    }
    assert last.tensors["relation/T1/weight"].shape == (4, 2 * len(last.tasks) - 1)


def test_batches_with_new_items_only_are_still_distilled_on_somebody() -> None:
    generator = torch.Generator().manual_seed(0)
    nobody = torch.zeros(0, dtype=torch.int64)
    assert len(distillation.draw_users(nobody, BATCH, 0.5, 1, generator)) == 32
    assert len(distillation.draw_users(nobody, 3, 0.0025, 1, generator)) == 1
    some = torch.tensor([1, 5])
    assert sorted(distillation.draw_users(some, BATCH, 0.5, 1, generator).tolist()) == [1, 5]
    drawn = distillation.draw_users(torch.arange(BATCH), BATCH, 0.25, 1, generator).tolist()
    assert len(drawn) == len(set(drawn)) == 16


def test_users_with_items_newer_than_the_teacher_are_left_out() -> None:
    inputs = left_pad(sequences_of([[0, 1], [2, 10], [9], [11, 0]]), 4)
    assert distillation.old_users(inputs, 10).tolist() == [0, 2]


def still_and_moved(versions, sequences, before: int):  # type: ignore[no-untyped-def]
    """The parent with so many tasks, and its child where nothing is worth moving for and where anything is."""
    parent, task = versions("teracon")[before], planted_task("half", sequences)
    return parent, *(TERACON.add_task(parent, task, quick(least_gain=gain), 1) for gain in (1e9, 0.0))


@pytest.mark.parametrize("before", [0, 1])
def test_a_network_that_keeps_still_serves_every_older_task_bit_for_bit(versions, sequences, probe, before) -> None:
    parent, still, moved = still_and_moved(versions, sequences, before)
    for name, tensor in parent.tensors.items():
        assert still.tensors[name] is tensor or torch.equal(still.tensors[name], tensor)
    for name in parent.task_names:
        assert torch.equal(TERACON.predict(still, name, probe), TERACON.predict(parent, name, probe))
        assert not torch.equal(TERACON.predict(moved, name, probe), TERACON.predict(parent, name, probe))
    own = {name for name in still.tensors if name not in parent.tensors}
    assert own
    assert all(torch.equal(still.tensors[name], moved.tensors[name]) for name in own)
    assert all("half" in name.split("/") for name in own)
    assert not torch.equal(TERACON.predict(still, "half", probe), TERACON.predict(moved, "half", probe))
    phases = still.task("half").phases["train"]
    assert phases["metric"] == TERACON.evaluate(still, planted_task("half", sequences), "validation")["accuracy"]


def test_after_a_task_that_kept_still_another_may_move_the_network(versions, sequences, probe) -> None:
    """Its masks know all that have one then."""
    _, still, _ = still_and_moved(versions, sequences, 0)
    assert "relation/T1/weight" not in still.tensors
    child = TERACON.add_task(still, planted_task("third", sequences), quick(), 1)
    for name in child.task_names:
        assert child.tensors[f"relation/{name}/weight"].shape == (4, 5)
        assert torch.isfinite(TERACON.predict(child, name, probe)).all()
    again = TERACON.add_task(child, planted_task("genre", sequences), quick(least_gain=1e9), 1)
    assert again.tensors["relation/T1/weight"].shape == (4, 5)
    assert again.tensors["relation/genre/weight"].shape == (4, 7)
    for name in child.task_names:
        assert torch.equal(TERACON.predict(again, name, probe), TERACON.predict(child, name, probe))


def test_the_network_moves_where_held_out_users_gain_by_it_clearly(versions, sequences, monkeypatch) -> None:
    """By more than so many standard errors over users, and only validation users are asked."""
    parent, task = versions("teracon")[1], planted_task("half", sequences)
    problem = task_problem(parent, task, quick(), 1)
    users = np.unique(problem.validation.users)
    gains = np.linspace(-0.5, 1.0, len(users))
    asked = []

    def judged(view, examples):  # type: ignore[no-untyped-def]
        asked.append(set(examples.users.tolist()))
        gain = torch.from_numpy(gains[np.searchsorted(users, examples.users)])
        return None, gain if view is views[0] else torch.zeros_like(gain)

    views = [TERACON.view(parent, BASE_TASK), TERACON.view(parent, "genre")]
    monkeypatch.setattr(holding, "ranks_and_likelihood", judged)
    errors = gains.mean() / (gains.std() / len(users) ** 0.5)
    assert holding.is_worth_moving(problem, *views, 0.99 * errors)
    assert not holding.is_worth_moving(problem, *views, 1.01 * errors)
    assert not holding.is_worth_moving(problem, *views[::-1], 0.01)
    validation = set(task.users[parts_of(task.users, parent.split) == 1].tolist())
    assert asked == [validation] * len(asked)


def test_a_task_of_junk_moves_nothing_and_one_that_can_be_learnt_may(versions, sequences, probe) -> None:
    """By default; unprotected and always moved, the same junk costs T1 something."""
    parent, junk = versions("teracon")[0], planted_task("junk", sequences)
    child = TERACON.add_task(parent, junk, small_config(), 1)
    assert torch.equal(TERACON.predict(child, BASE_TASK, probe), TERACON.predict(parent, BASE_TASK, probe))
    harm = small_config(teracon=TeraconConfig(least_gain=0.0, distillation=0.0))
    wrecked = TERACON.add_task(parent, junk, harm, 1)
    scores = [TERACON.evaluate_base(state, sequences)["mrr@5"] for state in (parent, wrecked)]
    assert scores[1] < 0.97 * scores[0]
    assert not versions("teracon")[1].task("genre").details.get("still")


def test_new_items_are_unknown_while_nothing_has_learnt_their_rows(versions, sequences) -> None:
    grown = grow_items(versions("teracon")[1], 60, seed=3)
    task = planted_task("half", sequences)
    for gain, known in ((1e9, 48), (0.0, 60)):
        child = TERACON.add_task(grown, task, quick(least_gain=gain), 1)
        assert {TERACON.view(child, name).n_items for name in child.task_names} == {known}
        assert child.task("half").n_items == known


def test_windows_come_from_anywhere_in_a_history_and_are_full_where_it_is_long_enough() -> None:
    inputs = left_pad(sequences_of([list(range(10)), [20, 21], []]), 12)
    drawn = [distillation.random_windows(inputs, 4, torch.Generator().manual_seed(seed)) for seed in range(60)]
    long, short, empty = zip(*(window.tolist() for window in drawn), strict=True)
    assert {tuple(row) for row in long} == {tuple(range(start + 4, start + 8)) for start in range(7)}
    assert {tuple(row) for row in short} == {(0, 0, 24, 25)}
    assert {tuple(row) for row in empty} == {(0, 0, 0, 0)}
    narrow = distillation.random_windows(inputs[:, -3:], 4, torch.Generator())
    assert narrow.tolist() == [[0, 11, 12, 13], [0, 0, 24, 25], [0, 0, 0, 0]]


def test_places_hold_items_and_are_different_ones() -> None:
    windows, generator = left_pad(sequences_of([[1, 2, 3], [4], []]), 3), torch.Generator().manual_seed(0)
    assert sorted(distillation.random_places(windows, 5, 9, generator).tolist()) == [0, 1, 2, 5]
    drawn = [tuple(sorted(distillation.random_places(windows, 5, 2, generator).tolist())) for _ in range(60)]
    assert len(set(drawn)) == 6


def test_places_end_before_the_first_item_that_the_teacher_does_not_know() -> None:
    windows, generator = left_pad(sequences_of([[1, 2, 3], [9, 1, 2], [3, 9, 3]]), 3), torch.Generator().manual_seed(0)
    assert sorted(distillation.random_places(windows, 9, 9, generator).tolist()) == [0, 1, 2, 6]
    assert sorted(distillation.random_places(windows[1:2], 9, 9, generator).tolist()) == [0, 1, 2]


@pytest.mark.parametrize("task", ["half", "shop"])
def test_there_is_a_history_to_hold_t1_at_where_the_new_task_reads_its_end_alone(versions, sequences, task) -> None:
    problem = task_problem(versions("teracon")[0], planted_task(task, sequences), quick(), 1)
    assert problem.wide is None
    assert problem.train.inputs.shape[1] == sequences.counts.max() == 16 > 12


def test_t1_is_held_all_over_a_history_and_a_task_of_the_whole_history_as_it_is_served(versions, sequences) -> None:
    """The same tensors answer otherwise in the midst of a history, and only T1's distillation looks there."""
    parent = versions("teracon")[1]
    pooled = dataclasses.replace(TERACON.view(parent, "genre"), pooling=Pooled("root", 2))
    assert distillation.reads_the_last_state(TERACON.view(parent, BASE_TASK))
    assert not distillation.reads_the_last_state(pooled)
    errors = []
    for places in (0, 1000):
        config = small_config(teracon=TeraconConfig(held_places=places, least_gain=0.0))
        child = TERACON.add_task(parent, planted_task("half", sequences), config, 1)
        rows, keep = left_pad(sequences, 12), left_pad(sequences, 12) != 0
        with torch.no_grad():
            before, after = (TERACON.view(state, BASE_TASK) for state in (parent, child))
            scores = [view.head.logits(view.hidden(rows)[keep]).log_softmax(dim=1) for view in (before, after)]
        errors.append(float((scores[0].exp() * (scores[0] - scores[1])).sum(dim=1).mean()))
    assert errors[1] < 0.8 * errors[0]


def test_a_large_label_set_is_distilled_on_a_subset(versions, sequences) -> None:
    parent = versions("teracon")[0]
    child = TERACON.add_task(parent, planted_task("half", sequences), quick(distilled_labels=8), 1)
    assert child.task("half").phases["train"]["epochs"] == 2


def test_a_tiny_batch_has_a_finite_loss(versions, sequences) -> None:
    users = sequences.users[:12]
    task = TaskData("few", sequences, users, users % 2, 2)
    child = TERACON.add_task(versions("teracon")[0], task, quick(min_sampled=1), 1)
    assert all(torch.isfinite(t).all() for t in child.tensors.values())
