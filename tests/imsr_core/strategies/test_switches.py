"""What each module does when it is on, and that it does nothing when it is off."""

import importlib
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

import imsr_core.trainer as trainer_module
from imsr_core.config import InterestsConfig
from imsr_core.state import ModelState
from imsr_core.strategies import Change, SpanUpdate, strategy_named
from imsr_core.strategies.fine_tune import without_modules
from imsr_core.testing.planted_logs import EXTRACTORS, assert_equal, random_span, span_of, tensors_of, tiny_config

#: The module, which the function of the same name hides in the package.
imsr_module = importlib.import_module("imsr_core.strategies.imsr")

ITEMS = 24
imsr, fine_tune = strategy_named("imsr"), strategy_named("fine_tune")


def learnt(config: InterestsConfig) -> ModelState:
    return imsr(ModelState.initial(config), random_span(3, range(12), ITEMS), ITEMS).state


def second_span(config: InterestsConfig) -> tuple[ModelState, SpanUpdate]:
    """The state before and the update of a second span under ``config``."""
    state = replace(learnt(tiny_config(config.model.extractor)), config=config)
    return state, imsr(state, random_span(4, range(14), ITEMS + 4), ITEMS + 4)


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_without_its_modules_imsr_is_fine_tuning_tensor_for_tensor(extractor):
    on = left = learnt(tiny_config(extractor, detector={"c1": 1.0}))
    left = replace(left, config=without_modules(left.config))
    for t in range(3):
        span = random_span(20 + t, range(12 + t), ITEMS)
        tuned, plain = fine_tune(on, span, ITEMS), imsr(left, span, ITEMS)
        assert_equal(tensors_of(tuned.state), tensors_of(plain.state))
        assert tuned.losses == plain.losses
        assert tuned.state.config == on.config
        on, left = tuned.state, plain.state


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_fine_tuning_never_calls_a_module(extractor, monkeypatch):
    state = learnt(tiny_config(extractor, detector={"c1": 1.0}))

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a module ran")

    monkeypatch.setattr(trainer_module, "retainer_loss", forbidden)
    monkeypatch.setattr(imsr_module, "orthonormal_basis", forbidden)
    monkeypatch.setattr(imsr_module, "clarity", forbidden)
    fine_tune(state, random_span(4, range(12), ITEMS), ITEMS)
    with pytest.raises(AssertionError, match="a module ran"):
        imsr(state, random_span(4, range(12), ITEMS), ITEMS)


NOBODY = [
    {"rule": "absolute", "c1": 0.0},
    {"rule": "quantile", "c1": 0.0},
    {"new_interests": 0, "c1": 1.0},
    {"enabled": False, "c1": 1.0},
]


@pytest.mark.parametrize("detector", NOBODY)
def test_a_detector_that_cannot_fire_keeps_k_fixed(detector):
    _, update = second_span(tiny_config(detector=detector))
    assert set(update.state.store.counts.tolist()) == {2}
    assert update.detected == update.changes.count(Change.TRIMMED) == 0
    _, off = second_span(tiny_config(detector={"enabled": False}))
    names = tensors_of(off.state).keys()
    assert_equal({n: tensors_of(update.state)[n] for n in names}, tensors_of(off.state))


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize(("c2", "added"), [(0.0, 3), (math.inf, 0)])
def test_c2_trims_nothing_or_everything(extractor, c2, added):
    state, update = second_span(tiny_config(extractor, detector={"c1": 1.0}, trimmer={"c2": c2}))
    asked = update.interests.users
    old = state.store.counts_of(asked)
    new = update.interests.counts - old
    assert set(new[old > 0].tolist()) == {added}
    assert set(new[old == 0].tolist()) == {2}
    proposed = ~update.changes.residual.isnan()
    assert int(proposed.sum()) == 3 * int((old > 0).sum())
    if c2:
        assert update.changes.count(Change.TRIMMED) == int(proposed.sum())
        assert (update.changes.interest_id[proposed] == -1).all()


def test_without_the_trimmer_every_proposal_stays_as_it_is():
    _, update = second_span(tiny_config(detector={"c1": 1.0}, trimmer={"enabled": False, "c2": math.inf}))
    assert update.changes.count(Change.TRIMMED) == 0
    assert cosines_of_new_with_old(update).abs().max() > 0.1


def cosines_of_new_with_old(update: SpanUpdate) -> torch.Tensor:
    """Of each surviving proposal with each older interest of its user."""
    store, values = update.interests, []
    for user in store.users.tolist():
        own = store.take(store.user == user)
        new = own.born == own.born.max()
        if new.all():
            continue
        unit = functional.normalize(own.vectors.double(), dim=-1)
        values.append((unit[new] @ unit[~new].T).flatten())
    return torch.cat(values)


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_what_the_trimmer_lets_pass_is_orthogonal_to_the_existing_and_long_enough(extractor):
    _, update = second_span(tiny_config(extractor, detector={"c1": 1.0}, trimmer={"c2": 0.1}))
    cosines = cosines_of_new_with_old(update)
    assert len(cosines) >= 4
    assert cosines.abs().max() < 1e-4
    changes = update.changes
    proposed = ~changes.residual.isnan()
    trimmed = changes.change == list(Change).index(Change.TRIMMED)
    assert torch.equal(trimmed[proposed], changes.residual[proposed] < 0.1)
    assert not trimmed[~proposed].any()
    assert update.interests.vectors.norm(dim=-1)[update.interests.born == 1].min() > 0


def test_the_quantile_decides_how_many_users_get_proposals():
    state, update = second_span(tiny_config(detector={"c1": 0.5}))
    measured = int((state.store.counts_of(update.interests.users) > 0).sum())
    assert update.detected == measured // 2
    values = list(update.clarity_quantiles.values())
    assert list(update.clarity_quantiles) == ["0.05", "0.25", "0.5", "0.75", "0.95"]
    assert values == sorted(values)
    assert values[0] <= update.threshold <= values[-1]


def test_a_stronger_retainer_keeps_interests_nearer():
    def drift(weight: float, mass: float | None) -> float:
        config = tiny_config(
            retainer={"weight": weight, "form": "euclidean"},
            detector={"enabled": False},
            model={"prior_mass": mass},
            training={"epochs": 6, "learning_rate": 0.02},
        )
        _, update = second_span(config)
        return float(update.changes.drift.nanmean())

    for mass in (None, 0.0):
        assert drift(30.0, mass) < 0.8 * drift(0.0, mass)


@pytest.mark.parametrize("form", ["listwise", "bce", "euclidean", "kd1", "kd2", "kd3"])
@pytest.mark.parametrize("mass", [None, 0.0])
def test_each_form_of_the_retainer_changes_what_is_learnt(form, mass):
    states = [
        second_span(tiny_config(retainer={"form": form, "weight": weight}, model={"prior_mass": mass}))[1].state
        for weight in (0.0, 0.5)
    ]
    assert not torch.equal(states[0].items.weight, states[1].items.weight)


def test_the_retainer_of_a_small_catalogue_sees_all_of_it(monkeypatch):
    seen: set[int] = set()
    whole = trainer_module.SpanTrainer._distillation

    def watch(self, batch, interests, prior, stored, target, items, vectors):
        seen.update(items.tolist())
        return whole(self, batch, interests, prior, stored, target, items, vectors)

    monkeypatch.setattr(trainer_module.SpanTrainer, "_distillation", watch)
    second_span(tiny_config(retainer={"items": 3}, training={"negatives": 0, "batch_size": 4, "epochs": 4}))
    assert seen == set(range(ITEMS + 4))


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_proposals_train_in_the_space_that_the_trimmer_will_leave_them(extractor, monkeypatch):
    cosines, whole = [], trainer_module.SpanTrainer._extract

    def watch(self, batch, history, leaves):
        interests, prior, stored = whole(self, batch, history, leaves)
        unit = functional.normalize(interests.detach().double(), dim=-1)
        old = functional.normalize(prior.start.double(), dim=-1) * prior.stored[..., None]
        proposed = self.working.proposed[self.working.store.rows_of(self.users[batch.user_row]).rows]
        cosines.append((unit @ old.transpose(1, 2))[proposed & prior.mask].flatten())
        return interests, prior, stored

    monkeypatch.setattr(trainer_module.SpanTrainer, "_extract", watch)
    second_span(tiny_config(extractor, detector={"c1": 1.0}))
    assert torch.cat(cosines).abs().max() < 1e-4
    assert len(torch.cat(cosines)) > 50


def test_each_span_draws_its_own_order(monkeypatch):
    order: list[list[int]] = []
    whole = trainer_module.SpanTrainer.step

    def watch(self, batch):
        order[-1].extend(batch.target.tolist())
        return whole(self, batch)

    state, span = learnt(tiny_config()), random_span(3, range(12), ITEMS)
    monkeypatch.setattr(trainer_module.SpanTrainer, "step", watch)
    for _ in range(2):
        order.append([])
        state = fine_tune(state, span, ITEMS).state
    assert len(order[0]) == len(order[1])
    assert order[0] != order[1]


# ---- what a step may touch -------------------------------------------------------------------------------------


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_items_in_no_batch_do_not_move_by_a_bit_not_even_item_0(extractor, monkeypatch):
    state = learnt(tiny_config(extractor))
    assert state.items.moment1[0].any()  # momentum that a step of zero gradient would let loose
    negatives = torch.tensor([20, 21])
    monkeypatch.setattr(trainer_module.SpanTrainer, "_negatives", lambda self, generator, targets: negatives)
    span = span_of({0: [5, 6, 7, 8, 9], 2: [6], 3: [7, 5, 7]})
    after = imsr(state, span, ITEMS).state
    used = torch.tensor([5, 6, 7, 8, 9, 20, 21])
    rest = torch.tensor([i for i in range(ITEMS) if i not in used.tolist()])
    for name, tensor in after.items.tensors().items():
        assert torch.equal(tensor[rest], state.items.tensors()[name][rest])
    assert (after.items.weight[used] != state.items.weight[used]).any(1).all()


def test_the_queries_of_a_user_without_a_target_do_not_move():
    config = tiny_config("comirec-sa", detector={"enabled": False})
    state = learnt(config)
    known = state.store.users.tolist()
    newcomer, short, long = 0, known[1], known[2]
    # user 0 is new, has one event (no target), and its interests are row 0 of the span's working store
    others = state.store.take(~torch.isin(state.store.user, torch.tensor([newcomer])))
    extra = others.take(others.user == long)
    grown = others.union(extra.replaced(interest_id=extra.interest_id + 2))
    before = replace(state, store=grown)
    after = imsr(before, span_of({newcomer: [3], short: [1, 2, 3, 4], long: [4, 3, 2]}), ITEMS).state.store
    assert not after.query_steps[after.user == newcomer].any()
    assert not after.query_moments[after.user == newcomer].any()
    assert (after.query_steps[after.user == short] > before.store.query_steps[before.store.user == short]).all()


# ---- configurations that are methods of their own --------------------------------------------------------------


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("width", [1, 5])
def test_as_many_interests_as_at_the_start_for_ever(extractor, width):
    """One: the single-vector model. More: K created up front."""
    config = tiny_config(
        extractor, model={"initial_interests": width, "max_interests": width}, detector={"c1": 1.0}, trimmer={"c2": 0.0}
    )
    state = ModelState.initial(config)
    for t in range(5):
        update = imsr(state, random_span(30 + t, range(t, 12 + t), ITEMS), ITEMS)
        state = update.state
        assert set(state.store.counts.tolist()) == {width}
        assert update.changes.count(Change.TRIMMED) == 0
        assert (update.changes.reason == -1).all()
