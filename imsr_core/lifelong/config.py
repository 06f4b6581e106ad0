"""Every hyper-parameter of the `users` line, with its default, its meaning and where it comes from.

The defaults are the decisions of a compact re-implementation; a default that is not the papers' says so.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from imsr_core.encoders.config import EncoderConfig
from imsr_core.errors import ConfigError
from imsr_core.fields import Section, documented

TokenMode = Literal["none", "fixed", "trained"]
Insertion = Literal["serial-1", "serial-2", "parallel"]
C = TypeVar("C")


@dataclass(frozen=True)
class PhaseConfig(Section):
    """One training phase. The parameters of the best epoch on validation users are kept, never the last.

    Best is the highest log-likelihood of the held-out labels: a metric such as accuracy sits on the majority's plateau
    long after the model has begun to learn, and settles ties only.
    """

    epochs: int = documented(200, "epochs at most", at_least=1)
    min_epochs: int = documented(
        5, "epochs at least: a task may sit on a plateau before it climbs (PeterRec)", at_least=1
    )
    patience: int = documented(
        3, "stop after this many epochs without a better log-likelihood on validation users ...", at_least=1
    )
    patience_steps: int = documented(
        200, "... and this many steps: an epoch of few users is over in a moment", at_least=1
    )
    batch_size: int = documented(64, "examples in a step (papers: 32 for T1, 512 or 1024 for a task)", at_least=1)
    learning_rate: float = documented(1e-3, "step size (papers: 1e-3 for T1, 1e-4 or 1e-3 for a task)", above=0)
    optimizer: Literal["adam", "adamw", "sgd"] = documented("adamw", "adam (papers), adamw or sgd")
    weight_decay: float = documented(
        0.0, "weight decay (papers: 0) of matrices; frozen weights and a large catalogue's rows have none", at_least=0
    )
    momentum: float = documented(0.0, "momentum of sgd", at_least=0, below=1)


@dataclass(frozen=True)
class PretrainConfig(PhaseConfig):
    """T1: every window of a user's history is an example."""

    batch_size: int = documented(32, "windows in a step, each of L next items (papers: 32)", at_least=1)
    learning_rate: float = documented(2e-3, "step size (papers: 1e-3)", above=0)
    weight_decay: float = documented(
        0.5, "weight decay (papers: 0) of matrices; a large catalogue's rows have none", at_least=0
    )


@dataclass(frozen=True)
class TaskConfig(PhaseConfig):
    """A later task: every label of a user is an example."""

    learning_rate: float = documented(2e-3, "step size (papers: 1e-3 or 1e-4)", above=0)
    weight_decay: float = documented(0.1, "weight decay (papers: 0) of matrices; frozen weights have none", at_least=0)


@dataclass(frozen=True)
class RetrainConfig(PhaseConfig):
    """Conure's second phase: what is left after pruning is trained again."""

    learning_rate: float = documented(1e-3, "step size (papers: 1e-3)", above=0)


@dataclass(frozen=True)
class ObjectiveConfig(Section):
    """How a head is trained. Evaluation always ranks all labels."""

    loss: Literal["softmax", "bpr"] = documented(
        "softmax", "softmax = cross-entropy; bpr = softplus(negative - positive), one uniform negative"
    )
    tied: bool = documented(
        True,
        "T1's output weights are the item table's rows, up to full_softmax_limit items (papers: weights of their own)",
    )
    full_softmax_limit: int = documented(20_000, "up to this many labels the softmax runs over all of them", at_least=0)
    negatives: int = documented(
        1_000, "above it, uniform negatives shared by the batch (papers: 20 % of all items)", at_least=1
    )
    head_l2: float = documented(
        0.0, "factor of |head|^2 / 2, divided by the batch (papers' code: 0.02 undivided)", at_least=0
    )
    unknown_rate: float = documented(
        0.01, "share of T1's inputs replaced by UNKNOWN, so that its row means something", at_least=0, below=1
    )
    mask_rate: float = documented(0.3, "share of items hidden in masked pre-training (GRec: 0.3)", above=0, below=1)
    pooling: Literal["auto", "last", "mean", "root"] = documented(
        "auto",
        "what a task reads of a user: last = the last state (papers), mean = the mean of all n states, root = their "
        "sum / sqrt(n L), auto = root for classes, which say who the user is, last for items: what comes next",
    )
    windows: int = documented(
        4,
        "where all states are read, they are those of this many windows of L most recent items (papers: one)",
        at_least=1,
        at_most=10_000,
    )
    wide: int = documented(
        1_000,
        "beside the encoder a linear model of this many most recent items (papers: none): of classes the "
        "encoder learns what it leaves over, items each learns alone and both are weighed; 0 = none",
        at_least=0,
        at_most=10_000,
    )
    wide_items: bool = documented(True, "tasks about items have it, too, where they have up to 2,000 labels")
    wide_next: bool = documented(
        True, "T1 has one of counts: whether the user had an item, how often, and what followed the last two in others"
    )


@dataclass(frozen=True)
class SplitConfig(Section):
    """One split by user for all tasks: nobody trains one task and tests another."""

    seed: int = documented(0, "seed of the hash that assigns users; fixed with the first task")
    train: float = documented(0.80, "share of users who train (papers: 0.80)", above=0, below=1)
    validation: float = documented(0.05, "share of users who select (papers: 0.05); the rest tests", above=0, below=1)

    def clashes(self) -> Iterator[tuple[str, str]]:
        if self.train + self.validation >= 1:
            yield "validation", f"below 1 - train = {1 - self.train:g}"


@dataclass(frozen=True)
class ConureConfig(Section):
    """Conure (SIGIR 2021): share out one backbone's weights among tasks."""

    pruning_rate: float = documented(
        0.7, "share of the free weights given back after a task (released: 0.7)", at_least=0, below=1
    )
    prune_items: bool = documented(False, "also prune the item table (the paper's Table 5)")
    item_rank: int = documented(
        4,
        "numbers for each item that a task may add to the frozen item table, as a product of this rank (paper: 0)",
        at_least=0,
        at_most=4096,
    )
    token: TokenMode = documented(
        "none", "read a task at the last item (figure: none) or at a task token (code: fixed)"
    )


@dataclass(frozen=True)
class PeterRecConfig(Section):
    """PeterRec (SIGIR 2020): small patches for each task in a frozen backbone."""

    insertion: Insertion = documented("serial-2", "after both layers of a block, after the second, or beside both")
    reduction: int = documented(
        8, "r: a patch's bottleneck has d / r channels (paper: 8; 4 in the later demo)", at_least=1, at_most=4096
    )
    item_rank: int = documented(
        4,
        "numbers for each item that a task may add to the frozen item table, as a product of this rank (papers: 0)",
        at_least=0,
        at_most=4096,
    )
    train_norms: bool = documented(False, "give each task its own copy of every block's second norm (papers: yes)")
    token: TokenMode = documented(
        "fixed", "what stands for the task token: fixed = a random row (papers), trained, none"
    )


@dataclass(frozen=True)
class TeraconConfig(Section):
    """TERACON (KDD 2023): task masks that know each other, and distillation of the past."""

    distillation: float = documented(
        40.0, "alpha, weight of knowledge retention (paper: 0.7, with which T1 fades); 0 = no protection", at_least=0
    )
    retention: Literal["kl", "mse"] = documented(
        "kl", "what is held of a past task: kl = the probabilities of its labels, mse = its raw scores (paper)"
    )
    s_max: float = documented(50.0, "steepest mask; s runs from 1 / s_max to s_max in each epoch (paper: 50)", above=1)
    clamp: float = documented(6.0, "bound on task embeddings (released: 6)", above=0)
    gate_factor: float = documented(6.0, "c in rho = 1 - sigmoid(c cos) (released: 6)", above=0)
    start_rate: float = documented(
        0.9, "rho of every past task before the first step (released: 0.9)", above=0, at_most=1
    )
    min_sampled: int = documented(
        1024,
        "users of a batch distilled for each past task, at least: all (released: rho of them, maybe none; DITTO: 20)",
        at_least=1,
    )
    held_places: int = documented(
        2_048,
        "places in a batch's histories, drawn anew each step, at which T1 and what else reads the last state is held; "
        "0 = where each history ends (paper), with which T1 fades at all others",
        at_least=0,
    )
    least_gain: float = documented(
        1.0,
        "the network moves for a new task that gains more than so many standard errors of held-out log-likelihood by "
        "it; for others it keeps still, and they have a head and a mask; 0 = it always moves (paper)",
        at_least=0,
    )
    distilled_labels: int = documented(
        20_000, "labels compared in one distillation; above it a random subset a step", at_least=1
    )
    relations: bool = documented(True, "masks that know the other tasks (paper); false = each task's own, an ablation")
    carry_relations: bool = documented(False, "keep the old tasks' relation weights, new inputs at 0 (not the paper)")


@dataclass(frozen=True)
class LifelongConfig:
    """The whole configuration of the `users` line; the part that serving needs is stored in the version."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    pretrain: PhaseConfig = field(default_factory=PretrainConfig)
    task: PhaseConfig = field(default_factory=TaskConfig)
    retrain: PhaseConfig = field(default_factory=RetrainConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    conure: ConureConfig = field(default_factory=ConureConfig)
    peterrec: PeterRecConfig = field(default_factory=PeterRecConfig)
    teracon: TeraconConfig = field(default_factory=TeraconConfig)
    finetuned_sites: int = documented(2, "layers that FineLast trains, counted from the end (2 = the last block)")
    device: str = documented("cpu", "where training and serving run: cpu, cuda, ...")


def to_json(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values (tuples become lists)."""
    plain = dataclasses.asdict(config)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}


def from_json(kind: type[C], data: dict[str, Any]) -> C:
    """The inverse of ``to_json``.

    Raises:
        ConfigError: an unknown key or a value out of range.
    """
    hints = typing.get_type_hints(kind)
    unknown = set(data) - set(hints)
    if unknown:
        raise ConfigError(f"{kind.__name__}: unknown keys {sorted(unknown)}", hint="was it written by a newer version?")
    values = {key: _restore(hints[key], value) for key, value in data.items()}
    return kind(**values)


def _restore(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_json(typing.cast(type, hint), value)
    return tuple(value) if isinstance(value, list) else value
