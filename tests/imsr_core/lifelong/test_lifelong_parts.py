"""Splits, seeds, tasks, configuration, losses, T1's loss, metrics, transfer, state."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from imsr_core.encoders.build import build_encoder, initial_weights
from imsr_core.encoders.config import EncoderConfig
from imsr_core.encoders.tokens import FIRST_ITEM, MASK, PAD, left_pad
from imsr_core.errors import CheckpointError, ConfigError, NonFiniteError
from imsr_core.lifelong import evaluation
from imsr_core.lifelong.config import LifelongConfig, ObjectiveConfig, PhaseConfig, SplitConfig, from_json, to_json
from imsr_core.lifelong.errors import TaskError
from imsr_core.lifelong.evaluation import label_ranks, main_metric, main_values, metrics_of_ranks, ranks_and_likelihood
from imsr_core.lifelong.heads import Head, bpr, head_loss, sampled_softmax
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.pretraining import next_item_loss
from imsr_core.lifelong.seeds import phase_seed
from imsr_core.lifelong.splits import parts_of
from imsr_core.lifelong.state import from_tensors
from imsr_core.lifelong.tasks import TaskData, TaskKind, next_item_examples, task_examples
from imsr_core.lifelong.transfer_matrix import backward_transfer, forgetting, forward_transfer, transfer_matrix
from imsr_core.lifelong.view import View
from imsr_core.testing.planted_users import planted_sequences, planted_task, sequences_of, small_config

# --- splits and seeds ---------------------------------------------------------------------------------------


def test_split_shares_are_as_asked_and_parts_independent_of_other_users() -> None:
    users = np.arange(50_000)
    parts = parts_of(users, SplitConfig())
    assert np.bincount(parts) / len(users) == pytest.approx([0.80, 0.05, 0.15], abs=0.01)
    assert np.array_equal(parts_of(users[::7], SplitConfig()), parts[::7])
    other = parts_of(users, SplitConfig(seed=1))
    assert (parts == other).mean() == pytest.approx(0.80**2 + 0.05**2 + 0.15**2, abs=0.01)


@pytest.mark.parametrize(
    ("seed", "parts"),
    [(0, "0200001010020021201000002210200001000200"), (7, "1220110020022102120200000202010022202100")],
)
def test_a_users_part_is_what_it_was_in_every_earlier_version(seed: int, parts: str) -> None:
    """Who trained must never test: the hash is part of what a version means."""
    found = parts_of(np.arange(40), SplitConfig(seed=seed, train=0.5, validation=0.2))
    assert "".join(map(str, found)) == parts


def test_no_user_is_in_two_parts_over_all_tasks() -> None:
    sequences = planted_sequences(100)
    task = TaskData("t", sequences, np.repeat(sequences.users, 3), np.tile([0, 1, 1], 100), 2)
    examples, base = task_examples(task, 12), next_item_examples(sequences, 12)
    split = SplitConfig(train=0.5, validation=0.2)
    train, test = examples.part("train", split), base.part("test", split)
    assert len(train)
    assert len(test)
    assert not set(train.users) & set(test.users)


def test_seeds_differ_by_task_phase_and_seed_only() -> None:
    seeds = {phase_seed(s, t, p) for s in (0, 1) for t in ("a", "b") for p in ("train", "retrain")}
    assert len(seeds) == 8
    assert phase_seed(0, "a", "train") == phase_seed(0, "a", "train")
    assert all(0 <= seed < 2**63 for seed in seeds)


# --- tasks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("users", "labels", "n_labels", "message"),
    [
        ([0, 1], [0], 2, "2 users but 1 label$"),
        ([0, 1], [0, 2], 2, "row 1 has label 2"),
        ([0, 1], [-1, 0], 2, "row 0 has label -1"),
        ([0, 9], [0, 1], 2, "user 9 in row 1"),
        ([0], [0], 1, r"1 label\n"),
    ],
)
def test_wrong_labels_are_refused_and_named(users, labels, n_labels, message) -> None:
    with pytest.raises(TaskError, match=message):
        TaskData("t", sequences_of([[1], [2]]), np.array(users), np.array(labels), n_labels)


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "x" * 65])
def test_task_names_that_could_become_paths_are_refused(name) -> None:
    with pytest.raises(TaskError, match="task name"):
        TaskData(name, sequences_of([[1], [2]]), np.array([0]), np.array([0]), 2)


def test_next_item_examples_predict_the_last_item_from_the_others() -> None:
    examples = next_item_examples(sequences_of([[5], [1, 2, 3], [], [7, 8]], first_user=10), 2)
    assert examples.users.tolist() == [11, 13]
    assert examples.inputs[examples.rows].tolist() == [[5, 6], [PAD, 11]]
    assert examples.labels.tolist() == [3, 8]


# --- configuration ------------------------------------------------------------------------------------------


def test_configuration_survives_json_and_refuses_what_it_does_not_know() -> None:
    config = small_config("sasrec")
    assert from_json(LifelongConfig, json.loads(json.dumps(to_json(config)))) == config
    with pytest.raises(ConfigError, match="colour"):
        from_json(PhaseConfig, {"colour": 1})
    with pytest.raises(ConfigError, match="learning_rate"):
        PhaseConfig(learning_rate=0.0)


# --- losses -------------------------------------------------------------------------------------------------


def some_head(n: int = 30, d: int = 8) -> tuple[Head, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    head = Head(torch.randn(n, d, generator=generator), torch.randn(n, generator=generator))
    return head, torch.randn(5, d, generator=generator), torch.tensor([0, 3, 3, 29, 7])


def test_sampled_softmax_with_every_label_once_is_the_full_softmax(monkeypatch) -> None:
    head, vectors, labels = some_head()
    monkeypatch.setattr(torch, "randint", lambda high, size, generator: torch.arange(high))
    sampled = sampled_softmax(vectors, labels, head, 30, torch.Generator())
    full = head_loss(vectors, labels, head, ObjectiveConfig(), torch.Generator())
    torch.testing.assert_close(sampled, full)


def test_softmax_is_sampled_only_above_the_limit() -> None:
    head, vectors, labels = some_head()
    few = ObjectiveConfig(full_softmax_limit=29, negatives=4)
    first, second = (head_loss(vectors, labels, head, few, torch.Generator().manual_seed(s)) for s in (0, 1))
    assert first != second
    full = dataclasses.replace(few, full_softmax_limit=30)
    first, second = (head_loss(vectors, labels, head, full, torch.Generator().manual_seed(s)) for s in (0, 1))
    assert first == second


def test_bpr_never_draws_the_label_and_never_overflows() -> None:
    head = Head(torch.tensor([[1e4], [-1e4]]))
    wrong = bpr(torch.ones(4, 1), torch.ones(4, dtype=torch.int64), head, torch.Generator().manual_seed(0))
    right = bpr(torch.ones(4, 1), torch.zeros(4, dtype=torch.int64), head, torch.Generator().manual_seed(0))
    assert wrong == 2e4
    assert right == 0.0


def test_head_l2_is_added() -> None:
    head, vectors, labels = some_head()
    plain, decayed = (
        head_loss(vectors, labels, head, ObjectiveConfig(head_l2=l2), torch.Generator()) for l2 in (0.0, 0.2)
    )
    torch.testing.assert_close(decayed - plain, 0.1 / 5 * head.weight.square().sum())


# --- T1's loss ----------------------------------------------------------------------------------------------


def base_view(encoder: str) -> View:
    config = EncoderConfig(name=encoder, dim=8, length=6, dilations=(1,))
    head = Head(torch.randn(20, 8, generator=torch.Generator().manual_seed(1)))
    return View(build_encoder(config), initial_weights(config, 20, 0), head, 20)


def test_padding_is_masked_out_of_t1() -> None:
    """A short user among long ones adds its own positions and nothing else."""
    exact = ObjectiveConfig(unknown_rate=0.0)
    view, generator = base_view("nextitnet"), torch.Generator()
    long, short = left_pad(sequences_of([[0, 1, 2, 3, 4, 5, 6]]), 7), left_pad(sequences_of([[8, 9]]), 7)
    alone = [next_item_loss(view, rows, exact, generator) for rows in (long, short)]
    together = next_item_loss(view, torch.cat([long, short]), exact, generator)
    torch.testing.assert_close(together, (6 * alone[0] + 1 * alone[1]) / 7)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_holes_are_items_and_every_sequence_has_one(seed) -> None:
    view, seen = base_view("grec"), {}
    rows = left_pad(sequences_of([[0, 1, 2, 3, 4, 5, 6], [8], [9, 3]]), 7)

    class Watched(View):
        def hidden(self, items):
            seen["inputs"] = items
            hidden = super().hidden(items)
            seen["hidden"] = hidden
            return hidden

    watched = Watched(view.encoder, view.weights, view.head, view.n_items)
    loss = next_item_loss(watched, rows, ObjectiveConfig(mask_rate=0.3), torch.Generator().manual_seed(seed))
    assert torch.isfinite(loss)
    assert torch.equal(seen["inputs"][rows == PAD], rows[rows == PAD])
    changed = seen["inputs"] != rows
    assert ((seen["inputs"][changed] == MASK) | (seen["inputs"][changed] >= FIRST_ITEM)).all()


def test_of_the_chosen_items_eight_in_ten_are_hidden_and_one_is_another_at_random() -> None:
    """BERT's shares, counted where every item of the rows is item 0."""
    view, seen = base_view("grec"), []
    rows = torch.full((2000, 7), FIRST_ITEM)

    class Watched(View):
        def hidden(self, items):
            seen.append(items)
            return super().hidden(items)

    watched = Watched(view.encoder, view.weights, view.head, view.n_items)
    next_item_loss(watched, rows, ObjectiveConfig(mask_rate=0.5), torch.Generator().manual_seed(0))
    hidden, other = (seen[0] == MASK).double().mean(), (seen[0] > FIRST_ITEM).double().mean()
    chosen = 0.5 + 0.5**7 / 7  # where chance chose nothing, one is
    assert float(hidden) == pytest.approx(0.8 * chosen, abs=0.01)
    assert float(other) == pytest.approx(0.1 * chosen * (1 - 1 / view.n_items), abs=0.01)


# --- metrics and transfer -----------------------------------------------------------------------------------


def test_ranks_count_ties_against_the_model() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [5.0, 1.0, 5.0]])
    assert label_ranks(logits, torch.tensor([2, 0, 0])).tolist() == [1, 3, 2]
    with pytest.raises(NonFiniteError):
        label_ranks(torch.tensor([[float("nan"), 0.0]]), torch.tensor([0]))


def test_metrics_by_hand() -> None:
    ranks = torch.tensor([1, 2, 6, 30])
    assert metrics_of_ranks(ranks, "classes") == {"accuracy": 0.25}
    values = metrics_of_ranks(ranks, "items")
    assert values["mrr@5"] == pytest.approx((1 + 1 / 2) / 4)
    assert values["hr@20"] == pytest.approx(3 / 4)
    assert values["ndcg@5"] == pytest.approx((1 + 1 / np.log2(3)) / 4)
    assert metrics_of_ranks(torch.zeros(0), "items") == {}


@pytest.mark.parametrize("kind", ["classes", "items", "next_item"])
def test_what_each_example_adds_makes_the_main_metric(kind: TaskKind) -> None:
    ranks = torch.tensor([1, 2, 1, 5, 6, 30])
    values = main_values(ranks, kind)
    assert values.tolist() == pytest.approx([1, 0, 1, 0, 0, 0] if kind == "classes" else [1, 1 / 2, 1, 1 / 5, 0, 0])
    assert float(values.mean()) == pytest.approx(metrics_of_ranks(ranks, kind)[main_metric(kind)])


def test_invariant_15_relative_transfer_gives_the_published_numbers() -> None:
    """TERACON on TTL, from the published BWT and FWT tables: T1 -0.83 %, T2 0, T3 +3.27 %; 81.73 %, 82.13 %."""
    rows = [
        {"T1": 0.0478},
        {"T1": 0.0478, "T2": 0.0189},
        {"T1": 0.0476, "T2": 0.0189, "T3": 0.0306},
        {"T1": 0.0474, "T2": 0.0189, "T3": 0.0316, "T4": 0.6},
    ]
    matrix = transfer_matrix(rows, ["T1", "T2", "T3", "T4"])
    assert np.isnan(matrix[0, 1])
    assert 100 * backward_transfer(matrix) == pytest.approx([-0.83, 0.0, 3.27, 0.0], abs=0.011)
    assert 100 * forgetting(matrix) == pytest.approx([0.83, 0.0, 0.0, 0.0], abs=0.011)
    single = np.array([0.0446, 0.0104, 0.0168, 0.4475])
    assert 100 * forward_transfer(matrix, single)[1:3] == pytest.approx([81.73, 82.13], abs=0.02)
    better = transfer_matrix([{"a": 0.5}, {"a": 0.6}], ["a"])
    assert backward_transfer(better)[0] == pytest.approx(0.2)
    assert forgetting(better)[0] == 0.0
    assert np.isnan(backward_transfer(transfer_matrix([{"a": 0.0}, {"a": 0.6}], ["a"]))[0])


def test_a_task_that_was_removed_and_learnt_again_counts_from_the_second_time() -> None:
    rows = [{"a": 0.5, "b": 0.9}, {"a": 0.4}, {"a": 0.4, "b": 0.6}, {"a": 0.4, "b": 0.6}]
    matrix = transfer_matrix(rows, ["a", "b", "c"])
    assert forgetting(matrix)[:2].tolist() == pytest.approx([0.2, 0.0])
    assert np.isnan(forgetting(matrix)[2])
    gone = transfer_matrix([{"a": 0.5}, {}], ["a"])
    assert np.isnan(backward_transfer(gone)[0])


# --- state --------------------------------------------------------------------------------------------------


def test_a_damaged_version_is_refused_and_the_tensor_named(versions) -> None:
    tensors, meta = versions("conure", ())[0].to_tensors()
    name = "encoder/norms.0.weight"
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        from_tensors({k: v for k, v in tensors.items() if k != name}, meta)
    with pytest.raises(CheckpointError, match=name):
        from_tensors({**tensors, name: tensors[name][:3]}, meta)
    with pytest.raises(CheckpointError, match=name):
        from_tensors({**tensors, name: tensors[name].double()}, meta)
    with pytest.raises(CheckpointError, match="stranger"):
        from_tensors({**tensors, "stranger": torch.zeros(1)}, meta)
    with pytest.raises(CheckpointError, match="format 99"):
        from_tensors(tensors, {**meta, "format": 99})


def test_pretraining_refuses_what_it_cannot_learn() -> None:
    method = get_method("conure")
    with pytest.raises(TaskError, match="two items"):
        method.pretrain(sequences_of([[1], [2]]), small_config(), 1)
    with pytest.raises(TaskError, match="item 7 in a catalogue of 5"):
        method.pretrain(sequences_of([[1, 7]]), small_config(), 1, n_items=5)


def test_a_large_catalogue_trains_with_sparse_rows_and_sampled_softmax(monkeypatch) -> None:
    monkeypatch.setattr("imsr_core.encoders.lookup.SPARSE_ROWS", 40)
    phase = PhaseConfig(epochs=6, min_epochs=6, batch_size=64, learning_rate=0.01)
    objective = ObjectiveConfig(full_softmax_limit=10, negatives=32)
    for name in ("conure", "teracon"):
        method = get_method(name)
        config = small_config(pretrain=phase, task=phase, retrain=phase, objective=objective)
        config = dataclasses.replace(config, teracon=dataclasses.replace(config.teracon, distilled_labels=20))
        state = method.pretrain(planted_sequences(), config, 1)
        assert method.evaluate_base(state, planted_sequences())["mrr@5"] > 0.3
        task = TaskData("few", planted_sequences(), np.arange(300), np.arange(300) % 2, 2)
        assert method.add_task(state, task, config, 1).task_names == ("T1", "few")


def test_nobody_held_out_has_no_ranks_and_a_small_memory_changes_nothing(versions, sequences, monkeypatch) -> None:
    """Scores are made for a few examples at a time: at most so many labels, or items of users, at once."""
    state, method = versions("finesmax", ("genre",))[-1], get_method("finesmax")
    task, view = planted_task("genre", sequences), method.view(state, "genre")
    examples = task_examples(task, view.length)
    assert [len(each) for each in ranks_and_likelihood(view, examples._take(np.arange(0)))] == [0, 0]
    whole = ranks_and_likelihood(view, examples)
    asked, scores = [], View.scores

    def counted(self: View, vectors: Tensor, items: Tensor) -> Tensor:
        asked.append(items.numel())
        return scores(self, vectors, items)

    monkeypatch.setattr(View, "scores", counted)
    monkeypatch.setattr(evaluation, "_CELLS", 5 * view.length)
    few = ranks_and_likelihood(view, examples)
    assert max(asked) <= 5 * view.length
    assert torch.equal(few[0], whole[0])
    assert torch.allclose(few[1], whole[1], atol=1e-5)
