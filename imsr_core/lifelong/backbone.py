"""What most methods share: an ordinary T1, heads, task tokens, and how their tensors are named."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from imsr_core.encoders.build import build_encoder, initial_rows, initial_weights
from imsr_core.encoders.protocol import Encoder
from imsr_core.encoders.tokens import FIRST_ITEM
from imsr_core.lifelong.config import TokenMode
from imsr_core.lifelong.fitting import fit
from imsr_core.lifelong.growing import first_open_row
from imsr_core.lifelong.heads import initial_head
from imsr_core.lifelong.pooling import wanted_pooling
from imsr_core.lifelong.problems import BaseProblem, Problem, TaskProblem
from imsr_core.lifelong.seeds import phase_seed
from imsr_core.lifelong.state import LifelongState, TaskRecord, head_in, named, subset
from imsr_core.lifelong.training import Tensors
from imsr_core.lifelong.view import Pooled, Reading, View


def fresh_base(problem: BaseProblem) -> Tensors:
    """Random ``encoder/...`` and ``head/T1/...`` tensors; T1's head has a bias, and no weights where it is tied."""
    seed, settings = phase_seed(problem.seed, problem.name, "initial encoder"), problem.config.objective
    weights = initial_weights(problem.encoder, problem.n_items, seed)
    head = fresh_head(problem, bias=True)
    if settings.tied and problem.n_items <= settings.full_softmax_limit:
        del head[f"head/{problem.name}/weight"]
    return on_device({**named("encoder", weights), **head}, problem)


def fresh_head(problem: Problem, *, bias: bool) -> Tensors:
    """Random ``head/<task>/...`` tensors; where the wide part speaks first zeros, which say nothing yet."""
    dim = problem.encoder.dim if isinstance(problem, BaseProblem) else problem.dim
    head = initial_head(problem.n_labels, dim, phase_seed(problem.seed, problem.name, "initial head"), bias=bias)
    if isinstance(problem, TaskProblem) and problem.residual is not None:
        head = {name: torch.zeros_like(tensor) for name, tensor in head.items()}
    return on_device(named(f"head/{problem.name}", head), problem)


def adds_nothing(problem: Problem, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the encoder has nothing to say beside the new task's wide part: its head was found silent (`fitting`)."""
    if isinstance(problem, BaseProblem) or problem.residual is None:
        return False
    return not any(bool(tensor.any()) for tensor in subset(f"head/{problem.name}", tensors).values())


def silent_version(
    state: LifelongState, problem: TaskProblem, tensors: Mapping[str, Tensor], record: TaskRecord
) -> LifelongState:
    """A version with a task that the encoder adds nothing to: of what it learnt (``tensors``) only a silent head, and
    open rows stay open for the next task that learns something."""
    own = subset(f"head/{problem.name}", tensors)
    head = named(f"head/{problem.name}", {name: torch.zeros_like(tensor) for name, tensor in own.items()})
    known = first_open_row(state) - FIRST_ITEM
    return state.replaced(head, task=dataclasses.replace(record, n_items=known))


def fresh_token(problem: TaskProblem, mode: TokenMode) -> Tensors:
    """``token/<task>``, a vector of the task's own, where the token is trained; else nothing."""
    if mode != "trained":
        return {}
    generator = torch.Generator().manual_seed(phase_seed(problem.seed, problem.name, "initial token"))
    return on_device({f"token/{problem.name}": initial_rows(1, problem.dim, generator)[0]}, problem)


def on_device(tensors: Mapping[str, Tensor], problem: Problem) -> Tensors:
    """The tensors where the problem's examples are."""
    return {name: tensor.to(problem.config.device) for name, tensor in tensors.items()}


def base_reading(encoder: Encoder) -> Reading:
    """T1 reads a causal encoder at the last item, another in a hole after it."""
    return "items" if encoder.causal else "mask"


def task_reading(mode: TokenMode) -> Reading:
    """A later task reads at the last item, or at the task token."""
    return "items" if mode == "none" else "token"


def pooling_of(problem: TaskProblem) -> Pooled:
    """How a new task reads the states."""
    return wanted_pooling(problem.kind, problem.config.objective)


def learn_plain_base(method: str, problem: BaseProblem) -> LifelongState:
    """T1 with every weight trained: the version that the star-shaped methods start from."""
    encoder = build_encoder(problem.encoder)

    def view_of(tensors: Tensors, _: object) -> View:
        head = head_in(tensors, problem.name)
        return View(encoder, subset("encoder", tensors), head, problem.n_items, reading=base_reading(encoder))

    result = fit(problem, fresh_base(problem), view_of, "train", problem.config.pretrain)
    record = record_of(problem, {"train": result.report()})
    return first_state(method, problem, record, result.parameters)


def first_state(method: str, problem: BaseProblem, record: TaskRecord, tensors: Mapping[str, Tensor]) -> LifelongState:
    """A version with T1 only."""
    split = problem.config.split
    return LifelongState(method, problem.encoder, split, problem.n_items, (record,), dict(tensors))


def record_of(problem: Problem, phases: dict[str, dict[str, float]], **details: object) -> TaskRecord:
    """The record of a task that was just learnt."""
    if isinstance(problem, TaskProblem):
        pooling = pooling_of(problem)
        details |= {"pooling": pooling.how, "windows": pooling.windows}
        details |= {"wide": problem.wide.model.length} if problem.wide else {}
    return TaskRecord(
        problem.name,
        problem.kind,
        problem.n_labels,
        problem.n_items,
        problem.seed,
        phases,
        {"validated_on": problem.validated_on, **details},
    )


def base_view(state: LifelongState, task_name: str) -> View:
    """T1 of a version whose backbone no task edits."""
    encoder = build_encoder(state.encoder)
    record = state.task(task_name)
    return View(encoder, state.group("encoder"), state.head(task_name), record.n_items, reading=base_reading(encoder))
