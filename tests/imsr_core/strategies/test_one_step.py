"""A whole span against loops: the loss of its first step, and the interests that it writes."""

from dataclasses import replace

import literal_formulas as literal
import pytest
import torch

from imsr_core.ragged import SpanSequences
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named
from imsr_core.testing.planted_logs import EXTRACTORS, random_span, tiny_config

ITEMS = 20


def learnt(extractor: str, **changes: dict) -> ModelState:
    state = ModelState.initial(tiny_config(extractor, **changes))
    return strategy_named("imsr")(state, random_span(3, range(9), ITEMS), ITEMS).state


def as_lists(tensor: torch.Tensor) -> list:
    return tensor.detach().double().tolist()


def interests_by_hand(state: ModelState, user: int, items: list[int]) -> list[list[float]]:
    """H^t of a user with stored interests from these items, by the loops."""
    table = as_lists(state.items.weight)
    vectors = [literal.unit(table[i]) if state.config.model.normalize_items else table[i] for i in items]
    own = state.store.user == user
    past = as_lists(state.store.vectors[own])
    mass = [state.config.model.mass] * len(past)
    if state.config.model.extractor == "comirec-sa":
        positions = as_lists(state.extractor.positions)
        places = positions[len(positions) - len(items) :]
        queries = as_lists(state.store.queries[own])
        return literal.attention(vectors, places, as_lists(state.extractor.hidden.weight), queries, past, mass)
    weight, bias = as_lists(state.extractor.map.weight), state.extractor.map.bias
    offset = as_lists(bias) if bias is not None else [0.0] * 8
    mapped = [literal.plus([literal.dot(row, e) for row in weight], offset) for e in vectors]
    logits = [[literal.dot(e, h) for h in past] for e in mapped]
    return literal.routing(mapped, past, mass, logits, 3)[0]


def loss_by_hand(state: ModelState, span: SpanSequences) -> float:
    """L_SS + lambda L_EIR over all events, each predicted from the ones before it, against the whole catalogue."""
    model, retainer = state.config.model, state.config.retainer
    table = [literal.unit(row) if model.normalize_items else row for row in as_lists(state.items.weight)]
    total, n = 0.0, 0
    for r, user in enumerate(span.users.tolist()):
        items = span.items[span.offsets[r] : span.offsets[r + 1]].tolist()
        old = as_lists(state.store.vectors[state.store.user == user])
        for j, target in enumerate(items):
            interests = interests_by_hand(state, user, items[max(0, j - model.history) : j])
            vector = literal.label_aware(interests, table[target], model.logit_scale)
            others = [e for i, e in enumerate(table) if i != target]
            total += literal.cross_entropy(vector, table[target], others, model.logit_scale)
            n += 1
            if retainer.enabled:
                factor = model.logit_scale / retainer.temperature
                pairs = zip(interests, old, strict=True)
                distilled = sum(literal.eir_bce(h, o, table[target], table[target], factor) for h, o in pairs)
                total += retainer.weight * distilled
    return total / n


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("mass", [None, 0.0])
@pytest.mark.parametrize("eir", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_loss_of_the_first_step_is_the_equations(extractor, mass, eir, normalize):
    state = learnt(extractor, model={"normalize_items": normalize, "logit_scale": 3.0})
    known = set(state.store.users.tolist())
    users = [u for u in range(9) if u in known][:4]
    items = random_span(8, range(9), ITEMS).items[:20]
    span = SpanSequences(
        users=torch.tensor(users).numpy(),
        offsets=torch.arange(0, 21, 5).numpy(),
        items=items,
        timestamps=torch.arange(20).numpy(),
    ).validate()
    config = tiny_config(
        extractor,
        model={"normalize_items": normalize, "logit_scale": 3.0, "prior_mass": mass},
        training={"negatives": 0, "window": 1, "batch_size": 99, "epochs": 1},
        retainer={"enabled": eir, "form": "bce", "weight": 0.5, "temperature": 2.0},
        detector={"enabled": False},
    )
    state = replace(state, config=config)
    steps: list[float] = []
    strategy_named("imsr")(state, span, ITEMS, progress=lambda done, total, loss: steps.append(loss))
    if mass == 0:
        # without a prior mass the first event of a user has nothing to be predicted from
        assert steps[0] == pytest.approx(loss_without_first_events(state, span), rel=1e-4)
    else:
        assert steps[0] == pytest.approx(loss_by_hand(state, span), rel=1e-4)


def loss_without_first_events(state: ModelState, span: SpanSequences) -> float:
    """`loss_by_hand` over the events that have a history."""
    whole, n = loss_by_hand(state, span) * span.n_events, span.n_events
    firsts = [span.offsets[r] for r in range(len(span))]
    alone = SpanSequences(span.users, torch.arange(len(span) + 1).numpy(), span.items[firsts], span.timestamps[firsts])
    return (whole - loss_by_hand(state, alone) * len(span)) / (n - len(span))


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_without_training_a_span_writes_the_literal_extraction_of_its_last_items(extractor):
    state = learnt(extractor)
    config = tiny_config(extractor, training={"epochs": 0}, detector={"enabled": False})
    span = random_span(12, range(9), ITEMS)
    update = strategy_named("imsr")(replace(state, config=config), span, ITEMS)
    compared = 0
    for r, user in enumerate(span.users.tolist()):
        if user not in state.store.users.tolist():
            continue
        items = span.items[span.offsets[r] : span.offsets[r + 1]].tolist()[-config.model.history :]
        found = update.state.store.vectors[update.state.store.user == user]
        assert torch.allclose(found.double(), torch.tensor(interests_by_hand(state, user, items)).double(), atol=1e-5)
        compared += 1
    assert compared >= 3
    assert torch.equal(update.state.items.weight, state.items.weight)
    assert update.losses == []
