"""The wide part: against literal formulas, and what it may not know."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from imsr_core.encoders.tokens import FIRST_ITEM, PAD, left_pad
from imsr_core.lifelong import fitting, linear, protocol, regression, wide
from imsr_core.lifelong.directions import main_directions
from imsr_core.lifelong.evaluation import Score
from imsr_core.lifelong.growing import first_open_row, grow_items
from imsr_core.lifelong.heads import Head, bpr, initial_head, sampled_softmax
from imsr_core.lifelong.linear import Linear, fit_linear
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.methods.peterrec import parameter_share
from imsr_core.lifelong.problems import task_problem
from imsr_core.lifelong.removing import remove_task
from imsr_core.lifelong.sparse_rows import SparseRows
from imsr_core.lifelong.splits import parts_of
from imsr_core.lifelong.tasks import TaskData, task_examples
from imsr_core.lifelong.training import PhaseResult
from imsr_core.testing.planted_users import planted_task, sequences_of, small_config


def rows_of(dense: torch.Tensor) -> SparseRows:
    rows, columns = torch.nonzero(dense, as_tuple=True)
    return SparseRows(rows, columns, dense[rows, columns], (dense.shape[0], dense.shape[1]))


def config_of(length: int = 50):  # type: ignore[no-untyped-def]
    config = small_config()
    return replace(config, objective=replace(config.objective, wide=length))


def test_scores_are_the_sum_over_different_known_items_over_the_root_of_how_many_there_are() -> None:
    rows = torch.tensor([[PAD, 4, 9, 4, 7], [PAD] * 5, [11, 12, 9, 9, 9]])
    model = Linear(torch.tensor([4, 7, 11]), torch.randn(3, 2), torch.randn(2), length=4)
    found = model.logits(rows)
    w, b = dict(zip((4, 7, 11), model.weight, strict=True)), model.bias
    assert torch.allclose(found[0], (w[4] + w[7]) / math.sqrt(3) + b)  # 4, 9 and 7; 9 has no weight
    assert torch.equal(found[1], b)
    assert torch.equal(found[2], b)  # 11 is too long ago
    assert torch.equal(model.logits(rows[:1])[0], found[0])  # whoever else is asked for


def test_products_of_sparse_rows_are_those_of_the_dense_matrix() -> None:
    torch.manual_seed(0)
    dense = torch.randn(7, 5) * (torch.rand(7, 5) < 0.4)
    dense[3], dense[:, 2] = 0.0, 0.0  # a user without items, an item without users
    matrix, right, left = rows_of(dense), torch.randn(5, 3), torch.randn(7, 3)
    assert torch.allclose(matrix @ right, dense @ right, atol=1e-6)
    assert torch.allclose(matrix.turned(left), dense.t() @ left, atol=1e-6)
    few = torch.tensor([0, 3, 6])
    assert torch.allclose(matrix.of(few) @ right, dense[few] @ right, atol=1e-6)
    assert torch.allclose(matrix.of(few).turned(left[few]), dense[few].t() @ left[few], atol=1e-6)
    assert torch.equal(matrix.of(few[:0]).turned(left[:0]), torch.zeros(5, 3))
    assert torch.equal(rows_of(torch.zeros(2, 0)) @ torch.zeros(0, 3), torch.zeros(2, 3))


@pytest.fixture(params=[1, 2])
def threads(request):
    """torch's kernels are others from two threads on."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_products_with_a_table_of_no_columns_have_none(threads) -> None:
    for matrix in (rows_of(torch.eye(3)), rows_of(torch.ones(32, 5))):
        users, items = matrix.shape
        assert (matrix @ torch.zeros(items, 0)).shape == (users, 0)
        assert matrix.turned(torch.zeros(users, 0)).shape == (items, 0)


def test_a_catalogue_too_small_for_directions_is_fitted_whoever_comes_last(threads) -> None:
    items = 2 * linear.DIRECTIONS
    lists = [[user % items, (user + 1) % items] for user in range(5 * items)]  # nobody is without an item that counts
    sequences = sequences_of(lists)
    labels = np.array([int(row[0] < items / 2) for row in lists])
    examples = task_examples(TaskData("a", sequences, sequences.users, labels, 2), 8)
    fitted = fit_linear(examples, examples, 2, 8, seed=0)
    assert fitted.unseen.isfinite().all()
    assert (fitted.model.logits(examples.inputs)[examples.rows].argmax(dim=1) == examples.labels).float().mean() > 0.7


def test_weights_are_at_the_minimum_of_the_penalised_loss() -> None:
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, 12, 8).tolist() for _ in range(200)]
    sequences = sequences_of(lists)
    labels = np.array([int(3 in row) for row in lists])
    examples = task_examples(TaskData("a", sequences, sequences.users, labels, 2), 8)
    fitted = fit_linear(examples, examples, 2, 8, seed=0)
    model = fitted.model

    def loss(weight: torch.Tensor, penalty: float) -> torch.Tensor:
        scores = replace(model, weight=weight).logits(examples.inputs)
        return F.cross_entropy(scores, examples.labels) + penalty / 2 * weight.square().sum()

    gradients = []
    for penalty in linear.PENALTIES:
        weight = model.weight.clone().requires_grad_()
        gradients.append(float(torch.autograd.grad(loss(weight, penalty), weight)[0].abs().max()))
    assert min(gradients) < 1e-3 < max(gradients)


def groups_of_users(users: int, seed: int) -> tuple[list[list[int]], np.ndarray]:
    """Users of two groups with twenty of forty items each, mostly their group's: (lists, group)."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 2, users)
    often = np.where(np.arange(40) < 20, 1.0, 3.0)
    chances = [often / often.sum(), often[::-1] / often.sum()]
    return [rng.choice(40, 20, replace=False, p=chances[each]).tolist() for each in group], group


def test_main_directions_are_the_principal_components_of_the_rows_about_their_mean() -> None:
    torch.manual_seed(0)
    whole = torch.randn(60, 3) @ torch.diag(torch.tensor([9.0, 5.0, 3.0])) @ torch.randn(3, 20) + 0.1 * torch.randn(
        60, 20
    )
    whole = whole + 4.0  # far from zero: what is common to all is no direction
    found = main_directions(rows_of(whole), 3, seed=1)
    exact = torch.linalg.svd(whole - whole.mean(dim=0), full_matrices=False).Vh[:3].t()
    assert torch.allclose((found * exact).sum(dim=0).abs(), torch.ones(3), atol=1e-3)
    assert torch.allclose(found.t() @ found, torch.eye(3), atol=1e-5)
    assert torch.equal(found, main_directions(rows_of(whole), 3, seed=1))


@pytest.mark.parametrize(("rows", "items"), [(1, 5), (5, 0), (4, 3)])
def test_there_are_no_more_directions_than_the_matrix_has(rows: int, items: int) -> None:
    found = main_directions(rows_of(torch.ones(rows, items)), 16, seed=0)
    assert found.shape == (items, 0)


def test_an_eased_penalty_is_that_share_of_it_along_the_directions(monkeypatch) -> None:
    lists, group = groups_of_users(60, 0)
    sequences = sequences_of(lists)
    examples = task_examples(TaskData("a", sequences, sequences.users, group, 2), 20)
    monkeypatch.setattr(linear, "PENALTIES", (1e-2,))
    monkeypatch.setattr(linear, "EASED", (0.25,))
    monkeypatch.setattr(regression, "PSEUDO_USERS", 0.0)
    known = []

    def kept(matrix, count, seed):  # type: ignore[no-untyped-def]
        known.append(main_directions(matrix, count, seed))
        return known[0]

    monkeypatch.setattr(linear, "main_directions", kept)
    model = fit_linear(examples, examples, 2, 20, seed=0, directions=1).model
    across = torch.eye(40) - known[0] @ known[0].t()
    weight = model.weight.clone().requires_grad_()
    loss = F.cross_entropy(replace(model, weight=weight).logits(examples.inputs)[examples.rows], examples.labels)
    held = (across @ weight).square().sum() + 0.25 * (known[0].t() @ weight).square().sum()
    gradient = torch.autograd.grad(loss + 1e-2 / 2 * held, weight)[0]
    assert float(gradient.abs().max()) < 1e-4
    assert float((1e-2 * 0.75 * known[0] @ (known[0].t() @ model.weight)).abs().max()) > 1e-3  # it is not the plain one


def test_few_labels_that_follow_what_users_differ_in_are_learnt_better() -> None:
    lists, group = groups_of_users(400, 0)
    sequences = sequences_of(lists)
    examples = task_examples(TaskData("a", sequences, sequences.users, group, 2), 20)
    train, judges, rest = (examples._take(np.arange(*part)) for part in ((0, 30), (30, 60), (60, 400)))
    losses = [
        F.cross_entropy(fit_linear(train, judges, 2, 20, 0, n).model.logits(rest.inputs)[rest.rows], rest.labels)
        for n in (0, 2)
    ]
    assert losses[1] < 0.97 * losses[0]


def test_what_a_training_user_is_told_does_not_depend_on_the_users_own_label(sequences) -> None:
    task = planted_task("genre", sequences)
    examples = task_examples(task, 20)
    found = []
    for flipped in (False, True):
        labels = examples.labels.clone()
        if flipped:
            labels[0] = (labels[0] + 1) % task.n_labels
        flipped_one = replace(examples, labels=labels)
        found.append(fit_linear(flipped_one, examples, task.n_labels, 20, seed=0, directions=0))
    assert torch.allclose(found[0].unseen[0], found[1].unseen[0], atol=1e-3)
    own = [each.model.logits(examples.inputs)[examples.rows[0]] for each in found]
    assert not torch.allclose(own[0], own[1], atol=1e-3)


@pytest.mark.parametrize("asked", ["genre", "shop"])
@pytest.mark.parametrize("method", ["peterrec", "conure", "teracon", "finesmax"])
def test_no_test_user_decides_anything(versions, sequences, method, asked) -> None:
    parent, task = versions(method, ())[0], planted_task(asked, sequences)
    test = parts_of(task.users, parent.split) == 2
    other = replace(task, labels=np.where(test, (task.labels + 1) % task.n_labels, task.labels))
    quick = replace(
        config_of(), task=replace(small_config().task, epochs=1), retrain=replace(small_config().task, epochs=1)
    )
    first, second = (get_method(method).add_task(parent, each, quick, 1).fingerprints() for each in (task, other))
    assert first == second


def test_where_the_encoder_only_harms_the_head_is_silent(versions, sequences) -> None:
    parent, rng = versions("fineall", ())[0], np.random.default_rng(1)
    task = planted_task("genre", sequences)
    noise = replace(task, labels=rng.integers(0, task.n_labels, len(task.labels)))
    wild = replace(config_of(), task=replace(small_config().task, learning_rate=1.0, epochs=1, min_epochs=1))
    child = get_method("fineall").add_task(parent, noise, wild, 1)
    assert not child.head("genre").weight.any()
    view = get_method("fineall").view(child, "genre")
    rows = task_examples(noise, view.length).inputs
    assert torch.allclose(view.logits(rows), view.wide.logits(rows))


@pytest.mark.parametrize("kind", ["classes", "items"])
@pytest.mark.parametrize("method", ["conure", "teracon", "peterrec", "fineall", "sinmo"])
def test_what_the_encoder_adds_nothing_to_keeps_no_weights_of_it(
    versions, sequences, monkeypatch, method, kind
) -> None:
    """Noise: the head is silent. What is shared is the parent's bit for bit, and the next task learns as without it."""
    learner, parent = get_method(method), versions(method, ())[0]
    task, rng = planted_task("genre", sequences), np.random.default_rng(1)
    noise = replace(task, name="noise", labels=rng.integers(0, task.n_labels, len(task.labels)), kind=kind)
    monkeypatch.setattr(protocol, "deep_share", lambda *_: 0.0)
    short = replace(small_config().task, epochs=2, min_epochs=1)
    quick = replace(config_of(), task=short, retrain=short)
    grown = grow_items(parent, parent.n_items + 3, 1)
    heard: set[str] = set()
    child = learner.add_task(grown, noise, quick, 1, lambda at: heard.add(at.phase))
    assert ("retrain" in heard) is (method == "conure" and kind == "items")  # no residual, no second phase
    assert not child.head("noise").weight.any()
    assert {n for n in child.tensors if n not in grown.tensors} == {
        n for n in child.tensors if n.startswith(("head/noise/", "wide/noise/"))
    }
    assert all(child.tensors[name] is tensor for name, tensor in grown.tensors.items())
    assert first_open_row(child) == first_open_row(grown)
    view = learner.view(child, "noise")
    rows = task_examples(noise, view.length).inputs
    assert torch.equal(learner.predict(child, "noise", sequences), view.wide.logits(left_pad(sequences, view.length)))
    assert torch.isfinite(view.logits(rows)).all()
    after, alone = (learner.add_task(each, task, quick, 1) for each in (child, grown))
    mine, others = (
        {n: f for n, f in each.fingerprints().items() if "/noise" not in n and not n.startswith("owner/")}
        for each in (after, alone)
    )
    assert mine == others
    for name, owner in after.group("owner").items():  # Conure: as much is free, of the third task as of a second
        assert torch.equal(owner == 3, alone.group("owner")[name] == 2)
    assert torch.equal(learner.predict(after, "noise", sequences), learner.predict(child, "noise", sequences))


@pytest.mark.parametrize(("errors", "kept"), [(1.5, False), (2.5, True)])
def test_the_encoder_stays_where_its_gain_is_worth_two_standard_errors(
    versions, sequences, monkeypatch, errors, kept
) -> None:
    problem = task_problem(versions("fineall", ())[0], planted_task("genre", sequences), config_of(), 1)
    n = len(problem.validation)
    spread = torch.tensor([1.0, -1.0]).repeat(n)[:n]
    gain = spread + errors * float(spread.std(correction=0)) / n**0.5 - spread.mean()
    view = get_method("fineall").view(versions("fineall", ())[0], "T1")
    answers = iter([(None, gain), (None, torch.zeros(n))])
    monkeypatch.setattr(fitting, "ranks_and_likelihood", lambda *_: next(answers))
    monkeypatch.setattr(fitting, "score", lambda *_: Score(0.0, 0.0))
    result = PhaseResult({"head/genre/weight": torch.ones(2, 2), "other": torch.ones(1)}, Score(0.0, 0.0), 0, 1)
    found = fitting._at_least_wide(problem, result, lambda *_: view).parameters
    assert bool(found["head/genre/weight"].any()) is kept
    assert found["other"].all()


def test_newer_items_and_a_longer_history_change_nothing_and_a_task_takes_its_part_along(versions, sequences) -> None:
    method = get_method("peterrec")
    child = method.add_task(versions("peterrec", ())[0], planted_task("genre", sequences), config_of(), 1)
    assert "wide/genre/weight" in child.tensors
    grown = grow_items(child, child.n_items + 7, 1)
    assert torch.equal(method.predict(grown, "genre", sequences), method.predict(child, "genre", sequences))
    share = parameter_share(child, "genre")
    assert share["wide"] == sum(child.tensors[f"wide/genre/{part}"].numel() for part in ("items", "weight", "bias"))
    assert share["share"] == pytest.approx((share["patch"] + share["wide"]) / share["backbone"])
    assert not [name for name in remove_task(child, "genre").tensors if "genre" in name]


def test_a_task_about_items_has_one_unless_it_is_off_or_has_many_labels(versions, sequences, monkeypatch) -> None:
    parent, config = versions("finesmax", ())[0], config_of()
    shop = planted_task("shop", sequences)
    problem = task_problem(parent, shop, config, 1)
    assert problem.wide is not None
    assert problem.residual is None  # the deep part learns alone
    assert task_problem(parent, planted_task("genre", sequences), config_of(0), 1).wide is None
    off = replace(config, objective=replace(config.objective, wide_items=False))
    assert task_problem(parent, shop, off, 1).wide is None
    monkeypatch.setattr(wide, "MOST_LABELS", shop.n_labels - 1)
    assert task_problem(parent, shop, config, 1).wide is None


def test_every_loss_counts_what_the_wide_part_says() -> None:
    torch.manual_seed(0)
    vectors, labels, wide = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 4, 0]), torch.randn(6, 5)
    head = Head(**initial_head(5, 4, 0, bias=True))
    both = dataclasses.replace(head, wide=wide)
    whole = head.logits(vectors) + wide
    assert torch.equal(both.logits(vectors), whole)
    some = torch.tensor([3, 0])
    assert torch.allclose(both.some_logits(vectors, some), whole[:, some])
    assert torch.allclose(both.own_logits(vectors, labels), whole[torch.arange(6), labels])
    for loss in (
        lambda head: bpr(vectors, labels, head, torch.Generator().manual_seed(1)),
        lambda head: sampled_softmax(vectors, labels, head, 3, torch.Generator().manual_seed(1)),
    ):
        assert loss(both) != loss(head)


def test_a_label_that_no_training_user_has_is_rare_and_not_impossible() -> None:
    """Where items say nothing, the answer is the labels' counts and half a user more of each."""
    sequences = sequences_of([[0, 1]] * 6)
    examples = task_examples(TaskData("a", sequences, sequences.users, np.array([0, 0, 0, 1, 1, 0]), 3), 2)
    model = fit_linear(examples, examples, 3, 2, seed=0).model
    found = model.logits(examples.inputs).softmax(dim=1)[0]
    assert torch.allclose(found, torch.tensor([4.5, 2.5, 0.5]) / 7.5, atol=0.02)


def test_rare_items_have_no_weight() -> None:
    lists = [[0, 1], [0, 1], [0, 1], [0, 2], [0, 2]]
    sequences = sequences_of(lists)
    examples = task_examples(TaskData("a", sequences, sequences.users, np.array([0, 0, 0, 1, 1]), 2), 2)
    model = fit_linear(examples, examples, 2, 2, seed=0).model
    assert model.items.tolist() == [FIRST_ITEM, FIRST_ITEM + 1]


def test_every_fit_is_told_and_they_are_no_more_than_was_said(versions, sequences) -> None:
    heard = []
    task_problem(versions("finesmax", ())[0], planted_task("genre", sequences), config_of(), 1, heard.append)
    assert [each.done for each in heard] == list(range(1, len(heard) + 1))
    assert {(each.task, each.phase) for each in heard} == {("genre", wide.WIDE_PHASE)}
    assert 2 <= len(heard) <= heard[0].most
    assert heard[1].loss != heard[0].loss


def test_many_scores_are_judged_by_the_validation_users_and_told_by_two_folds(sequences, monkeypatch) -> None:
    task = planted_task("genre", sequences)
    examples = task_examples(task, 20)
    monkeypatch.setattr(linear, "PENALTIES", (1e-2,))
    monkeypatch.setattr(linear, "FOLDS", 2)
    few = fit_linear(examples, examples, task.n_labels, 20, seed=0, directions=0)
    monkeypatch.setattr(linear, "FEW_SCORES", 1)
    many = fit_linear(examples, examples, task.n_labels, 20, seed=0, directions=0)
    assert torch.equal(few.model.weight, many.model.weight)
    assert torch.allclose(few.unseen, many.unseen, atol=2e-2)
    own = many.model.logits(examples.inputs)[examples.rows]
    assert not torch.allclose(many.unseen, own, atol=0.1)
    monkeypatch.setattr(linear, "MOST_SCORES", 50 * task.n_labels)
    part = fit_linear(examples, examples, task.n_labels, 20, seed=0, directions=0)
    assert torch.allclose(part.unseen[50:], part.model.logits(examples.inputs)[examples.rows[50:]], atol=1e-6)


def test_many_items_and_many_examples_stay_in_bounds(sequences, monkeypatch) -> None:
    task = planted_task("genre", sequences)
    examples = task_examples(task, 20)
    whole = fit_linear(examples, examples, task.n_labels, 20, seed=0)
    monkeypatch.setattr(linear, "BATCH", 7)
    again = fit_linear(examples, examples, task.n_labels, 20, seed=0)
    assert torch.equal(whole.model.weight, again.model.weight)
    assert torch.allclose(whole.unseen, again.unseen, atol=1e-6)
    monkeypatch.setattr(linear, "MOST_WEIGHTS", 10 * task.n_labels)
    few = fit_linear(examples, examples, task.n_labels, 20, seed=0).model
    labelled = examples.inputs[examples.rows.unique()]
    rows, users = torch.unique(torch.cat([torch.unique(row) for row in labelled]), return_counts=True)
    common = rows[rows >= FIRST_ITEM][users[rows >= FIRST_ITEM].argsort(descending=True, stable=True)[:10]]
    assert few.items.tolist() == sorted(common.tolist())
    monkeypatch.setattr(linear, "MOST_EXAMPLES", 100)
    part = fit_linear(examples, examples, task.n_labels, 20, seed=0)
    assert part.unseen.shape == (len(examples), task.n_labels)
    assert torch.allclose(part.unseen[100:], part.model.logits(examples.inputs)[examples.rows[100:]], atol=1e-6)


def test_what_only_the_order_of_items_tells_the_encoder_adds(versions, sequences) -> None:
    """The label is that of the last item; a model of which items a user had cannot know which one that was."""
    last = sequences.items[sequences.offsets[1:] - 1]
    task = TaskData("last", sequences, sequences.users, last % 2, 2)
    method = get_method("fineall")
    child = method.add_task(versions("fineall", ())[0], task, config_of(), 1)
    view = method.view(child, "last")
    judges = task_examples(task, view.length).part("test", child.split)
    alone = view.wide.logits(judges.inputs)[judges.rows]
    both = view.logits(judges.inputs)[judges.rows]
    assert child.head("last").weight.any()
    assert F.cross_entropy(both, judges.labels) < F.cross_entropy(alone, judges.labels) - 0.05
