"""A task about items answers with so much of its deep and of its wide part as held-out users say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from imsr_core.encoders.tokens import left_pad
from imsr_core.lifelong import protocol, weighing
from imsr_core.lifelong.config import TeraconConfig
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.methods.peterrec import parameter_share
from imsr_core.lifelong.problems import task_problem
from imsr_core.lifelong.weighing import SHARES, deep_share
from imsr_core.testing.planted_users import planted_task, small_config

N = 40


def config_of(wide: int = 50):  # type: ignore[no-untyped-def]
    """The wide part makes the histories longer, all over which TERACON would hold T1."""
    config = small_config(teracon=TeraconConfig(held_places=0))
    short = replace(config.task, epochs=2, min_epochs=1)
    return replace(config, task=short, retrain=short, objective=replace(config.objective, wide=wide))


def judged(monkeypatch, gains: np.ndarray, users: np.ndarray) -> float:
    """The share that is chosen where the labels' likelihood is this much better with half and half."""
    likelihoods = np.zeros((len(gains), len(SHARES)))
    likelihoods[:, SHARES.index(0.5)] = gains
    likelihoods[:, SHARES.index(1.0)] = gains - 1.0
    monkeypatch.setattr(weighing, "_likelihoods", lambda *_: torch.from_numpy(likelihoods))

    class Judges:
        pass

    judges = Judges()
    judges.users = users  # type: ignore[attr-defined]
    return deep_share(None, None, judges)  # type: ignore[arg-type]


def gains_of(errors: float) -> np.ndarray:
    """(N,) whose mean is so many standard errors above 0."""
    spread = np.tile([1.0, -1.0], N // 2)
    return spread + errors * spread.std() / N**0.5


@pytest.mark.parametrize(("errors", "share"), [(-3.0, 0.0), (0.9, 0.0), (1.1, 0.5), (9.0, 0.5)])
def test_the_deep_part_counts_where_it_is_worth_a_standard_error(monkeypatch, errors: float, share: float) -> None:
    assert judged(monkeypatch, gains_of(errors), np.arange(N)) == share


def test_labels_of_one_user_stand_and_fall_together(monkeypatch) -> None:
    """Four labels each that say the same: as many users, and not four times the evidence."""
    gains = np.repeat(gains_of(0.9), 4)
    assert judged(monkeypatch, gains, np.repeat(np.arange(N), 4)) == 0.0
    assert judged(monkeypatch, gains, np.arange(4 * N)) == 0.5


def test_each_share_is_judged_by_the_likelihood_of_the_sum(versions, sequences) -> None:
    parent, task = versions("finesmax", ())[0], planted_task("shop", sequences)
    problem, method = task_problem(parent, task, config_of(), 1), get_method("finesmax")
    deep = method.deep_view(method.learn_task(parent, problem), "shop")
    model, judges = problem.wide.model, problem.validation
    found = weighing._likelihoods(deep, model, judges)
    logits, beside = deep.logits(judges.inputs)[judges.rows], model.logits(judges.inputs)[judges.rows]
    for place, share in enumerate((0.0, 0.25, 0.5, 0.75, 1.0)):
        likely = F.log_softmax(share * logits + (1 - share) * beside, dim=1)
        assert torch.allclose(found[:, place].float(), likely[torch.arange(len(judges)), judges.labels], atol=1e-4)
    best = float(found.mean(dim=0).max())
    assert best > float(found[:, 0].mean())
    assert deep_share(deep, model, judges) == SHARES[int(found.mean(dim=0).argmax())]


@pytest.mark.parametrize("share", [0.25, 1.0])
@pytest.mark.parametrize("method", ["peterrec", "conure", "teracon", "mtl", "sinmoall"])
def test_a_version_serves_that_much_of_both(versions, sequences, monkeypatch, method: str, share: float) -> None:
    """Against the encoder alone, learnt without a wide part, and the linear model."""
    task, learner, parent = planted_task("shop", sequences), get_method(method), versions(method, ())[0]
    monkeypatch.setattr(protocol, "deep_share", lambda *_: share)
    child = learner.add_task(parent, task, config_of(), 1)
    alone = learner.add_task(parent, task, config_of(0), 1)
    model = task_problem(parent, task, config_of(), 1).wide.model
    deep = learner.predict(alone, "shop", sequences)
    wanted = share * deep + (1 - share) * model.logits(left_pad(sequences, 50))
    assert torch.allclose(learner.predict(child, "shop", sequences), wanted, atol=1e-4)
    assert child.task("shop").details["deep_share"] == share
    assert bool(child.group("wide/shop")) is (share < 1)
    assert learner.predict(child, "shop", sequences).std() > 0
    assert learner.evaluate(child, task)["mrr@5"] > 0


def test_nothing_is_counted_that_is_not_there(versions, sequences, monkeypatch) -> None:
    learner, parent = get_method("peterrec"), versions("peterrec", ())[0]
    costs = {}
    for share in (0.0, 0.5, 1.0):
        monkeypatch.setattr(protocol, "deep_share", lambda *_, share=share: share)
        child = learner.add_task(parent, planted_task("shop", sequences), config_of(), 1)
        costs[share] = parameter_share(child, "shop")
    assert costs[0.0]["patch"] == costs[1.0]["wide"] == 0
    assert costs[0.5]["patch"] == costs[1.0]["patch"] > 0
    assert costs[0.5]["wide"] == costs[0.0]["wide"] > 0


def test_the_control_without_protection_keeps_what_a_task_did_to_it(versions, sequences, monkeypatch) -> None:
    learner, parent = get_method("sinmoall"), versions("sinmoall", ())[0]
    monkeypatch.setattr(protocol, "deep_share", lambda *_: 0.0)
    child = learner.add_task(parent, planted_task("shop", sequences), config_of(), 1)
    assert not child.head("shop").weight.any()
    assert not torch.equal(learner.predict(child, "T1", sequences), learner.predict(parent, "T1", sequences))
