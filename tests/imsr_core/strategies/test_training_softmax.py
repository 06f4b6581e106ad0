"""Full or corrected softmax, and counts as a fixed offset: what `[training] full_softmax` and `residual` change."""

import math

import pytest
import torch

from imsr_core.objectives import sampled_softmax
from imsr_core.state import ModelState
from imsr_core.strategies.imsr import imsr
from imsr_core.testing.planted_logs import planted_span, tiny_config
from imsr_core.trainer import SpanTrainer

N = 32
LIKES = {user: [user % 4] for user in range(12)}


def learnt(spans=2, **training):
    """A chain of spans, and the trainer of the last one."""
    trainers = []

    def make(*arguments):
        trainers.append(SpanTrainer(*arguments))
        return trainers[-1]

    state = ModelState.initial(tiny_config(training=training, score={"enabled": True}), span_length=100)
    for number in range(spans):
        state = imsr(state, planted_span(LIKES, 8, number), N, make_trainer=make).state
    return state, trainers[-1]


def test_up_to_its_limit_all_items_are_negatives():
    _, trainer = learnt(full_softmax=N)
    drawn = trainer._negatives(torch.Generator().manual_seed(0), 32)
    assert sorted(drawn.tolist()) == list(range(N))
    whole, zero = learnt(full_softmax=N)[0], learnt(negatives=0)[0]
    assert torch.equal(whole.items.weight, zero.items.weight)


def test_beyond_it_each_drawn_one_stands_for_several():
    _, trainer = learnt(full_softmax=N - 1)
    drawn = trainer._negatives(torch.Generator().manual_seed(0), 32)
    assert len(drawn) == 10
    batch = type("Batch", (), {"target": torch.tensor([0])})
    target, negatives = trainer._offsets(batch, drawn)
    assert float(target) == 0
    assert torch.allclose(negatives, torch.full((1, 10), math.log((N - 1) / 10)))


def test_the_correction_makes_a_sample_worth_the_catalogue():
    generator = torch.Generator().manual_seed(1)
    users, items = torch.randn(4, 6, generator=generator), torch.randn(400, 6, generator=generator) * 0.3
    targets, hits = items[:4], torch.arange(4)[:, None] == torch.arange(400)
    whole = float(sampled_softmax(users, targets, items, hits, 1.0))
    losses = []
    for _ in range(200):
        drawn = torch.randint(400, (50,), generator=generator)
        offsets = (torch.zeros(1, 1), torch.full((1, 50), math.log(399 / 50)))
        losses.append(float(sampled_softmax(users, targets, items[drawn], hits[:, drawn], 1.0, offsets)))
    assert sum(losses) / len(losses) == pytest.approx(whole, abs=0.02)


def test_a_batch_of_few_targets_draws_few_negatives():
    _, trainer = learnt(full_softmax=0, negatives=20, negatives_per_target=4)
    generator = torch.Generator().manual_seed(0)
    assert [len(trainer._negatives(generator, targets)) for targets in (1, 4, 5, 32)] == [4, 16, 20, 20]
    _, unlimited = learnt(full_softmax=0, negatives=20)
    assert len(unlimited._negatives(generator, 1)) == 20


def test_counts_as_an_offset_in_updates_alone():
    assert learnt(spans=1, residual=True)[1].counters is None
    assert learnt(residual=False)[1].counters is None
    state, trainer = learnt(residual=True)
    plain, _ = learnt(residual=False)
    assert trainer.counters is not None
    assert not torch.equal(state.items.weight, plain.items.weight)


def test_an_offset_is_what_the_counting_terms_say():
    _, trainer = learnt(residual=True)
    users, items = trainer.sequences.users[:3], torch.tensor([[0, 5], [9, 1], [31, 30]])
    expected = trainer.counters.scorer.parts(users, items.numpy()).sum(-1)
    torch.testing.assert_close(trainer.counters.at(users, items), expected, rtol=1e-4, atol=1e-4)
