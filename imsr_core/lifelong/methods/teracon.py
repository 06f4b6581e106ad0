"""TERACON (Kim et al., KDD 2023): all tasks served from one network, by masks that know each other.

Paper and code: a channel mask for each task after every layer (``relation_masks``); with each new task everything
is trained, and the parent version's pseudo-labels on the new task's users hold the past (``distillation``); s goes
from 1 / s_max to s_max within every epoch; the relation layers of ALL tasks start anew because their input grew,
so past tasks are broken at step 0 and repaired by the distillation. No task token; the mask comes after the ReLU.

Decided: one mask function for training and serving; at least one user is distilled; the total loss must be finite;
T1 is distilled on the whole sequence (released: without its last item); the best epoch is chosen on the new task's
validation users after ``min_epochs``. Off by default and not in the paper: ``carry_relations``.

Decided, too: a task whose encoder adds nothing to its wide part (`wide`) leaves the network as it was and has no mask.
One that is served as well by its own head and mask in the parent's network keeps those alone (`holding`): the masks of
older tasks then stay as they were, without a relation to it, until a task comes that the network moves for.

Nothing exact holds for old tasks: measure forgetting (``transfer``) and let a gate decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from imsr_core.encoders.adapter import Adapter
from imsr_core.encoders.build import build_encoder
from imsr_core.encoders.protocol import Encoder
from imsr_core.lifelong.backbone import (
    adds_nothing,
    base_reading,
    first_state,
    fresh_base,
    fresh_head,
    on_device,
    pooling_of,
    record_of,
    silent_version,
)
from imsr_core.lifelong.evaluation import score
from imsr_core.lifelong.fitting import fit
from imsr_core.lifelong.methods.distillation import Retention, ViewAt
from imsr_core.lifelong.methods.holding import is_worth_moving
from imsr_core.lifelong.methods.relation_masks import (
    annealed,
    carried_relations,
    initial_embedding,
    initial_relations,
    task_mask,
)
from imsr_core.lifelong.pooling import learnt_pooling
from imsr_core.lifelong.problems import BaseProblem, TaskProblem
from imsr_core.lifelong.protocol import LifelongMethod
from imsr_core.lifelong.seeds import phase_seed
from imsr_core.lifelong.state import LifelongState, TaskRecord, head_in, subset
from imsr_core.lifelong.tasks import BASE_TASK
from imsr_core.lifelong.training import PhaseResult, Step, Tensors
from imsr_core.lifelong.view import AT_THE_END, Pooled, View


class Teracon(LifelongMethod):
    """Relation-aware task masks and knowledge retention."""

    name: ClassVar[str] = "teracon"
    exact: ClassVar[bool] = False

    def learn_base(self, problem: BaseProblem) -> LifelongState:
        settings, task = problem.config.teracon, problem.name
        encoder = build_encoder(problem.encoder)
        generator = torch.Generator().manual_seed(phase_seed(problem.seed, task, "initial masks"))
        embedding = initial_embedding(encoder.sites, problem.encoder.dim, generator)
        start = fresh_base(problem) | on_device({f"embedding/{task}": embedding}, problem)
        view_at = _views(encoder, {task: AT_THE_END}, problem.n_items)

        def clamp(tensors: Tensors, _: Step) -> None:
            clamp_embeddings(tensors, settings.clamp)

        result = fit(
            problem,
            start,
            lambda tensors, step: view_at(tensors, task, _steepness(step, settings.s_max)),
            "train",
            problem.config.pretrain,
            after_step=clamp,
        )
        record = record_of(problem, {"train": result.report()}, s_max=settings.s_max)
        return first_state(self.name, problem, record, result.parameters)

    def learn_task(self, state: LifelongState, problem: TaskProblem) -> LifelongState:
        settings, past = problem.config.teracon, networked(state)
        tasks = (*past, problem.name)
        s_max = state.tasks[0].details["s_max"]  # masks mean nothing at another steepness
        encoder = build_encoder(state.encoder)
        poolings = {task: learnt_pooling(state.task(task)) for task in past}
        view_at = _views(encoder, poolings | {problem.name: pooling_of(problem)}, state.n_items)
        teacher_items = max(task.n_items for task in state.tasks)
        generator = torch.Generator().manual_seed(phase_seed(problem.seed, problem.name, "distillation"))
        retention = Retention(
            state.tensors,
            past,
            _views(build_encoder(state.encoder), poolings, teacher_items),
            view_at,
            teacher_items,
            settings,
            generator,
        )

        def retain(tensors: Tensors, inputs: Tensor, step: Step) -> Tensor:
            return retention.loss(tensors, inputs, annealed(step, s_max))

        def after_step(tensors: Tensors, step: Step) -> None:
            clamp_embeddings(tensors, settings.clamp)
            retention.renew_rates(tensors, tasks, annealed(step, s_max))

        result = fit(
            problem,
            self.student_start(state, problem),
            lambda tensors, step: view_at(tensors, problem.name, _steepness(step, s_max)),
            "train",
            problem.config.task,
            after_step=after_step,
            extra_loss=retain if settings.distillation else None,
        )
        record = record_of(problem, {"train": result.report()}, s_max=s_max, rates=dict(retention.rates))
        if adds_nothing(problem, result.parameters):
            return self.give_back(state, problem, result.parameters, record)
        moved = state.replaced(result.parameters, task=record)
        if not settings.least_gain:
            return moved
        still = self.still(state, problem, result)
        with_it, without = (self.deep_view(version, problem.name) for version in (moved, still))
        return moved if is_worth_moving(problem, with_it, without, settings.least_gain) else still

    def still(self, state: LifelongState, problem: TaskProblem, result: PhaseResult) -> LifelongState:
        """The version in which the new task has a head and a mask, and nothing else is other than in the parent."""
        inside = (f"head/{problem.name}/", f"relation/{problem.name}/")
        own = {name: t for name, t in result.parameters.items() if name.startswith(inside)}
        own[f"embedding/{problem.name}"] = result.parameters[f"embedding/{problem.name}"]
        s_max, known = state.tasks[0].details["s_max"], max(task.n_items for task in state.tasks)
        record = record_of(problem, {}, s_max=s_max, still=True)
        version = state.replaced(own, task=replace(record, n_items=known))
        reached = score(problem.served(self.deep_view(version, problem.name)), problem.validation, problem.kind)
        record = replace(version.tasks[-1], phases={"train": replace(result, score=reached).report()})
        return replace(version, tasks=(*state.tasks, record))

    def give_back(
        self, state: LifelongState, problem: TaskProblem, tensors: Mapping[str, Tensor], record: TaskRecord
    ) -> LifelongState:
        """The network stays as it was, and nothing is forgotten."""
        details = {name: value for name, value in record.details.items() if name != "rates"} | {"apart": True}
        return silent_version(state, problem, tensors, replace(record, details=details))

    def student_start(self, state: LifelongState, problem: TaskProblem) -> Tensors:
        """The student before its first step: the parent, a new head and embedding, new relation layers."""
        past, sites = networked(state), build_encoder(state.encoder).sites
        tasks = (*past, problem.name)
        generator = torch.Generator().manual_seed(phase_seed(problem.seed, problem.name, "initial masks"))
        own = {f"embedding/{problem.name}": initial_embedding(sites, problem.dim, generator)}
        old = {name: t for name, t in state.tensors.items() if name.startswith("relation/")}
        wanted = bool(old) if len(past) > 1 else problem.config.teracon.relations  # it goes on as it began
        relations = on_device(initial_relations(tasks, sites, generator), problem) if wanted else {}
        if wanted and problem.config.teracon.carry_relations:
            relations = carried_relations(relations, old)
        shared = {name: t for name, t in state.tensors.items() if not name.startswith("wide/")}
        return {**shared, **fresh_head(problem, bias=True), **on_device(own, problem), **relations}

    def deep_view(self, state: LifelongState, task_name: str) -> View:
        state.position(task_name)
        return self.view_of_tensors(state, state.tensors, networked(state), task_name)

    def view_of_tensors(
        self, state: LifelongState, tensors: Mapping[str, Tensor], tasks: Sequence[str], task_name: str
    ) -> View:
        """A task as these tensors would serve it among ``tasks``; ``view`` is the case of the version's own."""
        learnt = {task.name: learnt_pooling(task) for task in state.tasks}
        poolings = {task: learnt.get(task, AT_THE_END) for task in tasks}
        known = max(task.n_items for task in state.tasks)  # newer rows are not learnt yet
        view_at = _views(build_encoder(state.encoder), poolings, known)
        return view_at(tensors, task_name, state.tasks[0].details["s_max"])


def networked(state: LifelongState) -> tuple[str, ...]:
    """The tasks that have a mask in the network, in their order: all but those that it adds nothing to."""
    return tuple(task.name for task in state.tasks if not task.details.get("apart"))


def clamp_embeddings(tensors: Mapping[str, Tensor], bound: float) -> None:
    """Keep every task embedding within [-bound, bound], in place."""
    for name, tensor in tensors.items():
        if name.startswith("embedding/"):
            tensor.clamp_(-bound, bound)


def _steepness(step: Step | None, s_max: float) -> float:
    return s_max if step is None else annealed(step, s_max)


def _views(encoder: Encoder, poolings: Mapping[str, Pooled], n_items: int) -> ViewAt:
    """How a network of the tasks in ``poolings``, in their order, serves one of them at a given s."""
    tasks = tuple(poolings)

    def view_at(tensors: Mapping[str, Tensor], task: str, s: float) -> View:
        masked = task if task in tasks else BASE_TASK  # a task without a mask has a silent head
        adapter = Adapter(gates=task_mask(tensors, tasks, masked, s))
        reading = base_reading(encoder) if task == BASE_TASK else "items"
        pooling = poolings.get(task, AT_THE_END)
        return View(encoder, subset("encoder", tensors), head_in(tensors, task), n_items, adapter, reading, pooling)

    return view_at
