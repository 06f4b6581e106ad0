"""T1's counts beside the encoder, against plain loops; and where a version has them."""

from __future__ import annotations

from dataclasses import replace
from math import log, log1p

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from imsr_core.encoders.tokens import FIRST_ITEM, PAD, UNKNOWN
from imsr_core.lifelong import counts, followers, protocol, wide_next
from imsr_core.lifelong.config import LifelongConfig, PhaseConfig, SplitConfig
from imsr_core.lifelong.counts import SHARES, NextItemCounts, entries_of, fit_counts
from imsr_core.lifelong.followers import Followers, followers_of
from imsr_core.lifelong.growing import grow_items
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.splits import PARTS, parts_of
from imsr_core.lifelong.state import LifelongState, from_tensors
from imsr_core.lifelong.tasks import next_item_examples
from imsr_core.ragged import SpanSequences
from imsr_core.testing.planted_users import planted_task, sequences_of, small_config

HISTORIES = [[0, 1, 2, 1, 0, 1], [1, 0], [2, 2, 1, 4, 0], [4]]
N = 6


def loop_lift(histories: list[list[int]], before: int, after: int) -> float:
    counted = 0.0
    for row in histories:
        for place, item in enumerate(row):
            for step in (1, 2, 3):
                if place + step < len(row) and item == before and row[place + step] == after:
                    counted += 1.0 / step
    everything = [item for row in histories for item in row]
    return log1p(counted / (followers.PRIOR * everything.count(after) / len(everything))) if counted else 0.0


def table() -> Followers:
    return followers_of(sequences_of(HISTORIES), N)


def test_followers_are_lifted_by_how_often_they_came_and_how_near() -> None:
    found = table()
    for before in range(N):
        lifts = {int(y): float(lift) for y, lift in zip(found.items[before], found.lift[before], strict=True) if lift}
        wanted = {after: loop_lift(HISTORIES, before, after) for after in range(N)}
        assert lifts == pytest.approx({after: lift for after, lift in wanted.items() if lift}, rel=1e-6)
    assert not found.lift[3].any()  # nobody had it


def test_of_many_followers_those_that_say_most_are_kept(monkeypatch) -> None:
    monkeypatch.setattr(followers, "MOST", 2)
    found = table()
    pairs = {y: loop_lift(HISTORIES, 1, y) for y in range(N)}
    weight = {y: (np.expm1(lift) * HISTORIES_SHARE[y]) * lift for y, lift in pairs.items() if lift}
    assert set(found.items[1].tolist()) == set(sorted(weight, key=weight.__getitem__)[-2:])
    monkeypatch.setattr(followers, "MOST_CELLS", N + 1)  # a large catalogue: one for each
    assert table().items.shape == (N, 1)


HISTORIES_SHARE = np.bincount(np.concatenate(HISTORIES), minlength=N)


def padded(rows: list[list[int]], width: int = 7) -> torch.Tensor:
    """Table rows as they are given, PAD before them."""
    return torch.tensor([[PAD] * (width - len(row)) + row for row in rows])


def terms_of(found: Followers, row: list[int], label: int) -> list[float]:
    """The five terms of one label after table rows, by the formula."""
    items = [each - FIRST_ITEM if FIRST_ITEM <= each < FIRST_ITEM + N else None for each in row]

    def lift(item: int | None) -> float:
        if item is None:
            return 0.0
        return sum(
            float(lift) for y, lift in zip(found.items[item], found.lift[item], strict=True) if lift and y == label
        )

    times = items.count(label)
    last = items[-1] if items else None
    second = items[-2] if len(items) > 1 else None
    return [float(times > 0), log(1 + times), float(last == label), lift(last), lift(second)]


ROWS = [
    [FIRST_ITEM + item for item in (0, 1, 1)],
    [FIRST_ITEM + 2],
    [FIRST_ITEM + 1, FIRST_ITEM + N + 4],  # the last item is newer than T1
    [FIRST_ITEM + 2, FIRST_ITEM + N],  # also by one
    [UNKNOWN, FIRST_ITEM + 4, UNKNOWN],
    [],
    [FIRST_ITEM + item for item in (4, 4, 2, 0, 2, 0, 0)],
]


def test_each_term_is_what_the_formula_says() -> None:
    found = table()
    entries = entries_of(found, padded(ROWS))
    whole = torch.zeros(len(ROWS), N, 5)
    whole[entries.rows, entries.labels] = entries.values
    for row, label in np.ndindex(len(ROWS), N):
        assert whole[row, label].tolist() == pytest.approx(terms_of(found, ROWS[row], label), rel=1e-5), (row, label)
    keys = entries.rows * N + entries.labels
    assert torch.equal(keys, keys.unique())


def test_scores_are_the_share_of_the_encoder_and_the_terms_and_only_so_many_items_are_read() -> None:
    torch.manual_seed(0)
    weights, scores = torch.tensor([0.7, -2.0, 1.5, -0.5, 0.3, 0.2]), torch.randn(len(ROWS), N)
    model, before = NextItemCounts(table(), weights, 7), scores.clone()
    joint = model.beside(scores, padded(ROWS))
    for row, label in np.ndindex(len(ROWS), N):
        terms = terms_of(model.followers, ROWS[row], label)
        wanted = 0.7 * float(scores[row, label]) + float(np.dot(weights[1:].numpy(), terms))
        assert float(joint[row, label]) == pytest.approx(wanted, abs=1e-5)
    assert torch.equal(scores, before)  # nobody else's scores are written to
    short = replace(model, length=2).beside(scores, padded(ROWS))
    assert torch.equal(short, model.beside(scores, padded([row[-2:] for row in ROWS])))
    assert model.beside(scores[:0], padded(ROWS)[:0]).shape == (0, N)


def judged(monkeypatch, scores: torch.Tensor, rows: list[list[int]], labels: list[int], **settings: float):  # type: ignore[no-untyped-def]
    """What is fitted where the encoder gives each example these scores, one user an example."""
    for name, value in settings.items():
        monkeypatch.setattr(counts, name, value)
    examples = next_item_examples(sequences_of([[0, 1]] * len(rows)), 7)
    examples = replace(examples, inputs=padded(rows), labels=torch.tensor(labels))
    chunks = iter(scores.split(1 if settings.get("_CELLS") == 1 else len(scores)))
    return fit_counts(lambda _: next(chunks), table(), examples, 7), examples


def test_the_likelihood_of_a_fit_is_that_of_what_is_served(monkeypatch) -> None:
    """The normaliser that only knows the labels with terms is the whole sum's; also a chunk at a time."""
    torch.manual_seed(1)
    scores, labels = torch.randn(len(ROWS), N), torch.tensor([2, 0, 1, 2, 4, 3, 5])
    examples = next_item_examples(sequences_of([[0, 1]] * len(ROWS)), 7)
    examples = replace(examples, inputs=padded(ROWS), labels=labels)
    cases = counts._cases(lambda _: scores, table(), examples)
    weights = torch.tensor([-1.0, 0.8, -0.4, 0.5, 0.25], dtype=torch.double)
    for number, share in enumerate(SHARES):
        served = NextItemCounts(table(), torch.cat([torch.tensor([share]), weights.float()]), 7)
        wanted = F.log_softmax(served.beside(scores, examples.inputs), dim=1)[torch.arange(len(ROWS)), labels]
        torch.testing.assert_close(counts._likelihoods(cases, number, weights).float(), wanted, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(counts, "_CELLS", 1)
    chunks = iter(scores.split(1))
    for one, whole in zip(counts._cases(lambda _: next(chunks), table(), examples), cases, strict=True):
        torch.testing.assert_close(one, whole)


def a_log(seed: int, again: float) -> tuple[list[list[int]], list[int]]:
    """Histories of an encoder that knows nothing, and what came next: one of the items had with probability again."""
    rng = np.random.default_rng(seed)
    rows, labels = [], []
    for _ in range(300):
        items = rng.integers(0, N, 2).tolist()
        rows.append([FIRST_ITEM + item for item in items])
        labels.append(int(rng.choice(items) if rng.random() < again else rng.integers(N)))
    return rows, labels


@pytest.mark.parametrize("again", [0.9, 0.6])
def test_what_is_had_again_rises(monkeypatch, again: float) -> None:
    rows, labels = a_log(0, again)
    model, examples = judged(monkeypatch, torch.zeros(300, N), rows, labels)
    plain = -log(N)
    logits = model.beside(torch.zeros(300, N), examples.inputs)
    assert -F.cross_entropy(logits, examples.labels) > plain + 0.1
    had = [row[0] - FIRST_ITEM for row in rows]
    assert (logits[range(300), had] - logits.mean(dim=1)).mean() > 0.3


def test_what_is_never_had_twice_sinks(monkeypatch) -> None:
    rows, _ = a_log(1, 0.0)
    rng = np.random.default_rng(2)
    labels = [int(rng.choice([y for y in range(N) if y + FIRST_ITEM not in row])) for row in rows]
    model, examples = judged(monkeypatch, torch.zeros(300, N), rows, labels)
    logits = model.beside(torch.zeros(300, N), examples.inputs)
    had = torch.zeros(300, N, dtype=torch.bool).scatter_(1, examples.inputs[:, -2:] - FIRST_ITEM, True)
    assert logits[had].max() < logits[~had].min()


def test_where_the_encoder_knows_all_there_are_no_counts(monkeypatch) -> None:
    """Its probabilities are those that the labels are drawn by: five numbers find nothing but chance."""
    rng, torch_rng = np.random.default_rng(5), torch.manual_seed(5)
    rows, _ = a_log(3, 0.0)
    scores = torch.randn(300, N, generator=torch_rng)
    labels = [int(rng.choice(N, p=p)) for p in scores.double().softmax(dim=1).numpy()]
    assert judged(monkeypatch, scores, rows, labels)[0] is None
    loose = judged(monkeypatch, scores, rows, labels, STANDARD_ERRORS=-9.0)[0]
    assert loose is not None  # it is the standard errors that keep them out
    assert judged(monkeypatch, scores[:0], [], [])[0] is None


def test_of_an_encoder_that_is_too_sure_a_share_is_taken(monkeypatch) -> None:
    """Its scores are twice as far apart as they should be."""
    rng, torch_rng = np.random.default_rng(6), torch.manual_seed(6)
    rows, _ = a_log(4, 0.0)
    scores = 2.0 * torch.randn(300, N, generator=torch_rng)
    labels = [int(rng.choice(N, p=p)) for p in scores.double().softmax(dim=1).numpy()]
    assert float(judged(monkeypatch, 2.0 * scores, rows, labels)[0].weights[0]) == pytest.approx(0.5, abs=0.11)


def test_weights_are_held_small(monkeypatch) -> None:
    rows, labels = a_log(0, 0.9)
    free = judged(monkeypatch, torch.zeros(300, N), rows, labels)[0]
    held = judged(monkeypatch, torch.zeros(300, N), rows, labels, PENALTY=1e6, STANDARD_ERRORS=-9.0)[0]
    assert free.weights[1:].abs().max() > 0.5
    assert held.weights[1:].abs().max() < 0.01


def config_of(**objective: object) -> LifelongConfig:
    quick = PhaseConfig(2, min_epochs=1, patience=1, patience_steps=1, batch_size=64, learning_rate=0.02)
    config = replace(small_config(), pretrain=quick, task=quick, retrain=quick)
    return replace(config, objective=replace(config.objective, **({"wide": 30} | objective)))


@pytest.fixture(scope="module")
def learnt(sequences: SpanSequences) -> LifelongState:
    return get_method("teracon").pretrain(sequences, config_of(), 1, 48)


def test_t1_has_counts_that_no_later_task_touches(learnt: LifelongState, sequences: SpanSequences) -> None:
    own = learnt.group("wide/T1")
    assert set(own) == {"followers", "lift", "weights"}
    assert learnt.task("T1").details["counts"] == 30
    method = get_method("teracon")
    child = method.add_task(grow_items(learnt, 50, 1), planted_task("shop", sequences), config_of(), 1)
    assert all(torch.equal(child.tensors[f"wide/T1/{name}"], tensor) for name, tensor in own.items())
    tensors, facts = child.to_tensors()
    again = from_tensors(tensors, facts)
    assert torch.equal(method.predict(again, "T1", sequences), method.predict(child, "T1", sequences))
    assert method.predict(child, "T1", sequences).shape[1] == 48  # T1's output stays closed


@pytest.mark.parametrize("method", ["peterrec", "conure"])
def test_an_exact_method_keeps_every_bit_of_both_parts(sequences: SpanSequences, probe, method: str) -> None:  # type: ignore[no-untyped-def]
    learner = get_method(method)
    parent = learner.pretrain(sequences, config_of(), 1, 48)
    child = learner.add_task(parent, planted_task("genre", sequences), config_of(), 1)
    assert parent.group("wide/T1")
    assert torch.equal(learner.predict(parent, "T1", probe), learner.predict(child, "T1", probe))


def test_the_encoder_is_learnt_as_without_them_and_both_score_better(
    learnt: LifelongState, sequences: SpanSequences
) -> None:
    method = get_method("teracon")
    alone = method.pretrain(sequences, config_of(wide_next=False), 1, 48)
    assert "counts" not in alone.task("T1").details
    same = {name: print_ for name, print_ in learnt.fingerprints().items() if not name.startswith("wide/")}
    assert same == alone.fingerprints()
    both, encoder = (method.evaluate_base(state, sequences)["ndcg@5"] for state in (learnt, alone))
    assert both > encoder + 0.05
    view = method.deep_view(learnt, "T1")
    assert view.wide is None
    nothing = torch.full((1, 12), PAD)
    assert torch.equal(view.logits(nothing), method.deep_view(alone, "T1").logits(nothing))


def test_of_a_large_log_some_users_are_enough(monkeypatch, learnt: LifelongState, sequences: SpanSequences) -> None:
    """As many examples as a budget of items and of scores has room for: one of each of some users, or more of all."""
    asked, fit = [], wide_next.fit_counts
    monkeypatch.setattr(wide_next, "fit_counts", lambda *given: asked.append(given[2]) or fit(*given))
    for terms, scores in ((10**9, 48 * 5), (16 * 7, 10**9), (10**9, 10**9)):
        monkeypatch.setattr(counts, "_MOST_TERMS", terms)
        monkeypatch.setattr(counts, "_MOST_SCORES", scores)
        get_method("finesmax").pretrain(sequences, config_of(), 1, 48)
    few, fewer, all_of_them = ([len(each), len(np.unique(each.users))] for each in asked)
    judges = int((parts_of(sequences.users, config_of().split) == 1).sum())
    assert (few, fewer, all_of_them[1]) == ([5, 5], [7, 7], judges)
    assert all_of_them[0] > 4 * judges


def test_they_are_fitted_to_what_the_encoder_serves(monkeypatch, sequences: SpanSequences) -> None:
    """Without dropout."""
    training = []
    monkeypatch.setattr(wide_next, "fit_counts", lambda *given: training.append(given[0].__self__.encoder.training))
    config = config_of()
    config = replace(config, encoder=replace(config.encoder, dropout=0.5))
    get_method("finesmax").pretrain(sequences, config, 1, 48)
    assert training == [False]


@pytest.mark.parametrize("objective", [{"wide_next": False}, {"wide": 0}])
def test_they_can_be_turned_off(sequences: SpanSequences, objective: dict[str, object]) -> None:
    state = get_method("finesmax").pretrain(sequences, config_of(**objective), 1, 48)
    assert not state.group("wide/T1")


def test_nobody_to_judge_them_no_counts(sequences: SpanSequences) -> None:
    config = replace(config_of(), split=SplitConfig(train=0.6, validation=1e-9))
    assert not get_method("finesmax").pretrain(sequences, config, 1, 48).group("wide/T1")


def test_test_users_decide_nothing(learnt: LifelongState, sequences: SpanSequences) -> None:
    owners = np.repeat(np.arange(len(sequences)), sequences.counts)
    theirs = parts_of(sequences.users, config_of().split)[owners] == PARTS.index("test")
    items = sequences.items.copy()
    items[theirs] = np.random.default_rng(3).permutation(items[theirs])
    other = get_method("teracon").pretrain(replace(sequences, items=items), config_of(), 1, 48)
    assert other.fingerprints() == learnt.fingerprints()


def test_a_few_users_at_a_time_score_as_all_at_once(
    monkeypatch, learnt: LifelongState, sequences: SpanSequences
) -> None:
    method = get_method("teracon")
    whole, users = method.evaluate_base(learnt, sequences), method.example_scores(learnt, sequences)
    monkeypatch.setattr(protocol, "_CELLS", 40)
    assert method.evaluate_base(learnt, sequences) == pytest.approx(whole)
    few = method.example_scores(learnt, sequences)
    assert np.array_equal(users[0], few[0])
    assert np.allclose(users[1], few[1])


def test_whose_last_item_is_newer_than_t1_has_no_example(learnt: LifelongState, sequences: SpanSequences) -> None:
    method, items = get_method("teracon"), sequences.items.copy()
    changed = sequences.offsets[1:][::2] - 1
    items[changed] = 48
    users, _ = method.example_scores(grow_items(learnt, 49, 1), replace(sequences, items=items))
    known, _ = method.example_scores(learnt, sequences)
    assert set(users) == set(known) - set(sequences.users[::2])
