"""SinMoAll: one network trained on one task after another with no protection at all.

The control without which "nothing was forgotten" means nothing: on the same data it must forget.
"""

from __future__ import annotations

from typing import ClassVar

from imsr_core.encoders.build import build_encoder
from imsr_core.lifelong.backbone import base_reading, fresh_head, head_in, learn_plain_base, record_of
from imsr_core.lifelong.fitting import fit
from imsr_core.lifelong.problems import BaseProblem, TaskProblem
from imsr_core.lifelong.protocol import LifelongMethod
from imsr_core.lifelong.state import LifelongState, named, subset
from imsr_core.lifelong.training import Tensors
from imsr_core.lifelong.view import View


class SinMoAll(LifelongMethod):
    """The whole backbone moves with every task; old heads stay as they were."""

    name: ClassVar[str] = "sinmoall"
    exact: ClassVar[bool] = False

    def learn_base(self, problem: BaseProblem) -> LifelongState:
        return learn_plain_base(self.name, problem)

    def learn_task(self, state: LifelongState, problem: TaskProblem) -> LifelongState:
        encoder = build_encoder(state.encoder)

        def view_of(tensors: Tensors, _: object) -> View:
            return View(encoder, subset("encoder", tensors), head_in(tensors, problem.name), problem.n_items)

        start = named("encoder", state.group("encoder")) | fresh_head(problem, bias=True)
        result = fit(problem, start, view_of, "train", problem.config.task)
        return state.replaced(result.parameters, task=record_of(problem, {"train": result.report()}))

    def view(self, state: LifelongState, task_name: str) -> View:
        encoder, weights = build_encoder(state.encoder), state.group("encoder")
        reading = base_reading(encoder) if state.position(task_name) == 0 else "items"
        return View(encoder, weights, state.head(task_name), state.n_items, reading=reading)
