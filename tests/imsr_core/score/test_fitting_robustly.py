"""The loss of a fit lets go of what nobody could foresee, and the steps of the fit are those of that loss."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from imsr_core.score import fitting
from imsr_core.score.fitting import _Asked, _Had, _Shared, fitted
from imsr_core.score.question import Own, Question
from imsr_core.score.weights import Weights

WEIGHTS = torch.tensor([0.3, -0.8, 0.5, 0.2, -0.4], dtype=torch.float64)


class Columns:
    """A term of given values (B, C, F) for the items 0 .. C - 1."""

    columns = ("worth", "noise")

    def __init__(self, values):
        self.values = values

    def at(self, users, items):
        return self.values[torch.from_numpy(users)[:, None], torch.from_numpy(items)]

    def asked(self, users, shared, place, items):
        return self.at(users, np.tile(shared, (len(users), 1))), self.at(users[place], items[:, None])[:, 0]


def asked(chance, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    shared = _Shared(draw(9, 2), torch.tensor([0, 3]), draw(2, 4, 9), torch.tensor([1, 2]))
    own = _Had(draw(7, 5), torch.tensor([0, 0, 1, 3, 3, 3, 3]), draw(7))
    place = torch.randint(0, 4, (12,), generator=generator)
    return _Asked(shared, draw(4, 9), own, draw(12, 5), place, chance)


@pytest.mark.parametrize("chance", [0.0, 0.001, 0.2])
def test_the_slope_is_that_of_the_loss(chance):
    told = asked(chance)
    slope, curve = told.slopes(told.answer(WEIGHTS))
    for column in range(5):
        step = torch.zeros(5, dtype=torch.float64)
        step[column] = 0.01
        numeric = (told.answer(WEIGHTS + step).loss - told.answer(WEIGHTS - step).loss) / 0.02
        assert float(slope[column]) == pytest.approx(numeric, rel=0.01, abs=1e-3)
    assert float(torch.linalg.eigvalsh(curve).min()) > -1e-5


def dense(told):
    """Everything in one table: all candidates (B, C, F) of each user, and what is added to their scores (B, C)."""
    users, count, width = len(told.offset), told.offset.shape[1] + len(told.own.place), told.taken.shape[1]
    values, offset = torch.zeros(users, count, width), torch.full((users, count), -torch.inf)
    shared = told.offset.shape[1]
    values[:, :shared, told.shared.of_items] = told.shared.items
    values[:, :shared, told.shared.of_pairs] = told.shared.pairs.permute(1, 2, 0)
    offset[:, :shared] = told.offset
    column = shared + torch.arange(len(told.own.place))
    values[told.own.place, column], offset[told.own.place, column] = told.own.values, told.own.stands
    return values.double(), offset.double()


def test_the_loss_and_its_curve_are_those_of_one_table_of_all_candidates():
    told = asked(0.001)
    values, offset = dense(told)
    answer = told.answer(WEIGHTS)
    logs = (values @ WEIGHTS + offset).log_softmax(1)
    taken = told.taken.double() @ WEIGHTS - (values @ WEIGHTS + offset).logsumexp(1)[told.place]
    assert answer.loss == pytest.approx(-float(torch.logaddexp(taken, told.unforeseen).mean()), rel=1e-5)
    weight = (taken - told.unforeseen).sigmoid() / len(taken)
    curve = torch.zeros(5, 5, dtype=torch.float64)
    for user, part in zip(told.place, weight, strict=True):
        mean = logs[user].exp() @ values[user]
        curve += part * ((values[user].T * logs[user].exp()) @ values[user] - mean[:, None] * mean)
    torch.testing.assert_close(told.slopes(answer)[1], curve, rtol=1e-4, atol=1e-6)


def test_a_user_who_had_every_candidate_says_nothing_of_what_is_new():
    told = asked(0.0)
    offset = told.offset.clone()
    offset[2] = -torch.inf
    nobody = _Had(told.own.values[:0], told.own.place[:0], told.own.stands[:0])
    others = told.place != 2
    closed = replace(told, offset=offset, own=nobody, taken=told.taken[others], place=told.place[others])
    slope, curve = closed.slopes(closed.answer(WEIGHTS))
    assert bool(slope.isfinite().all())
    assert bool(curve.isfinite().all())
    values, new = question(0.5, np.random.default_rng(0))
    offset = new.offset.clone()
    offset[7] = -torch.inf
    assert replace(new, offset=offset).open.tolist() == (new.place != 7).tolist()
    term = Columns(values)
    assert bool(fitted(Weights.start(term.columns), replace(new, offset=offset), [term]).values.isfinite().all())


@pytest.mark.parametrize("at_once", [1, 3])
def test_users_may_be_summed_up_a_few_at_a_time(at_once, monkeypatch):
    told = asked(0.001)
    together = told.slopes(told.answer(WEIGHTS))
    monkeypatch.setattr(fitting, "USERS_AT_ONCE", at_once)
    torch.testing.assert_close(told.slopes(told.answer(WEIGHTS)), together, rtol=1e-4, atol=1e-6)


def question(share_foreseeable, rng):
    """Users each with an item that its column names; other events are of any item."""
    users, items, events = 50, 400, 40
    values = torch.zeros(users, items, 2)
    staple = rng.integers(0, items, users)
    values[torch.arange(users), torch.from_numpy(staple), 0] = 1.0
    place = np.repeat(np.arange(users), events)
    foreseen = rng.random(len(place)) < share_foreseeable
    wanted = np.where(foreseen, staple[place], rng.integers(0, items, len(place)))
    nothing = Own(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))
    new = torch.from_numpy(~foreseen)
    return values, Question(np.arange(users), place, wanted, np.arange(items), torch.zeros(users, items), nothing, new)


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


@pytest.mark.parametrize(("share", "moves"), [(0.8, False), (0.05, True)])
def test_what_was_had_often_is_left_out_of_what_is_new_where_people_take_things_again(share, moves, monkeypatch):
    """Everything may be shown: it is weighed. Among what is new: only where hardly an event is a repeat."""
    values, told = question(share, np.random.default_rng(0))
    values[told.place, told.wanted, 1] = 1.0  # the second column foresees every event
    monkeypatch.setattr(Columns, "columns", ("worth", "factors_often"))
    term = Columns(values)
    found = fitted(Weights.start(term.columns), told, [term])
    assert float(found.row("everything", ("factors_often",))[0]) > 0.1
    assert (abs(float(found.row("new", ("factors_often",))[0])) > 0.1) == moves
