"""The loss of a fit lets go of what nobody could foresee, and the steps of the fit are those of that loss."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from imsr_core.score import fitting
from imsr_core.score.fitting import Question, _Asked, fitted
from imsr_core.score.weights import Weights


class Columns:
    """A term of given values (B, C, F) for the items 0 .. C - 1."""

    columns = ("worth", "noise")

    def __init__(self, values):
        self.values = values

    def at(self, users, items):
        return self.values[torch.from_numpy(users)[:, None], torch.from_numpy(items)]


def asked(chance, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values, own = torch.randn(4, 9, 3, generator=generator), torch.randn(12, 3, generator=generator)
    place = torch.randint(0, 4, (12,), generator=generator)
    return _Asked(values, torch.randn(4, 9, generator=generator), own, place, chance)


@pytest.mark.parametrize("chance", [0.0, 0.001, 0.2])
def test_the_slope_is_that_of_the_loss(chance):
    told = asked(chance)
    weights = torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64)
    slope, curve = told.slopes(told.answer(weights))
    for column in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[column] = 0.01
        numeric = (told.answer(weights + step).loss - told.answer(weights - step).loss) / 0.02
        assert float(slope[column]) == pytest.approx(numeric, rel=0.01, abs=1e-3)
    assert float(torch.linalg.eigvalsh(curve).min()) > -1e-5


@pytest.mark.parametrize("at_once", [1, 3])
def test_users_may_be_summed_up_a_few_at_a_time(at_once, monkeypatch):
    told, weights = asked(0.001), torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64)
    together = told.slopes(told.answer(weights))
    monkeypatch.setattr(fitting, "USERS_AT_ONCE", at_once)
    torch.testing.assert_close(told.slopes(told.answer(weights)), together, rtol=1e-4, atol=1e-6)


def question(share_foreseeable, rng):
    """Users each with an item that its column names; other events are of any item."""
    users, items, events = 50, 400, 40
    values = torch.zeros(users, items, 2)
    staple = rng.integers(0, items, users)
    values[torch.arange(users), torch.from_numpy(staple), 0] = 1.0
    place = np.repeat(np.arange(users), events)
    foreseen = rng.random(len(place)) < share_foreseeable
    wanted = np.where(foreseen, staple[place], rng.integers(0, items, len(place)))
    candidates = np.tile(np.arange(items), (users, 1))
    return values, Question(
        np.arange(users), place, wanted, candidates, torch.zeros(2, users, items), torch.from_numpy(~foreseen)
    )


def weight_of_worth(share, *, repeats=True):
    values, told = question(share, np.random.default_rng(0))
    told = told if repeats else replace(told, new=torch.ones_like(told.new))
    term = Columns(values)
    return float(fitted(Weights.start(term.columns), told, [term]).row("everything", ("worth",))[0])


def test_events_that_nobody_could_foresee_take_little_from_a_weight(monkeypatch):
    clear, noisy = weight_of_worth(0.8), weight_of_worth(0.3)
    monkeypatch.setattr(fitting, "CHANCE", 0.0)
    by_likelihood = weight_of_worth(0.3)
    assert by_likelihood < noisy < clear


def test_where_nobody_repeats_the_loss_is_the_likelihood(monkeypatch):
    one = weight_of_worth(0.3, repeats=False)
    monkeypatch.setattr(fitting, "CHANCE", 0.0)
    assert weight_of_worth(0.3, repeats=False) == one
