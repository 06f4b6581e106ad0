"""Rivals are tuned on the tuning spans alone, and are what their papers say."""

import numpy as np
import pytest
import torch
from rivals.protocol import Rival
from rivals.sasrec import LENGTH, SasRec, next_item_loss, tails, trained, windows
from rivals.walk import Trials, rank_span, train

from imsr_core.ragged import from_events
from pipelines.bench.data import cut, renumbered

NAMES = ["s0", "s1", "s2", "s3"]


def log(seed: int, future: int = 0, users: int = 12):
    """Four spans; ``future`` changes the last alone."""
    parts = []
    for number in range(4):
        rng = np.random.default_rng([seed, number, future if number == 3 else 0])
        who, items = rng.integers(users, size=60), rng.integers(8 + 2 * number, size=60)
        parts.append(from_events(who, items, np.sort(rng.integers(10**6, size=60)) + number * 10**6))
    return cut(NAMES, renumbered(parts), "prequential", 2, 10**6)


def fit_popular(history, n_items, settings):
    """Counts to a power that a walk has to find: negative ones rank the list the other way round."""
    counts = np.bincount(history.items, minlength=n_items) + 1.0

    def scores(users):
        return np.tile(settings["sign"] * counts + settings["noise"], (len(users), 1)).astype(np.float32)

    return scores


TOY = Rival("toy", "counts", fit_popular, {"sign": (-1.0, 0.0, 1.0), "noise": (0.0, 1.0)}, {"sign": -1.0, "noise": 1.0})


def walked(data, path):
    trials = Trials(TOY, data, 3, path)
    return trials, list(trials.walk("everything", "unseen", most=20))


def test_a_walk_finds_what_ranks_best_and_goes_on(tmp_path):
    trials, steps = walked(log(0), tmp_path / "trials.jsonl")
    best = trials.best("everything", "unseen")
    assert best.worth("everything", "unseen") == max(step.worth("everything", "unseen") for step in steps)
    assert best.settings["sign"] == 1.0
    lines = (tmp_path / "trials.jsonl").read_text()
    again, _ = walked(log(0), tmp_path / "trials.jsonl")
    assert again.done == trials.done
    assert (tmp_path / "trials.jsonl").read_text() == lines


def test_the_reported_spans_do_not_reach_a_walk(tmp_path):
    one, other = log(1), log(1, future=1)
    assert one.fingerprint != other.fingerprint
    worth = [
        [(step.settings, step.everything, step.unseen, step.discover) for step in walked(data, tmp_path / name)[1]]
        for data, name in ((one, "a"), (other, "b"))
    ]
    assert worth[0] == worth[1]


def test_sasrec_predicts_each_next_item_and_sees_no_later_one():
    history = from_events(np.array([0] * 3 + [1] * (LENGTH + 5)), np.arange(LENGTH + 8), np.arange(LENGTH + 8))
    inputs, targets = windows(history, np.zeros(0, dtype=np.int64), 99)
    real = (inputs != 99) & (targets != 99)
    pairs = sorted(zip(inputs[real].tolist(), targets[real].tolist(), strict=True))
    assert pairs == [(n, n + 1) for n in range(LENGTH + 7) if n != 2], "every pair of neighbours, once, within a user"
    held, _ = windows(history, np.array([0]), 99)
    assert not (held == 2).any(), "the last event of a user that is held out"
    assert tails(history, 99)[0, -3:].tolist() == [0, 1, 2]
    model = SasRec(99, dropout=0.0).eval()
    changed = inputs.clone()
    changed[:, -1] = 7
    same = torch.isclose(model(inputs)[:, :-1], model(changed)[:, :-1], atol=1e-5)
    assert bool(same.all())
    loss = next_item_loss(model, inputs, targets)
    assert loss.item() == pytest.approx(np.log(99), abs=0.5), "as much as chance before any training"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_sasrec_is_the_same_on_an_accelerator():
    data = log(4, users=40)
    settings = {"learning_rate": 0.002, "dropout": 0.0}
    history, n_items = data.history(2), data.spans[1].n_items
    here, there = (trained(history, n_items, settings, torch.device(name)) for name in ("cpu", "cuda"))
    np.testing.assert_allclose(here(history.users), there(history.users), atol=0.02)


def test_ease_solves_what_it_says():
    """The gradient of |X - X B|^2 + l2 |B|^2 is zero off the diagonal, which is zero itself."""
    pytest.importorskip("scipy")
    from rivals.ease import EASE

    data = log(2, users=40)
    settings = {"l2": 3.0, "half_life": None, "power": 1.0}
    history, n_items = data.history(2), data.spans[1].n_items
    scores = EASE.fit(history, n_items, settings)(history.users)
    x = np.zeros((len(history), n_items))
    np.add.at(x, (history.rows, history.items), 1.0)
    weights = np.linalg.lstsq(x, scores, rcond=None)[0]
    assert np.linalg.matrix_rank(x) == n_items, "the scores say what the weights are"
    gradient = x.T @ (x @ weights - x) + 3.0 * weights
    assert np.abs(gradient[~np.eye(n_items, dtype=bool)]).max() < 1e-2
    assert np.abs(np.diag(weights)).max() < 1e-3


@pytest.mark.parametrize("name", ["item_knn.ITEM_KNN", "ials.IALS", "ease.EASE"])
def test_a_rival_ranks_every_user_of_a_span(name):
    pytest.importorskip("scipy")
    pytest.importorskip("implicit")
    module, _, constant = name.partition(".")
    rival = getattr(__import__(f"rivals.{module}", fromlist=[constant]), constant)
    data = log(3)
    scores = train(rival, data, 2, rival.start)
    everything, new = rank_span(scores, data.spans[2], 3)
    assert everything.shape == new.shape == (data.spans[2].sequences.n_events,)
    assert (everything < 3).any()
    assert (new <= everything).mean() > 0.5, "a shorter list puts what is left further up"


def test_ials_is_asked_as_a_term_of_the_score_is():
    """`imsr_core.score.protocol`: `add` and `asked` say the same as `at`."""
    pytest.importorskip("implicit")
    from rivals.ials_in_score import FactorTerm

    factors = torch.arange(12.0).reshape(3, 4) / 10
    term = FactorTerm(lambda users: factors[torch.from_numpy(users)].numpy())
    users, shared = np.array([2, 0]), np.array([3, 1, 0])
    at = term.at(users, np.tile(shared, (2, 1)))
    everybody, mine = term.asked(users, shared, np.array([1, 0]), np.array([1, 3]))
    assert torch.equal(everybody, at)
    assert torch.equal(mine, torch.stack([at[1, 1], at[0, 0]]))
    scores = torch.zeros(2, 4)
    term.add(scores, users, torch.tensor([2.0]))
    assert torch.equal(scores[:, shared], 2 * at[..., 0])
