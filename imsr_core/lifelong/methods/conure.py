"""Conure (Yuan et al., "One Person, One Model, One World", SIGIR 2021): one backbone shared out among tasks.

For task t, per weight matrix W with owners o (0 = free):

    A  train    forward with all of W; only free weights and the new head move     -> score "Conure-"
       prune    the largest |W| of the free weights become the task's, o = t
    B  retrain  forward with W where 1 <= o <= t; only weights with o = t and the head move  -> score "Conure"

Serving task j in any later version: W where 1 <= o <= j, head j. So nothing of a later task is ever multiplied in.

Paper: the three steps, one-shot magnitude pruning for each matrix by itself, the next task starts from the values
the last one left in the free weights. Code: item table, norms, biases and positions are trained with T1's phase A
and frozen then; no bias in later heads; rate 0.7 for every task. Decided: only free weights are ranked; a task
that cannot get its share is refused; frozen values are put back after every step; the best epoch on validation is
kept in both phases; biases are trained with T1 (released: fixed at 0); ``where`` in place of multiplication; a task
has a small patch of the frozen item table to itself (``item_rank``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from imsr_core.encoders.adapter import Adapter
from imsr_core.encoders.build import build_encoder
from imsr_core.encoders.protocol import ITEM_TABLE
from imsr_core.lifelong.backbone import (
    adds_nothing,
    base_reading,
    first_state,
    fresh_base,
    fresh_head,
    fresh_token,
    on_device,
    pooling_of,
    record_of,
    silent_version,
    task_reading,
)
from imsr_core.lifelong.evaluation import Score, score
from imsr_core.lifelong.fitting import fit
from imsr_core.lifelong.growing import first_open_row, merged_table, open_rows
from imsr_core.lifelong.methods.ownership import check_capacity, claim, ledger, visible, wanted_of
from imsr_core.lifelong.methods.patches import initial_item_patch, item_patch_in
from imsr_core.lifelong.pooling import learnt_pooling
from imsr_core.lifelong.problems import BaseProblem, TaskProblem
from imsr_core.lifelong.protocol import LifelongMethod
from imsr_core.lifelong.seeds import phase_seed
from imsr_core.lifelong.state import LifelongState, TaskRecord, head_in, named, subset
from imsr_core.lifelong.training import PhaseResult, Tensors
from imsr_core.lifelong.view import Reading, View

Owners = dict[str, Tensor]
"""Prunable parameter -> uint8 owner of each weight."""


def movable_weights(owners: Owners, number: int) -> Tensors:
    """Which weights may move: the free ones in phase A (number 0), task ``number``'s own in phase B."""
    return {f"encoder/{name}": owner == number for name, owner in owners.items()}


class Conure(LifelongMethod):
    """Train, prune, retrain, freeze."""

    name: ClassVar[str] = "conure"

    def left_after(self, state: LifelongState) -> dict[str, float]:
        return {str(row["task"]): float(row["free"]) for row in capacity(state)}

    def learn_base(self, problem: BaseProblem) -> LifelongState:
        encoder, config = build_encoder(problem.encoder), problem.config
        start, rates = fresh_base(problem), [config.conure.pruning_rate]
        names = encoder.prunable() + ((ITEM_TABLE,) if config.conure.prune_items else ())
        owners = {n: torch.zeros_like(start[f"encoder/{n}"], dtype=torch.uint8) for n in names}

        def view_of(tensors: Tensors, _: object) -> View:
            weights, head = subset("encoder", tensors), head_in(tensors, problem.name)
            return View(encoder, weights, head, problem.n_items, reading=base_reading(encoder))

        dense = fit(problem, start, view_of, "train", config.pretrain)
        owners = _prune(dense.parameters, owners, 1, rates)
        pruned = score(view_of(_masked(dense.parameters, owners, 1), None), problem.validation, problem.kind)
        moving = {n: t for n, t in dense.parameters.items() if n.startswith("head/") or _prunable(n, owners)}
        sparse = fit(
            problem,
            moving,
            lambda tensors, step: view_of(_masked({**dense.parameters, **tensors}, owners, 1), step),
            "retrain",
            config.retrain,
            movable=movable_weights(owners, 1),
        )
        phases = _phases(dense, pruned, sparse)
        record = record_of(problem, phases, **_facts(owners, 1, rates, base_reading(encoder)))
        tensors = {**dense.parameters, **sparse.parameters, **named("owner", owners)}
        return first_state(self.name, problem, record, tensors)

    def learn_task(self, state: LifelongState, problem: TaskProblem) -> LifelongState:
        config, number = problem.config.conure, len(state.tasks) + 1
        rates = [*(task.details["pruning_rate"] for task in state.tasks), config.pruning_rate]
        owners: Owners = state.group("owner")
        check_capacity(owners, rates)
        encoder, reading = build_encoder(state.encoder), task_reading(config.token)
        frozen = named("encoder", state.group("encoder"))
        rows = {} if ITEM_TABLE in owners else open_rows(state)
        start = {n: t for n, t in frozen.items() if _prunable(n, owners)}
        start |= fresh_head(problem, bias=False) | fresh_token(problem, config.token) | rows
        seed = phase_seed(problem.seed, problem.name, "initial patches")
        items = initial_item_patch(state.n_items, problem.dim, config.item_rank, seed)
        start |= on_device(named(f"patch/{problem.name}", items), problem)
        first_new = first_open_row(state)

        def view_of(tensors: Tensors, weights: Mapping[str, Tensor]) -> View:
            items = item_patch_in(subset(f"patch/{problem.name}", tensors))
            adapter = Adapter(tensors.get(f"token/{problem.name}"), tensors.get("rows"), first_new, items)
            head = head_in(tensors, problem.name)
            return View(
                encoder, subset("encoder", weights), head, problem.n_items, adapter, reading, pooling_of(problem)
            )

        dense = fit(
            problem,
            start,
            lambda tensors, _: view_of(tensors, {**frozen, **tensors}),
            "train",
            problem.config.task,
            movable=movable_weights(owners, 0),
        )
        if adds_nothing(problem, dense.parameters):  # nothing to prune, nothing to retrain
            phases = _phases(dense, dense.score, replace(dense, best_epoch=0, epochs=0))
            return self.give_back(state, problem, dense.parameters, record_of(problem, phases, reading=reading))
        owners = _prune(dense.parameters, owners, number, rates)

        def pruned_view(tensors: Tensors) -> View:
            return view_of(tensors, _masked({**frozen, **tensors}, owners, number))

        pruned = score(problem.served(pruned_view(dense.parameters)), problem.validation, problem.kind)
        sparse = fit(
            problem,
            dense.parameters,
            lambda tensors, _: pruned_view(tensors),
            "retrain",
            problem.config.retrain,
            movable=movable_weights(owners, number),
        )
        phases = _phases(dense, pruned, sparse)
        record = record_of(problem, phases, **_facts(owners, number, rates, reading))
        if adds_nothing(problem, sparse.parameters):
            return self.give_back(state, problem, sparse.parameters, record)
        learnt = {n: t for n, t in sparse.parameters.items() if n != "rows"}
        learnt |= merged_table(state, sparse.parameters) | named("owner", owners)
        return state.replaced(learnt, task=record)

    def give_back(
        self, state: LifelongState, problem: TaskProblem, tensors: Mapping[str, Tensor], record: TaskRecord
    ) -> LifelongState:
        """All that the task might have had is given back."""
        facts = _facts(state.group("owner"), len(state.tasks) + 1, [1.0], record.details["reading"])
        return silent_version(state, problem, tensors, replace(record, details=record.details | facts))

    def deep_view(self, state: LifelongState, task_name: str) -> View:
        record, number = state.task(task_name), state.position(task_name) + 1
        encoder = build_encoder(state.encoder)
        weights = _masked(state.tensors, state.group("owner"), number)
        items = item_patch_in(state.group(f"patch/{task_name}"))
        adapter = Adapter(token=state.tensors.get(f"token/{task_name}"), items=items)
        return View(
            encoder,
            subset("encoder", weights),
            head_in(weights, task_name),
            record.n_items,
            adapter,
            record.details["reading"],
            learnt_pooling(record),
        )


def capacity(state: LifelongState) -> list[dict[str, float | str]]:
    """The ledger: one row a task with the weights it keeps, what was free after it, and both its scores."""
    rows: list[dict[str, float | str]] = []
    for task in state.tasks:
        tensors = task.details["capacity"].values()
        size = sum(t["size"] for t in tensors)
        rows.append(
            {
                "task": task.name,
                "kept": sum(t["kept"] for t in tensors) / size,
                "free": sum(t["free"] for t in tensors) / size,
                "before_pruning": task.phases["train"]["metric"],
                "after_retraining": task.phases["retrain"]["metric"],
            }
        )
    return rows


def _prunable(name: str, owners: Owners) -> bool:
    return name.removeprefix("encoder/") in owners


def _masked(tensors: Mapping[str, Tensor], owners: Owners, number: int) -> Tensors:
    """The tensors with every prunable weight as task ``number`` uses it."""
    masked = {f"encoder/{n}": visible(tensors[f"encoder/{n}"], owner, number) for n, owner in owners.items()}
    return {**tensors, **masked}


def _prune(tensors: Mapping[str, Tensor], owners: Owners, number: int, rates: list[float]) -> Owners:
    return {n: claim(tensors[f"encoder/{n}"], owner, number, wanted_of(owner, rates)) for n, owner in owners.items()}


def _phases(dense: PhaseResult, pruned: Score, sparse: PhaseResult) -> dict[str, dict[str, float]]:
    """What a version records: before pruning ("Conure-"), right after it, and retrained ("Conure")."""
    between = {"metric": pruned.metric, "log_likelihood": pruned.likelihood, "best_epoch": 0, "epochs": 0}
    return {"train": dense.report(), "pruned": between, "retrain": sparse.report()}


def _facts(owners: Owners, number: int, rates: list[float], reading: Reading) -> dict[str, object]:
    return {"pruning_rate": rates[-1], "capacity": ledger(owners, number), "reading": reading}
