"""The ways to learn all tasks that `benchmark_lifelong.py` compares: the main runs, and one arm for each question."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from lifelong_worlds import WORLDS, World, few_labels, junk_task, last_items

from imsr_core.encoders.config import EncoderConfig
from imsr_core.lifelong.config import (
    ConureConfig,
    LifelongConfig,
    ObjectiveConfig,
    PeterRecConfig,
    PhaseConfig,
    SplitConfig,
    TeraconConfig,
)
from imsr_core.lifelong.tasks import TaskData

#: T1 of these is the same: an ordinary encoder, every weight trained.
PLAIN = ("sinmo", "finesmax", "finelast", "fineall", "peterrec", "mtl", "sinmoall")
METHODS = ("dnn", *PLAIN, "peterzero", "conure", "teracon")
#: Most recent items of a user in the study "cold users".
COLD = 3
#: Share of the training users who have a label in the studies with few labels.
FEW = 0.2
#: Sections of the configuration that say how long something is learnt.
PHASES = ("pretrain", "task", "retrain")


@dataclass(frozen=True)
class Arm:
    """One way to learn the tasks; ``study`` is "main" or the question that it answers.

    ``changes`` are sections of the configuration (or of its encoder, ``encoder``) by name; ``worlds`` where it
    is asked.
    """

    study: str
    method: str
    changes: dict[str, Any] = field(default_factory=dict)
    worlds: tuple[str, ...] = tuple(WORLDS)


FILMS, CLASSES = ("movietweetings",), ("completejourney", "ml-100k")
LATER_ITEMS = ("movietweetings", "completejourney")
ARMS = (
    *(Arm("main", method) for method in METHODS),
    # Conure's Figure 2: how much of T1's network can be pruned
    *(Arm(f"pruned {p:.0%}", "conure", {"conure": ConureConfig(pruning_rate=p)}, FILMS) for p in (0.3, 0.5, 0.9, 0.97)),
    # Table 3: what T2 does for T3; Table 4: the order; Table 5: the item table pruned too; Table 6: a Transformer
    Arm("T3 without T2", "conure", worlds=FILMS),
    Arm("T3 of few users", "conure", worlds=FILMS),
    Arm("T3 of few users without T2", "conure", worlds=FILMS),
    *(Arm(order, method) for order in ("order reversed", "order rotated") for method in ("conure", "teracon")),
    Arm("items pruned too", "conure", {"conure": ConureConfig(prune_items=True)}),
    *(Arm("Transformer", method, {"encoder": {"name": "sasrec"}}, FILMS) for method in ("sinmo", "fineall", "conure")),
    # PeterRec: where the patch stands, and a backbone that sees both sides
    *(
        Arm(f"patch {kind}", "peterrec", {"peterrec": PeterRecConfig(insertion=kind)})
        for kind in ("serial-1", "parallel")
    ),
    *(
        Arm("non-causal", method, {"encoder": {"name": "grec"}}, FILMS)
        for method in ("finesmax", "finelast", "fineall", "peterrec", "peterzero")
    ),
    # classes without the linear model beside the encoder, and what the encoder reads of a user then: the default is
    # sum / sqrt(n L) of four windows
    *(
        Arm("no wide part", method, {"objective": ObjectiveConfig(wide=0)}, CLASSES)
        for method in ("sinmo", "fineall", "peterrec", "conure", "teracon")
    ),
    *(
        Arm(
            f"read as {study}",
            method,
            {"objective": ObjectiveConfig(pooling=pooling, windows=windows, wide=0)},
            CLASSES,
        )
        for study, pooling, windows in (("last state", "last", 1), ("mean of 1", "mean", 1), ("mean of 4", "mean", 4))
        for method in ("peterrec", "fineall")
    ),
    *(Arm("cold users", method) for method in ("sinmo", "fineall", "peterrec", "conure")),
    *(Arm("junk in the midst", method, worlds=LATER_ITEMS) for method in ("conure", "teracon", "sinmoall")),
    # TERACON: how it holds the past while its network moves, and that it moves for every task
    *(
        Arm(study, "teracon", {"teracon": TeraconConfig(**{"least_gain": 0.0} | changes)})
        for study, changes in (
            ("always moves", {}),
            ("held at the ends", {"held_places": 0}),
            ("own masks only", {"relations": False}),
            ("relations carried", {"carry_relations": True}),
            ("20 users distilled", {"min_sampled": 20}),
            ("nothing distilled", {"distillation": 0.0}),
            ("alpha 5", {"distillation": 5.0}),
            ("alpha 160", {"distillation": 160.0}),
            ("scores distilled", {"retention": "mse"}),
            ("the papers' alpha", {"distillation": 0.7, "retention": "mse", "held_places": 0}),
        )
    ),
)


def configuration(
    seed: int,
    arm: Arm,
    device: str = "cpu",
    smoke: bool = False,
    items_alone: bool = False,
    served: bool = False,
) -> LifelongConfig:
    """The defaults with a smaller encoder, and T1 without its counts: it is the encoder that tasks share and forget.

    Args:
        smoke: each phase is over after an epoch.
        items_alone: tasks about items have the encoder alone, as in the papers.
        served: T1 has its counts beside the encoder.
    """
    encoder = EncoderConfig(dim=64, length=30, dilations=(1, 4), **arm.changes.get("encoder", {}))
    config = LifelongConfig(encoder=encoder, split=SplitConfig(seed=seed, train=0.65, validation=0.1), device=device)
    config = replace(config, **{name: value for name, value in arm.changes.items() if name != "encoder"})
    config = replace(config, objective=replace(config.objective, wide_items=not items_alone, wide_next=served))
    brief = {phase: replace(_phase(config, phase), epochs=1, min_epochs=1) for phase in PHASES}
    return replace(config, **brief) if smoke else config


def _phase(config: LifelongConfig, name: str) -> PhaseConfig:
    phase: PhaseConfig = getattr(config, name)
    return phase


def tasks_of(world: World, study: str, seed: int) -> list[TaskData]:
    """The tasks after T1 in the order of an arm, and as it has them."""
    tasks = list(world.tasks)
    if study == "order reversed":
        return tasks[::-1]
    if study == "order rotated":
        return [*tasks[1:], tasks[0]]
    if study.startswith("junk"):
        place = min(2, len(tasks) - 1)
        return [*tasks[:place], junk_task(world, seed), *tasks[place:]]
    if study == "cold users":
        return [replace(task, sequences=last_items(task.sequences, COLD)) for task in tasks]
    if study.startswith("T3"):
        if "few" in study:
            tasks[1] = few_labels(tasks[1], FEW, SplitConfig(seed=seed, train=0.65, validation=0.1))
        return tasks[1:2] if "without T2" in study else tasks[:2]
    return [] if study.startswith("pruned") else tasks
