"""SML's transfer against loops, what teaching does to it, and that a transfer that knows nothing is fine-tuning."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imsr_core.config import SmlConfig
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named
from imsr_core.strategies.row_transfer import Transfer
from imsr_core.strategies.sml import OWNER, transfers_of
from imsr_core.strategies.transfer_teaching import LastUpdate, _Lesson, teach
from imsr_core.testing.planted_logs import EXTRACTORS, assert_equal, random_span, store_of, tensors_of, tiny_config

ITEMS = 24
sml, fine_tune = strategy_named("sml"), strategy_named("fine_tune")


def gelu(x: float) -> float:
    return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))


def by_hand(transfer: Transfer, config: SmlConfig, old: list[float], new: list[float]) -> list[float]:
    """One row, loop by loop: filters, places, versions and dimensions."""
    length, d = math.hypot(*old), len(old)
    image = [old, new, [a * b / length for a, b in zip(old, new, strict=True)]]
    stack, stack_bias = transfer.stack.tolist(), transfer.stack_bias.tolist()
    centres = [0, 1, 2] if config.kernel == "5x5" else [1]
    stacked = []
    for f in range(config.filters):
        kernel = stack[f][0]
        high, wide = len(kernel) // 2, len(kernel[0]) // 2
        for centre in centres:
            for place in range(d):
                total = stack_bias[f]
                for i, row in enumerate(kernel):
                    for j, weight in enumerate(row):
                        version, dimension = centre + i - high, place + j - wide
                        if 0 <= version < 3 and 0 <= dimension < d:
                            total += weight * image[version][dimension]
                stacked.append(gelu(total))
    size = len(centres) * d
    mix, mix_bias = transfer.mix.tolist(), transfer.mix_bias.tolist()
    mixed = [
        gelu(mix_bias[g] + sum(mix[g][f] * stacked[f * size + p] for f in range(config.filters)))
        for g in range(config.mixed)
        for p in range(size)
    ]
    hidden = [
        gelu(b + sum(w * x for w, x in zip(row, mixed, strict=True)))
        for row, b in zip(transfer.hidden.tolist(), transfer.hidden_bias.tolist(), strict=True)
    ]
    out = zip(transfer.out.tolist(), transfer.out_bias.tolist(), new, strict=True)
    return [x + b + sum(w * h for w, h in zip(row, hidden, strict=True)) for row, b, x in out]


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(["5x5", "3x1"]), st.integers(2, 6), st.integers(1, 3), st.integers(0, 999))
def test_the_transfer_is_the_loop(kernel, d, filters, seed):
    config = SmlConfig(kernel=kernel, filters=filters, mixed=2, hidden=4)
    generator = torch.Generator().manual_seed(seed)
    transfer = Transfer(d, config, generator).double()
    for parameter in transfer.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    old, new = torch.randn(2, 3, d, generator=generator, dtype=torch.float64)
    for row, result in enumerate(transfer(old, new).tolist()):
        assert result == pytest.approx(by_hand(transfer, config, old[row].tolist(), new[row].tolist()), rel=1e-9)


def test_rows_that_training_did_not_move_stay_as_they_are():
    generator = torch.Generator().manual_seed(0)
    transfer = Transfer(6, SmlConfig(), generator)
    torch.nn.init.normal_(transfer.out, generator=generator)
    old, new = torch.randn(2, 9, 6, generator=generator)
    new[::2] = old[::2]
    merged = transfer.merged(old, new)
    assert torch.equal(merged[::2], old[::2])
    assert torch.allclose(merged[1::2], transfer(old, new)[1::2].detach(), atol=1e-6)
    assert not torch.allclose(merged[1::2], new[1::2], atol=1e-2)


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_a_transfer_that_learnt_nothing_is_fine_tuning_bit_for_bit(extractor):
    left = right = ModelState.initial(tiny_config(extractor, sml={"epochs": 0, "pull": 0.0}))
    for t in range(4):
        span = random_span(t, range(t, 10 + t), ITEMS + t)
        left, right = sml(left, span, ITEMS + t).state, fine_tune(right, span, ITEMS + t).state
        left_tensors = {n: t for n, t in tensors_of(left).items() if not n.startswith("memory.")}
        assert_equal(left_tensors, tensors_of(right))


def learnt(spans: int = 2, **changes: dict) -> ModelState:
    state = ModelState.initial(tiny_config(**changes))
    for t in range(spans):
        state = sml(state, random_span(t, range(14), ITEMS), ITEMS).state
    return state


def test_what_a_span_moved_is_remembered_and_merges_to_what_is_served():
    state = learnt(3, sml={"learning_rate": 0.02})
    transfers = transfers_of(state)
    last = LastUpdate.of(state, OWNER, transfers)
    assert len(last.rows) > 5
    assert len(last.user) > 5
    assert not torch.equal(last.old_items, last.new_items)
    assert bool(transfers.item.out.any())
    assert not torch.allclose(state.items.weight[last.rows], last.new_items, atol=1e-6)
    again = transfers.item.merged(last.old_items, last.new_items)
    assert torch.allclose(again, state.items.weight[last.rows], atol=1e-6)
    place = last.places_in(state.store)
    served = transfers.user.merged(last.old_interests[place[place >= 0]], last.new_interests[place[place >= 0]])
    assert torch.allclose(served, state.store.vectors[place >= 0], atol=1e-6)


def test_teaching_fits_the_span_that_came_next():
    state = learnt(2, sml={"epochs": 20, "learning_rate": 0.01, "decay": 0.0})
    span, last = random_span(2, range(14), ITEMS), LastUpdate.of(state, OWNER, transfers_of(state))
    users, targets = torch.from_numpy(span.users[span.rows]), torch.from_numpy(span.items)
    known = state.store.counts_of(users) > 0

    def loss(transfers) -> float:
        with torch.no_grad():
            lesson = _Lesson(state, transfers, last)
            return float(lesson.loss(users[known], targets[known], torch.Generator().manual_seed(0)))

    transfers = transfers_of(state)
    before = loss(transfers)
    assert teach(state, span, transfers, last)
    assert loss(transfers) < before - 0.05


def test_nothing_is_taught_without_a_last_update_or_without_known_users():
    state = ModelState.initial(tiny_config())
    transfers = transfers_of(state)
    assert not teach(state, random_span(1, range(9), ITEMS), transfers, LastUpdate.of(state, OWNER, transfers))
    state = learnt(2)
    strangers, transfers = random_span(1, range(100, 109), ITEMS), transfers_of(state)
    assert not teach(state, strangers, transfers, LastUpdate.of(state, OWNER, transfers))


def test_an_update_that_is_not_the_last_any_more_teaches_nothing():
    state = learnt(3, sml={"learning_rate": 0.02})
    assert len(LastUpdate.of(state, OWNER, transfers_of(state)).rows)
    tuned = fine_tune(state, random_span(7, range(14), ITEMS), ITEMS).state
    assert not len(LastUpdate.of(tuned, OWNER, transfers_of(tuned)).rows)
    again = sml(tuned, random_span(8, range(14), ITEMS), ITEMS).state
    assert len(LastUpdate.of(again, OWNER, transfers_of(again)).rows)


def test_places_are_found_by_user_and_id():
    store = store_of({2: [[1.0, 0.0]] * 3, 5: [[0.0, 1.0]], 9: [[1.0, 1.0]] * 2})
    some = store.take(torch.tensor([1, 3, 5]))
    empty, numbers = torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)
    last = LastUpdate(numbers, empty, empty, some.user, some.interest_id, some.vectors, some.vectors)
    assert last.places_in(store).tolist() == [-1, 0, -1, 1, -1, 2]
    assert last.places_in(store.take(torch.zeros(0, dtype=torch.int64))).tolist() == []


def test_the_transfer_is_carried_and_one_of_another_shape_left_behind():
    state = learnt(3, sml={"learning_rate": 0.02})
    carried = transfers_of(state).state_dict()
    assert all(torch.equal(state.memory[f"{OWNER}.{name}"], tensor) for name, tensor in carried.items())
    state.config = tiny_config(sml={"hidden": 7})
    assert not bool(transfers_of(state).item.out.any())
