"""Masks, patches and the retention loss against their formulas, in plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from imsr_core.encoders.tokens import PAD, left_pad
from imsr_core.lifelong.config import TeraconConfig
from imsr_core.lifelong.growing import grow_items
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.methods import teracon as teracon_module
from imsr_core.lifelong.methods.distillation import Retention
from imsr_core.lifelong.methods.patches import PARTS, initial_patches, patches_in
from imsr_core.lifelong.methods.relation_masks import sampling_rate, task_mask
from imsr_core.lifelong.view import View
from imsr_core.testing.planted_users import planted_sequences, planted_task, small_config

SITES, DIM = 2, 3


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def mask_tensors(tasks: list[str]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tensors = {f"embedding/{t}": torch.empty(SITES, DIM).normal_(generator=generator) for t in tasks}
    if len(tasks) > 1:
        for task in tasks:
            tensors[f"relation/{task}/weight"] = torch.empty(SITES, 2 * len(tasks) - 1).normal_(generator=generator)
            tensors[f"relation/{task}/bias"] = torch.empty(SITES).normal_(generator=generator)
    return {name: tensor.double() for name, tensor in tensors.items()}


def mask_by_hand(tensors: dict[str, Tensor], tasks: list[str], task: str, s: float, site: int, channel: int) -> float:
    own = float(tensors[f"embedding/{task}"][site, channel])
    if len(tasks) == 1:
        return sigmoid(s * own)
    weight, mixed = tensors[f"relation/{task}/weight"][site], float(tensors[f"relation/{task}/bias"][site])
    mixed += float(weight[0]) * math.tanh(s * own)
    place = 1
    for other in tasks:
        if other != task:
            signal = math.tanh(s * float(tensors[f"embedding/{other}"][site, channel]))
            mixed += float(weight[place]) * signal + float(weight[place + 1]) * -signal
            place += 2
    return sigmoid(s * mixed)


@pytest.mark.parametrize("tasks", [["T1"], ["T1", "a"], ["T1", "a", "b"]])
@pytest.mark.parametrize("s", [0.3, 2.0])
def test_a_mask_is_its_formula(tasks, s) -> None:
    tensors = mask_tensors(tasks)
    for task in tasks:
        found = task_mask(tensors, tasks, task, s)
        for site in range(SITES):
            for channel in range(DIM):
                assert float(found[site, channel]) == pytest.approx(
                    mask_by_hand(tensors, tasks, task, s, site, channel), rel=1e-9
                )


def test_a_sampling_rate_is_its_formula() -> None:
    teacher, student = torch.tensor([[1.0, 2.0], [0.5, 0.1]]), torch.tensor([[2.0, 1.0], [0.5, 0.1]])
    cosines = [4.0 / 5.0, 1.0]
    expected = 1.0 - sum(sigmoid(6.0 * cosine) for cosine in cosines) / 2
    assert sampling_rate(teacher, student, 6.0) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("insertion", ["serial-2", "serial-1", "parallel"])
def test_a_patch_is_its_formula(insertion) -> None:
    """Serial reads the layer's output, parallel its input; both add to the output."""
    sites = range(1, 4, 2) if insertion == "serial-1" else range(4)
    tensors = initial_patches(sites, dim=6, reduction=3, seed=0)
    generator = torch.Generator().manual_seed(2)
    tensors = {name: torch.empty(t.shape).normal_(generator=generator).double() for name, t in tensors.items()}
    patches = patches_in(tensors, insertion)
    assert sorted(patches) == list(sites)
    inputs, outputs = torch.randn(2, 3, 6, dtype=torch.float64), torch.randn(2, 3, 6, dtype=torch.float64)
    for site, patch in patches.items():
        down, down_bias, up, up_bias = (tensors[f"{site}/{part}"] for part in PARTS)
        x = inputs if insertion == "parallel" else outputs
        narrow = x @ down.T + down_bias
        inner = math.sqrt(2 / math.pi) * (narrow + 0.044715 * narrow**3)
        expected = outputs + (0.5 * narrow * (1 + torch.tanh(inner))) @ up.T + up_bias
        torch.testing.assert_close(patch(inputs, outputs), expected, rtol=1e-9, atol=1e-12)


def beginnings(inputs: Tensor) -> Tensor:
    """The rows of these users after each of their items."""
    rows = [[item for item in row if item != PAD] for row in inputs.tolist()]
    cut = [row[:end] for row in rows for end in range(1, len(row) + 1)]
    return torch.tensor([[PAD] * (inputs.shape[1] - len(row)) + row for row in cut])


@pytest.mark.parametrize(("kind", "places"), [("kl", 0), ("mse", 0), ("kl", 10_000)])
def test_the_retention_loss_is_its_formula(versions, sequences, kind: str, places: int) -> None:
    """alpha sum_i rho_i / sum_j rho_j D_i over all users, where all are distilled, or over all that any had once."""
    first, second = versions("teracon", ("genre",))
    method = get_method("teracon")
    past, rates, s = ("T1", "genre"), {"T1": 0.2, "genre": 0.05}, 1.5
    student = {n: t + 0.01 if t.is_floating_point() else t for n, t in second.tensors.items()}

    def view_at(tensors: dict[str, Tensor], task: str, s: float) -> View:
        return method.view_of_tensors(second, tensors, past, task)  # type: ignore[attr-defined]

    settings = TeraconConfig(distillation=0.7, min_sampled=1000, retention=kind, held_places=places)
    retention = Retention(second.tensors, past, view_at, view_at, 48, settings, torch.Generator().manual_seed(0))
    retention.rates = rates
    inputs = left_pad(sequences, second.encoder.length)[:20]
    found = float(retention.loss(student, inputs, s))
    expected = 0.0
    for task in past:
        histories = beginnings(inputs) if places else inputs
        ours, theirs = view_at(student, task, s).logits(histories), view_at(second.tensors, task, s).logits(histories)
        errors = []
        for mine, wanted in zip(ours.tolist(), theirs.tolist(), strict=True):
            if kind == "mse":
                errors += [(a - b) ** 2 for a, b in zip(mine, wanted, strict=True)]
            else:
                q, p = ([math.exp(x) / sum(map(math.exp, row)) for x in row] for row in (mine, wanted))
                errors.append(sum(b * math.log(b / a) for a, b in zip(q, p, strict=True)))
        expected += rates[task] / sum(rates.values()) * sum(errors) / len(errors)
    assert expected > 1e-6
    assert found == pytest.approx(0.7 * expected, rel=2e-3)
    assert first.task_names == ("T1",)


def test_rates_are_renewed_by_the_newest_tasks_mask_against_each_past_one(versions) -> None:
    _, second, third = versions("teracon", ("genre", "half"))
    past, tasks, s = second.task_names, third.task_names, 0.7
    settings = TeraconConfig(gate_factor=6.0)
    retention = Retention(second.tensors, past, None, None, 48, settings, torch.Generator())  # type: ignore[arg-type]
    assert set(retention.rates.values()) == {settings.start_rate}
    retention.renew_rates(third.tensors, tasks, s)
    new = task_mask(third.tensors, tasks, "half", s)
    expected = {task: sampling_rate(task_mask(second.tensors, past, task, s), new, 6.0) for task in past}
    assert retention.rates == expected
    assert len({round(rate, 6) for rate in expected.values()}) == 2
    other = task_mask(third.tensors, tasks, "genre", s)
    assert sampling_rate(task_mask(second.tensors, past, "T1", s), other, 6.0) != expected["T1"]


def test_the_teacher_does_not_know_new_items(versions, monkeypatch) -> None:
    parent, made = grow_items(versions("teracon", ())[0], 60, seed=3), []

    class Recorded(Retention):
        def __init__(self, teacher, past, teacher_view, student_view, n_items, config, generator):  # type: ignore[no-untyped-def]
            super().__init__(teacher, past, teacher_view, student_view, n_items, config, generator)
            made.append((n_items, teacher_view(teacher, "T1", 1.0).n_items, student_view))

    monkeypatch.setattr(teracon_module, "Retention", Recorded)
    child = get_method("teracon").add_task(parent, planted_task("genre", planted_sequences()), small_config(), 1)
    (known, teacher_knows, student_view) = made[0]
    assert (known, teacher_knows) == (48, 48)
    assert student_view(child.tensors, "genre", 1.0).n_items == 60
