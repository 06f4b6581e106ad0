"""PeterRec (Yuan et al., SIGIR 2020): a frozen pre-trained backbone, small patches and a head for each task.

Paper and code: only the patches (``patches``), the head and the second norm of each block are trained; a later
task reads at a task token, [x, TCL] or, seeing both sides, [TCL, x, TCL] with the first and last state summed.
r = 8 is the paper's (0.16 % of the parameters). Decided: the norms are frozen by default, and are a task's own
copy otherwise (written back, they would change T1); no sampled metric; the loss is the common one (released: one
negative and BCE, see ``ObjectiveConfig.loss``); classes read the mean of all states. Ours: the frozen item table has
a small patch, too (``item_rank``), without which a linear model on the items reads classes better. Tasks are a star
around T1: their order does not matter, each can be taken out, and none helps another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from imsr_core.encoders.adapter import Adapter
from imsr_core.encoders.build import build_encoder
from imsr_core.encoders.protocol import ITEM_TABLE, Encoder
from imsr_core.encoders.tokens import FIRST_ITEM
from imsr_core.errors import CheckpointError
from imsr_core.lifelong.backbone import (
    adds_nothing,
    base_view,
    first_state,
    fresh_base,
    fresh_head,
    fresh_token,
    learn_plain_base,
    on_device,
    pooling_of,
    record_of,
    task_reading,
)
from imsr_core.lifelong.fitting import fit
from imsr_core.lifelong.growing import first_open_row, merged_table, open_rows
from imsr_core.lifelong.methods.patches import (
    initial_item_patch,
    initial_patches,
    item_patch_in,
    patched_sites,
    patches_in,
)
from imsr_core.lifelong.pooling import learnt_pooling
from imsr_core.lifelong.problems import BaseProblem, TaskProblem
from imsr_core.lifelong.protocol import LifelongMethod
from imsr_core.lifelong.seeds import phase_seed
from imsr_core.lifelong.state import LifelongState, fingerprint, head_in, named, subset
from imsr_core.lifelong.tasks import BASE_TASK
from imsr_core.lifelong.training import Tensors
from imsr_core.lifelong.view import Pooled, View


class PeterRec(LifelongMethod):
    """Patches in a frozen backbone."""

    name: ClassVar[str] = "peterrec"
    star: ClassVar[bool] = True

    def share_of(self, state: LifelongState, task_name: str) -> float | None:
        return None if task_name == BASE_TASK else parameter_share(state, task_name)["share"]

    def learn_base(self, problem: BaseProblem) -> LifelongState:
        return learn_plain_base(self.name, problem)

    def learn_task(self, state: LifelongState, problem: TaskProblem) -> LifelongState:
        check_base(state)
        config = problem.config.peterrec
        start = self.fresh_task(state, problem) | open_rows(state)
        facts = {"insertion": config.insertion, "reading": task_reading(config.token), "base_hash": base_hash(state)}
        pooling = pooling_of(problem)
        encoder = build_encoder(state.encoder)
        result = fit(
            problem,
            start,
            lambda tensors, _: _task_view(encoder, state, tensors, problem.name, problem.n_items, facts, pooling),
            "train",
            problem.config.task,
        )
        record = record_of(problem, {"train": result.report()}, **facts)
        if adds_nothing(problem, result.parameters):
            return self.give_back(state, problem, result.parameters, record)
        learnt = {n: t for n, t in result.parameters.items() if n != "rows"} | merged_table(state, result.parameters)
        return state.replaced(learnt, task=record)

    def deep_view(self, state: LifelongState, task_name: str) -> View:
        record = state.task(task_name)
        if state.position(task_name) == 0:
            return base_view(state, task_name)
        encoder = build_encoder(state.encoder)
        pooling = learnt_pooling(record)
        return _task_view(encoder, state, state.tensors, task_name, record.n_items, record.details, pooling)

    def fresh_task(self, state: LifelongState, problem: TaskProblem) -> Tensors:
        """The trainable set: patches, head and, where configured, norms and token."""
        config, task = problem.config.peterrec, problem.name
        encoder = build_encoder(state.encoder)
        sites = patched_sites(config.insertion, encoder.sites)
        seed = phase_seed(problem.seed, task, "initial patches")
        patches = initial_patches(sites, problem.dim, config.reduction, seed)
        patches |= initial_item_patch(state.n_items, problem.dim, config.item_rank, seed)
        norms = {n: state.tensors[f"encoder/{n}"] for n in encoder.second_norms()} if config.train_norms else {}
        return {
            **on_device(named(f"patch/{task}", patches), problem),
            **named(f"norm/{task}", norms),
            **fresh_head(problem, bias=False),
            **fresh_token(problem, config.token),
        }


class PeterZero(PeterRec):
    """Control: PeterRec's architecture on a random backbone, that is without pre-training; T1 is not learnt."""

    name: ClassVar[str] = "peterzero"

    def learn_base(self, problem: BaseProblem) -> LifelongState:
        return first_state(self.name, problem, record_of(problem, {}), fresh_base(problem))


def base_hash(state: LifelongState) -> str:
    """sha256 over the pre-trained backbone; rows of items that came after T1 are not part of it."""
    weights = dict(sorted(state.group("encoder").items()))
    weights[ITEM_TABLE] = weights[ITEM_TABLE][: FIRST_ITEM + state.task(BASE_TASK).n_items]
    return fingerprint(weights.values())


def check_base(state: LifelongState) -> None:
    """Refuse a version whose patches were trained in another backbone than it holds.

    Raises:
        CheckpointError: naming the first such task.
    """
    current = base_hash(state)
    for task in state.tasks[1:]:
        if task.details["base_hash"] != current:
            raise CheckpointError(
                f"the patches of task {task.name} belong to another backbone", hint="learn the task on this one again"
            )


def parameter_share(state: LifelongState, task_name: str) -> dict[str, float]:
    """What a task costs: numbers of parameters; the share of the backbone that patches and wide part are."""
    count = {
        part: float(sum(t.numel() for t in state.group(f"{part}/{task_name}").values()))
        for part in ("patch", "norm", "head", "wide")
    }
    token = state.tensors.get(f"token/{task_name}")
    backbone = float(sum(t.numel() for t in state.group("encoder").values()))
    own = 0.0 if token is None else float(token.numel())
    return {**count, "token": own, "backbone": backbone, "share": (count["patch"] + count["wide"]) / backbone}


def _task_view(
    encoder: Encoder,
    state: LifelongState,
    tensors: Mapping[str, Tensor],
    task: str,
    n_items: int,
    facts: Mapping[str, Any],
    pooling: Pooled,
) -> View:
    """A later task: the version's frozen backbone, with the task's own tensors taken from ``tensors``."""
    own = subset(f"patch/{task}", tensors)
    adapter = Adapter(
        token=tensors.get(f"token/{task}"),
        new_rows=tensors.get("rows"),
        first_new=first_open_row(state),
        items=item_patch_in(own),
        patches=patches_in(own, facts["insertion"]),
    )
    weights = {**state.group("encoder"), **subset(f"norm/{task}", tensors)}
    return View(encoder, weights, head_in(tensors, task), n_items, adapter, facts["reading"], pooling)
