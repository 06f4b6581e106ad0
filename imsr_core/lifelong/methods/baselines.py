"""The baselines. All but SinMoAll keep each task to itself: SinMo, DNN, FineSmax, FineCLS, FineLast, FineAll, MTL.

A later task stores only the backbone parameters it trained, as ``tuned/<task>/...``; the others are T1's. So T1 and
all other tasks stay bit for bit, at the price of up to one backbone a task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from imsr_core.encoders.adapter import Adapter
from imsr_core.encoders.build import build_encoder, initial_weights
from imsr_core.encoders.protocol import ITEM_TABLE, Encoder
from imsr_core.lifelong.backbone import (
    adds_nothing,
    base_reading,
    base_view,
    fresh_head,
    learn_plain_base,
    on_device,
    pooling_of,
    record_of,
)
from imsr_core.lifelong.config import LifelongConfig
from imsr_core.lifelong.fitting import ExtraLoss, fit
from imsr_core.lifelong.growing import first_open_row, merged_table, open_rows
from imsr_core.lifelong.heads import Head, initial_head
from imsr_core.lifelong.pooling import learnt_pooling
from imsr_core.lifelong.pretraining import next_item_loss
from imsr_core.lifelong.problems import BaseProblem, TaskProblem
from imsr_core.lifelong.protocol import LifelongMethod
from imsr_core.lifelong.seeds import phase_seed
from imsr_core.lifelong.state import LifelongState, TaskRecord, head_in, named, subset
from imsr_core.lifelong.tasks import BASE_TASK
from imsr_core.lifelong.training import Step, Tensors
from imsr_core.lifelong.view import AT_THE_END, Pooled, View


class FineTune(LifelongMethod):
    """T1's backbone, of which each task trains a part in a copy of its own."""

    star: ClassVar[bool] = True

    def tuned(self, encoder: Encoder, config: LifelongConfig) -> tuple[str, ...]:
        """Names of the backbone parameters that a task trains: all of them, unless a subclass says less."""
        return tuple(name for name, _ in encoder.named_parameters())

    def start(self, state: LifelongState, problem: TaskProblem) -> Tensors:
        """Where the backbone starts from: T1's weights."""
        return state.group("encoder")

    def auxiliary(self, state: LifelongState, problem: TaskProblem) -> tuple[Tensors, ExtraLoss | None]:
        """Tensors (``auxiliary/...``) and a loss that only training needs; none here."""
        return {}, None

    def learn_base(self, problem: BaseProblem) -> LifelongState:
        return learn_plain_base(self.name, problem)

    def learn_task(self, state: LifelongState, problem: TaskProblem) -> LifelongState:
        weights, task, encoder = self.start(state, problem), problem.name, build_encoder(state.encoder)
        trained = {name: weights[name] for name in self.tuned(encoder, problem.config)}
        helpers, extra_loss = self.auxiliary(state, problem)
        pooling = pooling_of(problem)
        start = named(f"tuned/{task}", trained) | fresh_head(problem, bias=True) | helpers
        start |= {} if ITEM_TABLE in trained else open_rows(state)
        result = fit(
            problem,
            start,
            lambda tensors, _: _task_view(encoder, state, tensors, task, problem.n_items, pooling),
            "train",
            problem.config.task,
            extra_loss=extra_loss,
        )
        record = record_of(problem, {"train": result.report()})
        if adds_nothing(problem, result.parameters):
            return self.give_back(state, problem, result.parameters, record)
        own = (f"tuned/{task}/", f"head/{task}/")
        learnt = {name: t for name, t in result.parameters.items() if name.startswith(own)}
        learnt |= merged_table(state, result.parameters)
        return state.replaced(learnt, task=record)

    def deep_view(self, state: LifelongState, task_name: str) -> View:
        if state.position(task_name) == 0:
            return base_view(state, task_name)
        encoder, record = build_encoder(state.encoder), state.task(task_name)
        return _task_view(encoder, state, state.tensors, task_name, record.n_items, learnt_pooling(record))


class FineAll(FineTune):
    """T1's backbone copied and trained whole for each task."""

    name: ClassVar[str] = "fineall"


class FineSmax(FineTune):
    """Only the softmax is trained (PeterRec calls it FineCLS)."""

    name: ClassVar[str] = "finesmax"

    def tuned(self, encoder: Encoder, config: LifelongConfig) -> tuple[str, ...]:
        return ()


class FineLast(FineTune):
    """The last layers and the softmax are trained; ``finetuned_sites`` says how many layers."""

    name: ClassVar[str] = "finelast"

    def tuned(self, encoder: Encoder, config: LifelongConfig) -> tuple[str, ...]:
        sites = range(max(0, encoder.sites - config.finetuned_sites), encoder.sites)
        return tuple(name for site in sites for name in encoder.site_parameters(site))


class SinMo(FineTune):
    """A single model for each task, from random weights: what forward transfer is measured against."""

    name: ClassVar[str] = "sinmo"

    def start(self, state: LifelongState, problem: TaskProblem) -> Tensors:
        seed = phase_seed(problem.seed, problem.name, "initial encoder")
        return on_device(initial_weights(state.encoder, state.n_items, seed), problem)


class DNN(SinMo):
    """SinMo with the shallow encoder: a scaled sum of item vectors and an MLP for each task."""

    name: ClassVar[str] = "dnn"

    def configure(self, config: LifelongConfig) -> LifelongConfig:
        return dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, name="dssm"))


class MTL(SinMo):
    """Joint training of T1's objective and one task's, two at a time, from random weights.

    Decided (the papers say no more): T1's loss runs on the same batch's sequences with weight 1, and T1 itself is
    served by the backbone that was trained on it alone.
    """

    name: ClassVar[str] = "mtl"

    def auxiliary(self, state: LifelongState, problem: TaskProblem) -> tuple[Tensors, ExtraLoss | None]:
        seed = phase_seed(problem.seed, problem.name, "initial auxiliary head")
        labels = state.task(BASE_TASK).n_labels
        head = on_device(named("auxiliary", initial_head(labels, problem.dim, seed, bias=True)), problem)
        generator = torch.Generator().manual_seed(phase_seed(problem.seed, problem.name, "auxiliary"))
        encoder = build_encoder(state.encoder)

        def next_item(tensors: Tensors, inputs: Tensor, _: Step) -> Tensor:
            view = _task_view(encoder, state, tensors, problem.name, problem.n_items)
            encoder.train()
            base = Head(tensors["auxiliary/weight"], tensors["auxiliary/bias"])
            view = dataclasses.replace(view, head=base, reading=base_reading(encoder))
            return next_item_loss(view, inputs[:, -encoder.config.length :], problem.config.objective, generator)

        return head, next_item


def _task_view(
    encoder: Encoder,
    state: LifelongState,
    tensors: Mapping[str, Tensor],
    task: str,
    n_items: int,
    pooling: Pooled = AT_THE_END,
) -> View:
    """T1's backbone with the parameters that the task tuned."""
    weights = {**state.group("encoder"), **subset(f"tuned/{task}", tensors)}
    adapter = Adapter(new_rows=tensors.get("rows"), first_new=first_open_row(state))
    return View(encoder, weights, head_in(tensors, task), n_items, adapter, pooling=pooling)


class SinMoAll(LifelongMethod):
    """One network trained on one task after another with no protection at all; old heads stay as they were.

    The control without which "nothing was forgotten" means nothing: on the same data it must forget.
    """

    name: ClassVar[str] = "sinmoall"
    exact: ClassVar[bool] = False

    def learn_base(self, problem: BaseProblem) -> LifelongState:
        return learn_plain_base(self.name, problem)

    def learn_task(self, state: LifelongState, problem: TaskProblem) -> LifelongState:
        encoder = build_encoder(state.encoder)

        def view_of(tensors: Tensors, _: object) -> View:
            weights, head = subset("encoder", tensors), head_in(tensors, problem.name)
            return View(encoder, weights, head, problem.n_items, pooling=pooling_of(problem))

        start = named("encoder", state.group("encoder")) | fresh_head(problem, bias=True)
        result = fit(problem, start, view_of, "train", problem.config.task)
        return state.replaced(result.parameters, task=record_of(problem, {"train": result.report()}))

    def give_back(
        self, state: LifelongState, problem: TaskProblem, tensors: Mapping[str, Tensor], record: TaskRecord
    ) -> LifelongState:
        """The control gives nothing back: what the task did to the network stays."""
        return state.replaced(tensors, task=record)

    def deep_view(self, state: LifelongState, task_name: str) -> View:
        encoder, weights = build_encoder(state.encoder), state.group("encoder")
        reading = base_reading(encoder) if state.position(task_name) == 0 else "items"
        pooling = learnt_pooling(state.task(task_name))
        return View(encoder, weights, state.head(task_name), state.n_items, reading=reading, pooling=pooling)
