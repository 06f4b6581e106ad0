"""The training loop: the best epoch, frozen values, finite losses."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from imsr_core.errors import NonFiniteError
from imsr_core.lifelong.config import PhaseConfig
from imsr_core.lifelong.evaluation import Score
from imsr_core.lifelong.training import LEAST_GAIN, NEARLY_SURE, train_phase

PHASE = PhaseConfig(8, min_epochs=1, patience=2, patience_steps=1, batch_size=4, learning_rate=0.1, optimizer="adam")


def run(scores, phase=PHASE, **options):  # type: ignore[no-untyped-def]
    """Pull a vector to 5 from 0; epoch e is scored scores[e], less one: a log-likelihood is below 0."""
    seen, left = [], iter(scores)

    def score_of(parameters):  # type: ignore[no-untyped-def]
        seen.append(parameters["w"].detach().clone())
        return Score(next(left) - 1.0, 0.0)

    result = train_phase(
        {"w": torch.zeros(3)},
        lambda p, positions, step: (p["w"] - 5).square().sum(),
        score_of,
        n_examples=10,
        config=phase,
        seed=0,
        **options,
    )
    return result, seen


def test_the_best_epoch_is_kept_not_the_last() -> None:
    result, seen = run([0.1, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert (result.best_epoch, result.epochs, result.score.likelihood) == (1, 4, 0.9 - 1.0)
    assert torch.equal(result.parameters["w"], seen[1])


def test_a_plateau_shorter_than_min_epochs_does_not_stop_training() -> None:
    flat_then_rising = [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.9]
    assert run(flat_then_rising)[0].best_epoch == 0
    assert run(flat_then_rising, dataclasses.replace(PHASE, min_epochs=8))[0].best_epoch == 7


def test_patience_is_counted_in_steps_too() -> None:
    """Three batches an epoch: ten steps without a better score take four epochs."""
    scores = [0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    assert run(scores, dataclasses.replace(PHASE, patience_steps=6))[0].epochs == 3
    assert run(scores, dataclasses.replace(PHASE, patience_steps=7))[0].epochs == 4
    assert run(scores, dataclasses.replace(PHASE, patience_steps=10))[0].epochs == 5


def test_gains_that_nobody_sees_use_the_patience_up_unless_they_add_up() -> None:
    """The best epoch is kept all the same, however little it is better."""
    tiny = [0.5, *(0.5 + n * LEAST_GAIN / 10 for n in range(1, 8))]
    result = run(tiny)[0]
    assert (result.epochs, result.best_epoch, result.score.likelihood) == (3, 2, tiny[2] - 1.0)
    slow = [0.5, *(0.5 + n * LEAST_GAIN * 0.6 for n in range(1, 8))]  # two epochs together gain enough
    assert run(slow, dataclasses.replace(PHASE, patience=3))[0].epochs == 8


def test_a_phase_that_is_nearly_sure_of_every_held_out_label_is_over_once_it_is_long_enough() -> None:
    sure = 1.0 + NEARLY_SURE / 2
    rising = [0.5, sure, *(sure - NEARLY_SURE * n / 20 for n in range(1, 7))]
    assert run(rising, dataclasses.replace(PHASE, patience=9))[0].epochs == 2
    assert run(rising, dataclasses.replace(PHASE, patience=9, min_epochs=5))[0].epochs == 5


def test_likelihood_selects_and_the_metric_settles_ties() -> None:
    assert Score(likelihood=-0.5, metric=0.1) > Score(likelihood=-0.6, metric=0.9)
    left = iter([(-1.0, 0.9), (-0.5, 0.5), (-0.5, 0.6), (-0.6, 0.9)])
    result = train_phase(
        {"w": torch.zeros(1)},
        lambda p, positions, step: p["w"].sum(),
        lambda p: Score(*next(left)),
        n_examples=4,
        config=dataclasses.replace(PHASE, epochs=4),
        seed=0,
    )
    assert result.best_epoch == 2


@pytest.mark.parametrize(
    "phase",
    [
        PHASE,
        dataclasses.replace(PHASE, optimizer="adamw", weight_decay=0.5),
        dataclasses.replace(PHASE, optimizer="sgd", learning_rate=0.01, momentum=0.9),
    ],
    ids=lambda p: p.optimizer,
)
def test_frozen_elements_keep_their_bits(phase) -> None:
    movable = {"w": torch.tensor([True, False, True])}
    start = torch.tensor([0.1, 0.3, 0.7])
    result = train_phase(
        {"w": start},
        lambda p, positions, step: (p["w"] - 5).square().sum(),
        lambda p: Score(float(p["w"].sum().detach()) - 99.0, 0.0),
        n_examples=10,
        config=phase,
        seed=0,
        movable=movable,
    )
    assert result.parameters["w"][1] == start[1]
    assert (result.parameters["w"][[0, 2]] != start[[0, 2]]).all()
    assert torch.equal(start, torch.tensor([0.1, 0.3, 0.7]))


def test_every_example_is_used_once_an_epoch_and_the_tail_too() -> None:
    epochs: dict[int, list[int]] = {}
    train_phase(
        {"w": torch.zeros(1)},
        lambda p, positions, step: epochs.setdefault(step.epoch, []).extend(positions.tolist()) or p["w"].sum(),
        lambda p: Score(0.0, 0.0),
        n_examples=10,
        config=dataclasses.replace(PHASE, epochs=2, min_epochs=2),
        seed=0,
    )
    assert [sorted(seen) for seen in epochs.values()] == [list(range(10))] * 2
    assert epochs[0] != epochs[1]


def test_a_loss_that_is_not_finite_stops_the_phase() -> None:
    with pytest.raises(NonFiniteError, match="epoch 0, batch 0"):
        train_phase(
            {"w": torch.zeros(1)},
            lambda p, positions, step: p["w"].sum() / 0.0 * 0.0,
            lambda p: Score(0.0, 0.0),
            n_examples=4,
            config=PHASE,
            seed=0,
        )


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    run([0.1] * 8)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_sparse_tables_train_and_do_not_decay(optimizer) -> None:
    def loss(p, positions, step):  # type: ignore[no-untyped-def]
        return torch.nn.functional.embedding(positions, p["t"], sparse=True).square().sum() + p["w"].square().sum()

    start = {"t": torch.ones(20, 2), "w": torch.ones(2)}
    config = dataclasses.replace(PHASE, epochs=1, optimizer=optimizer, learning_rate=0.01, weight_decay=0.1)
    result = train_phase(start, loss, lambda p: Score(0.0, 0.0), n_examples=10, config=config, seed=0)
    assert (result.parameters["t"][:10] < 1).all()
    assert torch.equal(result.parameters["t"][10:], torch.ones(10, 2))
    assert (result.parameters["w"] < 1).all()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_matrices_decay_and_vectors_do_not(optimizer) -> None:
    start = {"matrix": torch.ones(3, 2), "vector": torch.ones(3)}
    config = dataclasses.replace(PHASE, epochs=1, optimizer=optimizer, learning_rate=0.1, weight_decay=0.5)
    result = train_phase(
        start,
        lambda p, positions, step: 0.0 * (p["matrix"].sum() + p["vector"].sum()),
        lambda p: Score(0.0, 0.0),
        n_examples=4,  # one step
        config=config,
        seed=0,
    )
    torch.testing.assert_close(result.parameters["matrix"], torch.full((3, 2), 0.95))
    assert torch.equal(result.parameters["vector"], torch.ones(3))


@pytest.mark.parametrize("steps", [1, 6, 7, 10])
@pytest.mark.parametrize("least_epochs", [1, 7])
def test_the_steps_that_are_left_at_least_are_those_of_a_phase_that_gets_no_better(steps, least_epochs) -> None:
    """Told at every step; what is said in the last epoch that was better comes true."""
    told = []
    config = dataclasses.replace(PHASE, patience_steps=steps, min_epochs=least_epochs)
    result, _ = run([0.1, 0.9, *[0.1] * 6], config, progress=told.append, called=("age", "train"))
    assert [at.done for at in told] == list(range(1, 3 * result.epochs + 1))
    later = [at for at in told if at.best_epoch == 2]
    assert all(at.done + at.least == 3 * result.epochs for at in later)
    assert later[-1].least == 0
    assert {(at.task, at.phase, at.most, at.likelihood) for at in later} == {("age", "train", 24, 0.9 - 1.0)}
    assert all(at.likelihood is None for at in told[:3])


def test_the_first_epoch_counts_as_the_best_until_there_is_another() -> None:
    told = []
    result, _ = run([0.9, *[0.1] * 7], progress=told.append)
    assert result.epochs == 3
    assert [at.done + at.least for at in told] == [9] * 9
