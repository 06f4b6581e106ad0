"""Landmarks of the linear part: where they lie, when they are kept, and how a version keeps them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from imsr_core.encoders.tokens import FIRST_ITEM, PAD
from imsr_core.errors import CheckpointError
from imsr_core.lifelong import landmarks as landmarks_of_users
from imsr_core.lifelong import linear
from imsr_core.lifelong.landmarks import Landmarks, find_landmarks
from imsr_core.lifelong.linear import Linear, fit_linear
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.methods.peterrec import parameter_share
from imsr_core.lifelong.removing import remove_task
from imsr_core.lifelong.state import from_tensors
from imsr_core.lifelong.tasks import Examples, TaskData, task_examples
from imsr_core.ragged import SpanSequences
from imsr_core.testing.planted_users import sequences_of, small_config

ITEMS = 80


def crossed(users: int, seed: int, *, either: bool) -> TaskData:
    """Users who like the lower or the upper half of 40 items, and of 40 others.

    Args:
        either: the label is whether both halves are of one kind, of which no item says anything by itself; else the
            first half.
    """
    rng = np.random.default_rng(seed)
    halves = rng.integers(0, 2, (users, 2))
    rows = []
    for first, second in halves:
        own = [20 * first + rng.choice(20, 8, replace=False), 40 + 20 * second + rng.choice(20, 8, replace=False)]
        rows.append([*map(int, np.concatenate(own))])
    sequences = sequences_of(rows)
    labels = (halves[:, 0] == halves[:, 1]) if either else halves[:, 0]
    return TaskData("taste", sequences, sequences.users, labels.astype(np.int64), 2)


def parts(task: TaskData, *sizes: int) -> list[Examples]:
    """Examples of the first users, of the next, ..."""
    examples, ends = task_examples(task, 16), np.cumsum([0, *sizes])
    return [examples._take(np.arange(a, b)) for a, b in pairwise(ends)]


def accuracy(model: Linear, examples: Examples) -> float:
    found = model.logits(examples.inputs)[examples.rows].argmax(dim=1)
    return float((found == examples.labels).float().mean())


def test_as_many_landmarks_as_users_are_the_gaussian_kernel_between_users(monkeypatch) -> None:
    torch.manual_seed(0)
    places = torch.randn(40, 8)
    monkeypatch.setattr(landmarks_of_users, "LEAST_SHARE", 1e-7)
    found = find_landmarks(places, torch.eye(8), seed=1)
    assert found is not None
    apart = torch.cdist(places, places)
    scaled = apart / apart[np.triu_indices(40, 1)].median()
    columns = found.nearness(places @ found.directions) @ found.root()
    assert torch.allclose(columns @ columns.t(), torch.exp(-scaled.square()), atol=1e-4)


def test_landmarks_are_the_means_of_groups_and_the_same_each_time(monkeypatch) -> None:
    torch.manual_seed(0)
    centres = 10.0 * torch.eye(4)
    places = centres.repeat(30, 1) + 0.1 * torch.randn(120, 4)
    monkeypatch.setattr(landmarks_of_users, "COUNT", 12)
    found, again = (find_landmarks(places, torch.eye(4), seed=3) for _ in range(2))
    assert found is not None
    assert again is not None
    assert torch.equal(found.places, again.places)
    scaled = places @ found.directions
    own = torch.cdist(scaled, found.places).argmin(dim=1)
    for group in own.unique():
        assert torch.allclose(found.places[group], scaled[own == group].mean(dim=0), atol=0.05)
    to_nearest = torch.cdist(centres @ found.directions, found.places).min(dim=1).values
    assert float(to_nearest.max()) < 0.1  # each of the four places has one


def test_users_at_one_place_have_no_landmarks() -> None:
    assert find_landmarks(torch.ones(5, 3), torch.zeros(4, 3), seed=0) is None
    assert find_landmarks(torch.ones(1, 3), torch.zeros(4, 3), seed=0) is None


def test_scores_with_landmarks_are_those_without_and_what_being_near_them_weighs() -> None:
    torch.manual_seed(0)
    straight = Linear(torch.tensor([4, 7, 11]), torch.randn(3, 2), torch.randn(2), length=5)
    landmarks, near = Landmarks(torch.randn(3, 2), torch.randn(6, 2)), torch.randn(6, 2)
    model = replace(straight, landmarks=landmarks, near=near)
    rows = torch.tensor([[PAD, 4, 9, 4, 7], [PAD] * 5])
    place = (landmarks.directions[0] + landmarks.directions[1]) / 3**0.5  # 9 is known to nobody, and one of the three
    for row, at in enumerate((place, torch.zeros(2))):
        added = sum(torch.exp(-(at - each).square().sum()) * w for each, w in zip(landmarks.places, near, strict=True))
        assert torch.allclose(model.logits(rows)[row], straight.logits(rows)[row] + added, atol=1e-5)
    assert torch.allclose(model.times(0.25).logits(rows), 0.25 * model.logits(rows), atol=1e-6)


def test_what_only_two_tastes_together_tell_is_learnt_by_landmarks() -> None:
    train, judges, rest = parts(crossed(900, 0, either=True), 400, 100, 400)
    found = fit_linear(train, judges, 2, 16, seed=0).model
    assert found.landmarks is not None
    assert accuracy(found, rest) > 0.9
    assert accuracy(fit_linear(train, judges, 2, 16, seed=0, near=0).model, rest) < 0.65


@pytest.mark.parametrize("junk", [False, True])
def test_there_are_none_where_items_tell_all_or_nothing(junk) -> None:
    task = crossed(400, 1, either=False)
    if junk:
        task = replace(task, labels=np.random.default_rng(2).integers(0, 2, 400))
    train, judges = parts(task, 300, 100)
    model = fit_linear(train, judges, 2, 16, seed=0).model
    assert (model.landmarks, model.near) == (None, None)


def test_items_beyond_the_bound_have_no_landmarks(monkeypatch) -> None:
    train, judges = parts(crossed(500, 0, either=True), 400, 100)
    monkeypatch.setattr(linear, "MOST_WEIGHTS", ITEMS * linear.NEAR - 1)
    assert fit_linear(train, judges, 2, 16, seed=0).model.landmarks is None


def test_what_a_training_user_is_told_does_not_depend_on_the_users_own_label(monkeypatch) -> None:
    monkeypatch.setattr(linear, "PENALTIES", (1e-2,))  # the label may move the choice
    monkeypatch.setattr(linear, "EASED", ())
    train, judges = parts(crossed(300, 0, either=True), 200, 100)
    labels = train.labels.clone()
    labels[7] = 1 - labels[7]
    first, second = (
        fit_linear(Examples(train.inputs, train.rows, each, train.users), judges, 2, 16, seed=0)
        for each in (train.labels, labels)
    )
    assert first.model.landmarks is not None
    assert torch.allclose(first.unseen[7], second.unseen[7], atol=1e-3)
    assert not torch.allclose(first.model.near, second.model.near, atol=1e-3)
    own = first.model.logits(train.inputs)[train.rows[7]]
    assert not torch.allclose(first.unseen[7], own, atol=1e-3)


@pytest.fixture(scope="module")
def learnt() -> tuple[object, object, SpanSequences]:
    """PeterRec with a task whose linear part has landmarks: (method, version, sequences)."""
    task = crossed(500, 0, either=True)
    config = small_config()
    brief = replace(config.task, epochs=1, min_epochs=1)
    config = replace(
        config, pretrain=brief, task=brief, objective=replace(config.objective, wide=16, pooling="auto", windows=1)
    )
    method = get_method("peterrec")
    base = method.pretrain(task.sequences, config, 0, ITEMS)
    return method, method.add_task(base, task, config, 0), task.sequences


def test_a_version_keeps_landmarks_counts_them_and_gives_them_back(learnt) -> None:
    method, version, sequences = learnt
    own = {name.removeprefix("wide/taste/"): t for name, t in version.group("wide/taste").items()}
    assert set(own) == {"items", "weight", "bias", "near", "landmarks/directions", "landmarks/places"}
    tensors, meta = version.to_tensors()
    assert meta["format"] == 2
    again = from_tensors(tensors, meta)
    assert torch.equal(method.predict(again, "taste", sequences), method.predict(version, "taste", sequences))
    assert parameter_share(version, "taste")["wide"] == sum(t.numel() for t in own.values())
    assert not [name for name in remove_task(version, "taste").tensors if "taste" in name]
    with pytest.raises(CheckpointError, match="format 3"):
        from_tensors(tensors, meta | {"format": 3})


def test_a_version_from_before_there_were_landmarks_opens_and_says_what_it_said(learnt) -> None:
    method, version, sequences = learnt
    old = replace(
        version,
        tensors={n: t for n, t in version.tensors.items() if not n.endswith(("/near", "/directions", "/places"))},
    )
    tensors, meta = old.to_tensors()
    assert meta["format"] == 1
    view = method.view(from_tensors(tensors, meta), "taste")
    assert view.wide.landmarks is None
    rows = torch.tensor([[PAD, FIRST_ITEM + 3, FIRST_ITEM + 50]])
    w = dict(zip(view.wide.items.tolist(), view.wide.weight, strict=True))
    said = (w[FIRST_ITEM + 3] + w[FIRST_ITEM + 50]) / 2**0.5 + view.wide.bias
    assert torch.allclose(view.wide.logits(rows)[0], said, atol=1e-6)
    assert torch.isfinite(method.predict(old, "taste", sequences)).all()
    assert F.cross_entropy(view.wide.logits(rows), torch.tensor([0])) > 0
