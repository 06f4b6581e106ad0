"""Every hyper-parameter of the `interests` line, with its default, its meaning and its source.

Paper = IMSR (Wang and Shen, ICDE 2023). A default that is not the paper's says so, and says why.
The dataclasses are frozen and validate themselves once, when they are made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from imsr_core.fields import documented, require

ExtractorName = Literal["comirec-dr", "comirec-sa", "mind"]
RetainerForm = Literal["listwise", "bce", "euclidean", "kd1", "kd2", "kd3"]
StrategyName = Literal["imsr", "elastic", "fine_tune", "sml", "ader"]

#: Prior mass m of a stored interest where the user names none (see ``ModelConfig.prior_mass``).
DEFAULT_PRIOR_MASS: dict[str, float] = {"comirec-dr": 2.0, "mind": 2.0, "comirec-sa": 4.0}


@dataclass(frozen=True)
class ModelConfig:
    """The multi-interest model: what an interest is and how it is read from items."""

    extractor: ExtractorName = documented("comirec-dr", "which multi-interest extractor reads interests from items")
    dim: int = documented(64, "d, length of item and interest vectors (paper: 64)")
    initial_interests: int = documented(4, "K_0, interests of a new user (paper: 4)")
    max_interests: int = documented(24, "cap on K_u, so that one user cannot grow for ever")
    history: int = documented(50, "n, most recent items of a user's span that are read at once")
    routing_iterations: int = documented(3, "iterations of dynamic routing (MIND, ComiRec-DR: 3)")
    prior_mass: float | None = documented(
        None,
        "m, how many items a stored interest weighs when it is updated; unset: 2 for routing, 4 for "
        "self-attention; 0 is the paper's literal extraction from the span alone",
    )
    normalize_items: bool = documented(True, "L2-normalise item vectors (the paper does not; worth it on real logs)")
    logit_scale: float = documented(12.0, "factor on inner products wherever they become logits (paper: 1)")
    label_attention: Literal["soft", "hard"] = documented(
        "soft", "label-aware attention: soft = softmax over interests (paper), hard = best interest only"
    )
    attention_units: int = documented(0, "d_a of ComiRec-SA; 0 means 4 d as ComiRec has it")

    def __post_init__(self) -> None:
        def check(ok: bool, key: str, wanted: str) -> None:
            require(ok, "model", key, getattr(self, key), wanted)

        check(self.extractor in get_args(ExtractorName), "extractor", f"one of {get_args(ExtractorName)}")
        check(self.dim >= 2, "dim", "at least 2")
        check(self.initial_interests >= 1, "initial_interests", "at least 1")
        check(self.max_interests >= self.initial_interests, "max_interests", "at least initial_interests")
        check(self.history >= 1, "history", "at least 1")
        check(self.routing_iterations >= 1, "routing_iterations", "at least 1")
        check(self.prior_mass is None or self.prior_mass >= 0, "prior_mass", "0 or more")
        check(self.logit_scale > 0, "logit_scale", "above 0")
        check(self.label_attention in ("soft", "hard"), "label_attention", "'soft' or 'hard'")
        check(self.attention_units >= 0, "attention_units", "0 or more")

    @property
    def mass(self) -> float:
        """The prior mass in force: the one that was set, or the extractor's default."""
        return DEFAULT_PRIOR_MASS[self.extractor] if self.prior_mass is None else self.prior_mass

    @property
    def query_units(self) -> int:
        """Length of the query that each interest owns: d_a for self-attention, else 0 (no query)."""
        if self.extractor != "comirec-sa":
            return 0
        return self.attention_units or 4 * self.dim


@dataclass(frozen=True)
class RetainerConfig:
    """EIR, the existing-interests retainer (paper, section IV-B): distil yesterday's interests."""

    enabled: bool = documented(True, "switch EIR on")
    weight: float = documented(0.03, "lambda_KD (paper: 1e-2 .. 1e-6, tuned); above 0.1 it harms")
    form: RetainerForm = documented(
        "listwise",
        "listwise = softmax over sampled items for each interest; bce = the paper's sigmoid cross entropy on "
        "the target alone; euclidean = the paper's DIR ablation; kd1, kd2, kd3 = a softmax over items for each "
        "interest, over interests for the target, over items for the user",
    )
    temperature: float = documented(1.0, "tau of the distilled logits")
    items: int = documented(100, "items that each listwise distillation ranks (the batch's first shared negatives)")
    interests: int = documented(
        1,
        "existing interests of each target's user that listwise and kd1 distil, drawn at random: an unbiased "
        "estimate of the sum over all, at a cost that does not grow with K (0: all of them)",
    )

    def __post_init__(self) -> None:
        require(self.weight >= 0, "retainer", "weight", self.weight, "0 or more")
        forms = get_args(RetainerForm)
        require(self.form in forms, "retainer", "form", self.form, f"one of {forms}")
        require(self.temperature > 0, "retainer", "temperature", self.temperature, "above 0")
        require(self.items >= 1, "retainer", "items", self.items, "at least 1")
        require(self.interests >= 0, "retainer", "interests", self.interests, "0 or more")


@dataclass(frozen=True)
class DetectorConfig:
    """NID, the new-interests detector (paper, section IV-C): who needs new interests this span."""

    enabled: bool = documented(True, "switch NID on; off: no user ever gets new interests")
    rule: Literal["quantile", "absolute"] = documented(
        "quantile",
        "quantile = c1 is a quantile of the span's users; absolute = c1 is a KL value as in the paper "
        "(its scale depends on logit_scale and K, so it does not carry from log to log)",
    )
    c1: float = documented(0.5, "a user's items are puzzling if their mean KL(uniform || p) is below this")
    min_items: int = documented(
        5,
        "with fewer known items in the span a user gets no new interests: one or two say nothing of a taste (paper: 1)",
    )
    new_interests: int = documented(3, "delta K, interests proposed when the detector fires (paper: 3)")
    new_scale: float = documented(0.3, "standard deviation of a new vector's start (paper: 1)")

    def __post_init__(self) -> None:
        require(self.rule in ("quantile", "absolute"), "detector", "rule", self.rule, "'quantile' or 'absolute'")
        bounded = self.rule == "absolute" or 0 <= self.c1 <= 1
        require(self.c1 >= 0 and bounded, "detector", "c1", self.c1, "0 or more, and at most 1 for a quantile")
        require(self.min_items >= 1, "detector", "min_items", self.min_items, "at least 1")
        require(self.new_interests >= 0, "detector", "new_interests", self.new_interests, "0 or more")
        require(self.new_scale > 0, "detector", "new_scale", self.new_scale, "above 0")


@dataclass(frozen=True)
class TrimmerConfig:
    """PIT, the projection-based interest trimmer (paper, section IV-D): what of the new is redundant."""

    enabled: bool = documented(True, "switch PIT on; off: every proposed interest stays, as it is")
    c2: float = documented(0.3, "a new interest whose orthogonal part is shorter than this is trimmed (paper: 0.3)")

    def __post_init__(self) -> None:
        require(self.c2 >= 0, "trimmer", "c2", self.c2, "0 or more (inf trims every new interest)")


@dataclass(frozen=True)
class TrainingConfig:
    """Optimisation: the loop is the same for every strategy."""

    strategy: StrategyName = documented("imsr", "how a version is made from the one before it and a span")
    seed: int = documented(0, "one seed for everything")
    batch_size: int = documented(128, "targets in a step (paper: 128)")
    base_epochs: int = documented(20, "epochs of pre-training at most (paper: 5 .. 50)")
    base_learning_rate: float = documented(0.003, "Adam's step size in pre-training")
    patience: int = documented(
        2, "pre-training stops after this many epochs without a better validation loss; 0 = never"
    )
    epochs: int = documented(4, "epochs over an incremental span")
    learning_rate: float = documented(0.002, "Adam's step size in an incremental span")
    targets_per_user: int = documented(20, "targets drawn from one user in one epoch at most; 0 = no limit")
    window: int = documented(5, "a target is drawn up to this many steps ahead of its history; 1 = the next item")
    negatives: int = documented(500, "negatives shared by a batch; 0 = full softmax over the catalogue")
    moments: Literal["carry", "reset"] = documented(
        "carry", "carry = Adam's moments of a row go on across spans; reset = each span starts them afresh"
    )

    def __post_init__(self) -> None:
        def check(ok: bool, key: str, wanted: str) -> None:
            require(ok, "training", key, getattr(self, key), wanted)

        check(self.strategy in get_args(StrategyName), "strategy", f"one of {get_args(StrategyName)}")
        check(0 <= self.seed < 2**32, "seed", "0 .. 2^32 - 1")
        for key in ("batch_size", "window"):
            check(getattr(self, key) >= 1, key, "at least 1")
        for key in ("base_epochs", "epochs", "patience", "targets_per_user", "negatives"):
            check(getattr(self, key) >= 0, key, "0 or more")
        for key in ("base_learning_rate", "learning_rate"):
            # beyond this a step overflows float32 inside the optimiser, before any check of ours
            check(0 < getattr(self, key) <= 1e30, key, "above 0 and at most 1e30")
        check(self.moments in ("carry", "reset"), "moments", "'carry' or 'reset'")


@dataclass(frozen=True)
class TrendConfig:
    """What is in fashion, as a part of an item's score (ours; see `imsr_core.trend`)."""

    enabled: bool = documented(True, "add the time-decayed popularity of items to their scores")
    weight: float | None = documented(
        None, "w of log popularity beside the model's logits; unset: the one that ranks each new span best"
    )

    def __post_init__(self) -> None:
        require(self.weight is None or 0 <= self.weight < 1e6, "trend", "weight", self.weight, "0 or more")


@dataclass(frozen=True)
class ElasticConfig:
    """What strategy `elastic` forgets (the paper's future work): interests that rest, and those beyond a budget."""

    idle_spans: int = documented(
        4, "an interest is forgotten after this many of its user's spans in which no item was nearest to it; 0 = never"
    )
    budget: int = documented(8, "interests that a user may keep; 0 = no limit")
    merge_cosine: float = documented(
        0.9, "over the budget, interests at least this similar are merged before the least active are dropped"
    )

    def __post_init__(self) -> None:
        require(self.idle_spans >= 0, "elastic", "idle_spans", self.idle_spans, "0 or more")
        require(self.budget >= 0, "elastic", "budget", self.budget, "0 or more")
        require(-1 <= self.merge_cosine <= 2, "elastic", "merge_cosine", self.merge_cosine, "-1 .. 2 (2 = never)")


@dataclass(frozen=True)
class SmlConfig:
    """Strategy `sml`: the transfer module between the old parameters and the newly trained ones (SIGIR 2020)."""

    kernel: Literal["5x5", "3x1"] = documented(
        "5x5", "filter over (versions, dimensions): 5x5 as in IMSR's comparison, 3x1 as in SML's own code"
    )
    filters: int = documented(2, "filters of the first convolution (SML: 10; IMSR's comparison: 2 .. 10)")
    mixed: int = documented(2, "filters of the 1x1 convolution behind it (SML: 5)")
    hidden: int = documented(40, "units of the MLP (SML: 512; IMSR's comparison: 10 .. 80)")
    epochs: int = documented(2, "passes over a span that teach the transfer, before the span itself is learnt")
    learning_rate: float = documented(0.001, "Adam's step size for the transfer (SML: 0.001)")
    decay: float = documented(1e-4, "lambda_2, L2 penalty on the transfer's parameters")
    pull: float = documented(1e-5, "lambda_1, L2 penalty on the newly trained rows of a batch")

    def __post_init__(self) -> None:
        require(self.kernel in ("5x5", "3x1"), "sml", "kernel", self.kernel, "'5x5' or '3x1'")
        for key in ("filters", "mixed", "hidden"):
            require(getattr(self, key) >= 1, "sml", key, getattr(self, key), "at least 1")
        require(self.epochs >= 0, "sml", "epochs", self.epochs, "0 or more")
        require(0 < self.learning_rate <= 1e30, "sml", "learning_rate", self.learning_rate, "above 0")
        for key in ("decay", "pull"):
            require(getattr(self, key) >= 0, "sml", key, getattr(self, key), "0 or more")


@dataclass(frozen=True)
class AderConfig:
    """Strategy `ader`: adaptively distilled replay of exemplars (RecSys 2020)."""

    pool: int = documented(2000, "N, exemplars that are kept at most (paper: 30,000)")
    cuts: int = documented(5, "sequences of a user and span that may become exemplars (IMSR's comparison: 5)")
    weight: float = documented(0.8, "lambda_0 of the distillation (paper: 0.8 and 1.0)")
    items: int = documented(50, "items beside the target whose logits an exemplar keeps (paper: all)")
    selection: Literal["herding", "random"] = documented("herding", "how exemplars are chosen (paper: herding)")

    def __post_init__(self) -> None:
        require(self.pool >= 0, "ader", "pool", self.pool, "0 or more")
        require(self.cuts >= 1, "ader", "cuts", self.cuts, "at least 1")
        require(self.weight >= 0, "ader", "weight", self.weight, "0 or more")
        require(self.items >= 1, "ader", "items", self.items, "at least 1")
        require(self.selection in ("herding", "random"), "ader", "selection", self.selection, "'herding' or 'random'")


@dataclass(frozen=True)
class InterestsConfig:
    """The whole configuration of the `interests` line; it is stored in every version."""

    model: ModelConfig = field(default_factory=ModelConfig)
    retainer: RetainerConfig = field(default_factory=RetainerConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    trimmer: TrimmerConfig = field(default_factory=TrimmerConfig)
    trend: TrendConfig = field(default_factory=TrendConfig)
    elastic: ElasticConfig = field(default_factory=ElasticConfig)
    sml: SmlConfig = field(default_factory=SmlConfig)
    ader: AderConfig = field(default_factory=AderConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
