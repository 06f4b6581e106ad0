"""What `imsr bench` can compare: each variant is a strategy and a few settings that differ from the given ones.

A new variant is one line of `VARIANTS`. A strategy that has none is a variant of its own name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from imsr_core.config import InterestsConfig
from imsr_core.errors import ConfigError
from imsr_core.parts import STRATEGIES
from imsr_core.registry import nearest

#: Strategies that are no model (see `pipelines.bench.floors`).
COUNTED = ("popularity", "popularity-last", "popularity-decayed", "personal", "item-knn", "counters")
#: "Strategy" of what another system computed (see `pipelines.bench.rivals`).
RIVAL = "rival"


@dataclass(frozen=True)
class Variant:
    """A row of the methods table.

    ``settings`` maps "section.key" of imsr.toml to a value. With ``like`` each user has as many interests as in that
    other variant: from the start where the strategy is a chain, at each span where it starts over.
    """

    name: str
    strategy: str
    what: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    like: str | None = None

    @property
    def is_model(self) -> bool:
        """False for the floors and rivals, which know no seed and no extractor."""
        return self.strategy not in (*COUNTED, RIVAL)

    def config(self, given: InterestsConfig, extractor: str, seed: int) -> InterestsConfig:
        """The configuration of a cell: the ``given`` one with the variant's settings, an extractor and a seed."""
        return with_settings(given, {"model.extractor": extractor, "training.seed": seed} | dict(self.settings))


_NO_EIR = {"retainer.enabled": False}
_NO_NID = {"detector.enabled": False, "trimmer.enabled": False}
_LITERAL = {"model.prior_mass": 0.0}
_SPREAD = {"model.starts": "spread"}
_ONE = {"model.initial_interests": 1, "model.max_interests": 1}
_ALONE = {"model.members": 1, "model.dim": 64}

VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        # floors
        Variant("popularity", "popularity", "the most frequent items so far, for everybody"),
        Variant("popularity-last", "popularity-last", "the most frequent items of the last span, for everybody"),
        Variant("popularity-decayed", "popularity-decayed", "events that fade: the half-life of the tuning spans"),
        Variant("personal", "personal", "what the user had, how often and how lately"),
        Variant("item-knn", "item-knn", "what goes with what the user had of late"),
        Variant("counters", "counters", "all counting terms in one score: imsr as it serves, without interests"),
        Variant("frozen", "frozen", "the base model, never updated"),
        Variant("single-vector", "fine_tune", "fine_tune with one interest a user", _ONE),
        # the paper's extraction: interests are read from the span alone
        Variant("fine_tune-literal", "fine_tune", "fine-tuning as published: no prior in the extraction", _LITERAL),
        Variant("imsr-literal", "imsr", "EIR, NID and PIT on the published extraction", _LITERAL),
        # ours: the stored interest is a prior of the extraction
        Variant("fine_tune", "fine_tune", "fine-tuning with the prior"),
        Variant("imsr", "imsr", "EIR, NID and PIT with the prior"),
        # ablations
        Variant("imsr-no-eir", "imsr", "without EIR", _NO_EIR),
        Variant("imsr-no-nid-pit", "imsr", "without NID and PIT: K stays as it was at the start", _NO_NID),
        Variant("imsr-no-pit", "imsr", "without PIT: every proposed interest stays", {"trimmer.enabled": False}),
        Variant("imsr-dir", "imsr", "DIR: Euclidean distance in place of EIR", {"retainer.form": "euclidean"}),
        Variant("imsr-bce", "imsr", "EIR as printed: sigmoid cross entropy on the target", {"retainer.form": "bce"}),
        *(
            Variant(f"imsr-kd{n}", "imsr", f"EIR as a softmax {over}", {"retainer.form": f"kd{n}"})
            for n, over in enumerate(("over items", "over a user's interests", "over items for the user"), 1)
        ),
        Variant("fixed-k", "imsr", "EIR alone, with imsr's final K created up front", _NO_NID, like="imsr"),
        *(
            Variant(
                f"imsr-merged-{cosine}",
                "imsr",
                f"interests that have become one are merged (cosine .{cosine})",
                {"trimmer.merge_cosine": cosine / 100},
            )
            for cosine in (90, 95)
        ),
        Variant("imsr-spread", "imsr", "a new user's interests start at items far from each other", _SPREAD),
        Variant("imsr-no-content", "imsr", "its score knows nothing of items' categories", {"score.content": False}),
        Variant("imsr-alone", "imsr", "one member, with vectors of 64 numbers as in the paper", _ALONE),
        # published incremental methods, on the same model
        Variant("sml", "sml", "SML: a learnt transfer merges the old and the newly trained parameters"),
        Variant("ader", "ader", "ADER: replay of herded exemplars with adaptive distillation"),
        # beyond the paper
        Variant("elastic", "elastic", "imsr that forgets what rests and keeps to a budget of interests"),
        # ceiling
        Variant("full_retrain", "full_retrain", "from scratch on everything so far, imsr's K", like="imsr"),
    )
}


def variants_named(names: Sequence[str]) -> list[Variant]:
    """The variants of these names. Raises `ConfigError` with the nearest name for an unknown one."""
    known = {name: Variant(name, name, f"strategy {name} of another package") for name in STRATEGIES} | VARIANTS
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no variant {name!r}", hint=nearest(name, known))
    return [known[name] for name in dict.fromkeys(names)]


def with_settings(config: InterestsConfig, settings: Mapping[str, Any]) -> InterestsConfig:
    """``config`` with some "section.key" replaced. Raises `ConfigError` for an unknown one or a bad value."""
    for path, value in settings.items():
        section, _, key = path.partition(".")
        sections = {f.name for f in fields(config)}
        known = {f.name for f in fields(getattr(config, section))} if section in sections else set()
        if key not in known:
            raise ConfigError(f"there is no setting [{section}] {key}", hint=f"keys: {', '.join(sorted(known))}")
        config = replace(config, **{section: replace(getattr(config, section), **{key: value})})
    return config
