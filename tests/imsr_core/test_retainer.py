"""EIR: every form against a loop over users, interests and items."""

from typing import get_args

import literal_formulas as literal
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.config import RetainerConfig, RetainerForm
from imsr_core.retainer import Distillation, retainer_loss

SHAPES = {"b": st.integers(1, 4), "k": st.integers(1, 5), "n": st.integers(0, 4), "d": st.integers(1, 6)}


def draw(b: int, k: int, n: int, d: int, seed: int, scale: float = 3.0) -> Distillation:
    generator = torch.Generator().manual_seed(seed)

    def vectors(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def coin(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator) < 0.6

    return Distillation(
        student=vectors(b, k, d),
        teacher=vectors(b, k, d),
        existing=coin(b, k),
        student_target=vectors(b, d),
        teacher_target=vectors(b, d),
        student_items=vectors(n, d),
        teacher_items=vectors(n, d),
        known_target=coin(b),
        known_items=coin(n),
        scale=scale,
    )


def by_hand(batch: Distillation, form: str, tau: float) -> float:
    total, factor = 0.0, batch.scale / tau
    for u in range(len(batch.student)):
        for k in range(batch.student.shape[1]):
            if not batch.existing[u, k]:
                continue
            student, teacher = batch.student[u, k].tolist(), batch.teacher[u, k].tolist()
            target, old_target = batch.student_target[u].tolist(), batch.teacher_target[u].tolist()
            known = bool(batch.known_target[u])
            if form == "euclidean":
                total += literal.eir_euclidean(student, teacher)
            elif form == "bce":
                total += literal.eir_bce(student, teacher, target, old_target, factor) if known else 0.0
            elif form in ("listwise", "kd1"):
                places = [i for i in range(len(batch.known_items)) if batch.known_items[i]]
                items = [target] * known + [batch.student_items[i].tolist() for i in places]
                old = [old_target] * known + [batch.teacher_items[i].tolist() for i in places]
                total += literal.eir_listwise(student, teacher, items, old, factor) * (tau**2 if form == "kd1" else 1)
    return total / len(batch.student)


def whole_users_by_hand(batch: Distillation, form: str, tau: float) -> float:
    total, factor = 0.0, batch.scale / tau
    for u in range(len(batch.student)):
        own = [k for k in range(batch.student.shape[1]) if batch.existing[u, k]]
        if not own or not batch.known_target[u]:
            continue
        student, teacher = ([side[u, k].tolist() for k in own] for side in (batch.student, batch.teacher))
        target, old_target = batch.student_target[u].tolist(), batch.teacher_target[u].tolist()
        if form == "kd2":
            total += tau**2 * literal.kd_across_interests(student, teacher, target, old_target, factor)
        else:
            places = [i for i in range(len(batch.known_items)) if batch.known_items[i]]
            items = [target] + [batch.student_items[i].tolist() for i in places]
            old = [old_target] + [batch.teacher_items[i].tolist() for i in places]
            total += tau**2 * literal.kd_of_the_user(student, teacher, items, old, batch.scale, factor)
    return total / len(batch.student)


@pytest.mark.parametrize("form", ["kd2", "kd3"])
@given(**SHAPES, seed=st.integers(0, 999), tau=st.sampled_from([0.5, 1.0, 2.0]))
def test_the_softmaxes_of_a_whole_user_equal_their_equations(form, b, k, n, d, seed, tau):
    batch = draw(b, k, n, d, seed)
    loss = retainer_loss(batch, RetainerConfig(form=form, temperature=tau))
    assert float(loss) == pytest.approx(whole_users_by_hand(batch, form, tau), rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("form", ["listwise", "bce", "euclidean", "kd1"])
@given(**SHAPES, seed=st.integers(0, 999), tau=st.sampled_from([0.5, 1.0, 2.0]))
def test_each_form_equals_its_equation(form, b, k, n, d, seed, tau):
    batch = draw(b, k, n, d, seed)
    loss = retainer_loss(batch, RetainerConfig(form=form, temperature=tau, interests=0))
    assert float(loss) == pytest.approx(by_hand(batch, form, tau), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("form", ["listwise", "kd1"])
@given(**SHAPES, seed=st.integers(0, 999), some=st.integers(1, 4))
def test_the_drawn_interests_stand_for_all(form, b, k, n, d, seed, some):
    batch = draw(b, k, n, d, seed)
    same = Distillation(
        **vars(batch) | {side: getattr(batch, side)[:, :1].expand(b, k, d) for side in ("student", "teacher")}
    )
    drawn = retainer_loss(same, RetainerConfig(form=form, interests=some), torch.Generator().manual_seed(seed))
    everything = retainer_loss(same, RetainerConfig(form=form, interests=0))
    assert float(drawn) == pytest.approx(float(everything), rel=1e-9, abs=1e-12)


def test_the_mean_over_many_draws_is_the_sum_over_all_interests():
    batch = draw(3, 5, 4, 6, seed=4)
    generator, config = torch.Generator().manual_seed(0), RetainerConfig(interests=2)
    draws = torch.stack([retainer_loss(batch, config, generator) for _ in range(4000)])
    everything = float(retainer_loss(batch, RetainerConfig(interests=0)))
    assert abs(float(draws.mean()) - everything) < 4 * float(draws.std()) / 4000**0.5
    assert float(draws.std()) > 0.01 * everything


@pytest.mark.parametrize("form", ["listwise", "euclidean", "kd1", "kd2", "kd3"])
def test_a_student_that_equals_its_teacher_loses_nothing(form):
    batch = draw(3, 4, 5, 6, seed=1)
    same = Distillation(
        **vars(batch)
        | {
            "student": batch.teacher,
            "student_target": batch.teacher_target,
            "student_items": batch.teacher_items,
        }
    )
    assert float(retainer_loss(same, RetainerConfig(form=form))) == pytest.approx(0.0, abs=1e-12)
    assert float(retainer_loss(batch, RetainerConfig(form=form))) > 0.01


@pytest.mark.parametrize("form", ["listwise", "kd2", "kd3"])
def test_the_teacher_is_fixed_and_new_interests_are_free(form):
    batch = draw(2, 3, 4, 5, seed=2)
    student, teacher = batch.student.clone().requires_grad_(), batch.teacher.clone().requires_grad_()
    traced = Distillation(**vars(batch) | {"student": student, "teacher": teacher})
    retainer_loss(traced, RetainerConfig(form=form, interests=0)).backward()
    assert teacher.grad is None
    assert not student.grad[~batch.existing].any()
    assert student.grad[batch.existing].any()


def test_logits_that_differ_beyond_exp_stay_finite():
    batch = draw(2, 3, 4, 5, seed=3, scale=1e4)
    for form in get_args(RetainerForm):
        assert torch.isfinite(retainer_loss(batch, RetainerConfig(form=form)))
