"""Every hyper-parameter of the `interests` line, with its default, its meaning and its source.

Paper = IMSR (Wang and Shen, ICDE 2023). A default that is not the paper's says so, and says why.
The dataclasses are frozen and validate themselves once, when they are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from imsr_core.fields import Section, documented
from imsr_core.parts import EXTRACTORS, STRATEGIES

RetainerForm = Literal["listwise", "bce", "euclidean", "kd1", "kd2", "kd3"]


@dataclass(frozen=True)
class ModelConfig(Section):
    """The multi-interest model: what an interest is and how it is read from items."""

    extractor: str = documented(
        "comirec-dr", "which multi-interest extractor reads interests from items", choices=EXTRACTORS
    )
    dim: int = documented(64, "d, length of item and interest vectors (paper: 64)", at_least=2, at_most=4096, fresh=128)
    initial_interests: int = documented(4, "K_0, interests of a new user (paper: 4)", at_least=1, at_most=4096)
    max_interests: int = documented(24, "cap on K_u, so that one user cannot grow for ever", at_least=1, at_most=4096)
    history: int = documented(
        50, "n, most recent items of a user's span that are read at once", at_least=1, at_most=100_000
    )
    routing_iterations: int = documented(
        3, "iterations of dynamic routing (MIND, ComiRec-DR: 3)", at_least=1, at_most=1000
    )
    starts: Literal["random", "spread"] = documented(
        "random",
        "where a new user's interests start before they read items: random = random vectors; spread = at items of the "
        "user that are far from each other (comirec-dr; ours)",
    )
    prior_mass: float | None = documented(
        None,
        "m, how many items a stored interest weighs when it is updated; unset: 2 for routing, 4 for "
        "self-attention; 0 is the paper's literal extraction from the span alone",
        at_least=0,
    )
    normalize_items: bool = documented(True, "L2-normalise item vectors (the paper does not; worth it on real logs)")
    logit_scale: float = documented(12.0, "factor on inner products wherever they become logits (paper: 1)", above=0)
    label_attention: Literal["soft", "hard"] = documented(
        "soft", "label-aware attention: soft = softmax over interests (paper), hard = best interest only"
    )
    members: int = documented(
        1,
        "models of other draws that learn side by side; the score takes the mean of what they say. Each costs an "
        "update's time and space (paper: 1)",
        at_least=1,
        at_most=16,
        fresh=2,
    )
    attention_units: int = documented(0, "d_a of ComiRec-SA; 0 means 4 d as ComiRec has it", at_least=0, at_most=65_536)

    def clashes(self) -> Iterator[tuple[str, str]]:
        if self.max_interests < self.initial_interests:
            yield "max_interests", f"at least initial_interests = {self.initial_interests}"

    @property
    def mass(self) -> float:
        """The prior mass in force: the one that was set, or the extractor's default."""
        return float(EXTRACTORS[self.extractor].prior_mass) if self.prior_mass is None else self.prior_mass

    @property
    def query_units(self) -> int:
        """Length of the query that each interest owns: d_a for self-attention, else 0 (no query)."""
        return int(EXTRACTORS[self.extractor].query_units(self))


@dataclass(frozen=True)
class RetainerConfig(Section):
    """EIR, the existing-interests retainer (paper, section IV-B): distil yesterday's interests."""

    enabled: bool = documented(True, "switch EIR on")
    weight: float = documented(0.03, "lambda_KD (paper: 1e-2 .. 1e-6, tuned); above 0.1 it harms", at_least=0)
    form: RetainerForm = documented(
        "listwise",
        "listwise = softmax over sampled items for each interest; bce = the paper's sigmoid cross entropy on "
        "the target alone; euclidean = the paper's DIR ablation; kd1, kd2, kd3 = a softmax over items for each "
        "interest, over interests for the target, over items for the user",
    )
    temperature: float = documented(1.0, "tau of the distilled logits", above=0)
    items: int = documented(
        100, "items that each listwise distillation ranks (the batch's first shared negatives)", at_least=1
    )
    interests: int = documented(
        1,
        "existing interests of each target's user that listwise and kd1 distil, drawn at random: an unbiased "
        "estimate of the sum over all, at a cost that does not grow with K (0: all of them)",
        at_least=0,
    )


@dataclass(frozen=True)
class DetectorConfig(Section):
    """NID, the new-interests detector (paper, section IV-C): who needs new interests this span."""

    enabled: bool = documented(True, "switch NID on; off: no user ever gets new interests")
    rule: Literal["quantile", "absolute"] = documented(
        "quantile",
        "quantile = c1 is a quantile of the span's users; absolute = c1 is a KL value as in the paper "
        "(its scale depends on logit_scale and K, so it does not carry from log to log)",
    )
    c1: float = documented(0.5, "a user's items are puzzling if their mean KL(uniform || p) is below this", at_least=0)
    min_items: int = documented(
        5,
        "with fewer known items in the span a user gets no new interests: one or two say nothing of a taste (paper: 1)",
        at_least=1,
    )
    new_interests: int = documented(
        3, "delta K, interests proposed when the detector fires (paper: 3)", at_least=0, at_most=4096
    )
    new_scale: float = documented(0.3, "standard deviation of a new vector's start (paper: 1)", above=0)

    def clashes(self) -> Iterator[tuple[str, str]]:
        if self.rule == "quantile" and self.c1 > 1:
            yield "c1", "at most 1, as a quantile"


@dataclass(frozen=True)
class TrimmerConfig(Section):
    """PIT, the projection-based interest trimmer (paper, section IV-D): what of the new is redundant."""

    enabled: bool = documented(True, "switch PIT on; off: every proposed interest stays, as it is")
    c2: float = documented(
        0.3, "a new interest whose orthogonal part is shorter than this is trimmed (paper: 0.3)", at_least=0
    )
    merge_cosine: float = documented(
        0.0,
        "at the end of a span interests of a user that are at least this similar are merged, old ones too (ours); 0 = "
        "never",
        at_least=0,
        at_most=1,
    )


@dataclass(frozen=True)
class TrainingConfig(Section):
    """Optimisation: the loop is the same for every strategy."""

    strategy: str = documented("imsr", "how a version is made from the one before it and a span", choices=STRATEGIES)
    seed: int = documented(0, "one seed for everything", at_least=0, at_most=2**32 - 1)
    batch_size: int = documented(128, "targets in a step (paper: 128)", at_least=1)
    base_epochs: int = documented(20, "epochs of pre-training at most (paper: 5 .. 50)", at_least=0)
    base_learning_rate: float = documented(0.003, "Adam's step size in pre-training", above=0, at_most=1e30)
    patience: int = documented(
        2, "pre-training stops after this many epochs without a better validation loss; 0 = never", at_least=0
    )
    epochs: int = documented(4, "epochs over an incremental span", at_least=0)
    learning_rate: float = documented(0.002, "Adam's step size in an incremental span", above=0, at_most=1e30)
    targets_per_user: int = documented(20, "targets drawn from one user in one epoch at most; 0 = no limit", at_least=0)
    window: int = documented(
        5, "a target is drawn up to this many steps ahead of its history; 1 = the next item", at_least=1, fresh=1
    )
    negatives: int = documented(500, "negatives shared by a batch; 0 = full softmax over the catalogue", at_least=0)
    negatives_per_target: int = documented(
        0,
        "a batch of few targets draws at most this many negatives for each of them, so that a span of few events "
        "moves few rows; 0 = always all negatives. Not where full_softmax takes all items",
        at_least=0,
        fresh=8,
    )
    full_softmax: int = documented(
        0,
        "up to this many items in the catalogue all of them are negatives; beyond, each drawn one stands for several. "
        "0 = only ever the drawn ones, as they are",
        at_least=0,
        fresh=10_000,
    )
    residual: bool = documented(
        False, "interests learn what the counting terms of [score] do not know: their part is a fixed offset"
    )
    device: Literal["cpu", "cuda", "auto"] = documented(
        "cpu",
        "where spans are trained: cpu, cuda, or auto (cuda where there is one). The result is equal within rounding, "
        "and the fingerprint of a version does not depend on it",
    )
    precision: Literal["float32", "bfloat16"] = documented(
        "float32", "of matrix products in training; bfloat16 = half the bits, for accelerators that have it"
    )
    moments: Literal["carry", "reset"] = documented(
        "carry", "carry = Adam's moments of a row go on across spans; reset = each span starts them afresh"
    )


@dataclass(frozen=True)
class TrendConfig(Section):
    """What is in fashion, as a part of an item's score (ours; see `imsr_core.trend`)."""

    enabled: bool = documented(True, "add the time-decayed popularity of items to their scores")
    weight: float | None = documented(
        None,
        "w of log popularity beside the model's logits; unset: the one that ranks each new span best",
        at_least=0,
        below=1e6,
    )


@dataclass(frozen=True)
class ScoreConfig(Section):
    """One score out of terms, weighed by what they were worth on unseen events (ours; see `imsr_core.score`)."""

    enabled: bool = documented(False, "score with all terms below; off: interests and [trend] alone", fresh=True)
    interest: bool = documented(True, "how near an item is to the user's nearest interest")
    trend: bool = documented(True, "how many took it of late, at half-lives from a 24th of a span to 16 spans")
    personal: bool = documented(True, "how often and how lately the user had it")
    neighbours: bool = documented(True, "how often it goes with what the user had")
    factors: bool = documented(True, "what users with the same things have (least squares)")
    content: bool = documented(
        False,
        "what the categories of items say that [items] categories names; without any there is no such term",
        fresh=True,
    )
    history: int = documented(1000, "items of a user that are remembered, the last had; 0 = all", at_least=0)
    neighbours_kept: int = documented(
        100, "neighbours of an item that are remembered, the most frequent of each kind; 0 = all", at_least=0
    )


@dataclass(frozen=True)
class ElasticConfig(Section):
    """What strategy `elastic` forgets (the paper's future work): interests that rest, and those beyond a budget."""

    idle_spans: int = documented(
        4,
        "an interest is forgotten after this many visits of its user in which no item was nearest to it; 0 = never",
        at_least=0,
    )
    budget: int = documented(8, "interests that a user may keep; 0 = no limit", at_least=0)
    merge_cosine: float = documented(
        0.9,
        "over the budget, interests at least this similar are merged before the least active are dropped",
        at_least=-1,
        at_most=2,
    )


@dataclass(frozen=True)
class SmlConfig(Section):
    """Strategy `sml`: the transfer module between the old parameters and the newly trained ones (SIGIR 2020)."""

    kernel: Literal["5x5", "3x1"] = documented(
        "5x5", "filter over (versions, dimensions): 5x5 as in IMSR's comparison, 3x1 as in SML's own code"
    )
    filters: int = documented(
        2, "filters of the first convolution (SML: 10; IMSR's comparison: 2 .. 10)", at_least=1, at_most=4096
    )
    mixed: int = documented(2, "filters of the 1x1 convolution behind it (SML: 5)", at_least=1, at_most=4096)
    hidden: int = documented(40, "units of the MLP (SML: 512; IMSR's comparison: 10 .. 80)", at_least=1, at_most=65_536)
    epochs: int = documented(
        2, "passes over a span that teach the transfer, before the span itself is learnt", at_least=0
    )
    learning_rate: float = documented(0.001, "Adam's step size for the transfer (SML: 0.001)", above=0, at_most=1e30)
    decay: float = documented(1e-4, "lambda_2, L2 penalty on the transfer's parameters", at_least=0)
    pull: float = documented(1e-5, "lambda_1, L2 penalty on the newly trained rows of a batch", at_least=0)


@dataclass(frozen=True)
class AderConfig(Section):
    """Strategy `ader`: adaptively distilled replay of exemplars (RecSys 2020)."""

    pool: int = documented(2000, "N, exemplars that are kept at most (paper: 30,000)", at_least=0)
    cuts: int = documented(
        5, "sequences of a user and span that may become exemplars (IMSR's comparison: 5)", at_least=1
    )
    weight: float = documented(0.8, "lambda_0 of the distillation (paper: 0.8 and 1.0)", at_least=0)
    items: int = documented(50, "items beside the target whose logits an exemplar keeps (paper: all)", at_least=1)
    selection: Literal["herding", "random"] = documented("herding", "how exemplars are chosen (paper: herding)")


@dataclass(frozen=True)
class InterestsConfig:
    """The whole configuration of the `interests` line; it is stored in every version.

    ``own`` holds the settings that strategies bring themselves, by the strategy's name (see `own_settings`).
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    retainer: RetainerConfig = field(default_factory=RetainerConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    trimmer: TrimmerConfig = field(default_factory=TrimmerConfig)
    trend: TrendConfig = field(default_factory=TrendConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    elastic: ElasticConfig = field(default_factory=ElasticConfig)
    sml: SmlConfig = field(default_factory=SmlConfig)
    ader: AderConfig = field(default_factory=AderConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    own: Mapping[str, Section] = field(default_factory=dict, hash=False)
