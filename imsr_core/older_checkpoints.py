"""What checkpoints of earlier versions do not have, and what stands in for it.

The model then does what it did when it was saved. What is not named here was always there: its absence is damage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Sections that every config.json has. Another one that is missing has its defaults, or those of `LATER_SECTIONS`.
FIRST_SECTIONS = frozenset({"model", "retainer", "detector", "trimmer", "training"})

#: Keys that came later to a section, and the value with which the code does what it did before.
LATER_KEYS: dict[str, dict[str, Any]] = {
    "retainer": {"interests": 0},  # all interests of a user were distilled
    "detector": {"min_items": 1},  # one item could puzzle
    "trimmer": {"merge_cosine": 0.0},  # what had become one stayed two
    "model": {"starts": "random", "members": 1},
    # there was one strategy; negatives were what was drawn, and interests learnt everything
    "training": {
        "strategy": "imsr",
        "residual": False,
        "full_softmax": 0,
        "negatives_per_target": 0,
        "device": "cpu",
        "precision": "float32",
    },
    "score": {"factors": False, "content": False},
}
#: Keys and sections that do not identify a configuration while they are at their defaults: configurations were
#: identified before there were any, and must stay the same.
UNNAMED_KEYS: dict[str, tuple[str, ...]] = {
    "training": ("residual", "full_softmax", "negatives_per_target", "device", "precision"),
    "trimmer": ("merge_cosine",),
    "model": ("starts", "members"),
    "score": ("factors", "content"),
}
UNNAMED_SECTIONS = ("score",)

#: The same for sections that came later, where it is not their defaults.
LATER_SECTIONS: dict[str, dict[str, Any]] = {
    "trend": {"enabled": False},  # a score was an inner product
}

#: Tensors of model.safetensors that came with the trend have this prefix.
LATER_TENSORS = "trend."


def completed(config: Mapping[str, Any], defaults: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """An older ``config`` with what came later; ``defaults`` holds all keys of each section."""
    missing = {name: dict(values) for name, values in defaults.items() if name not in {*config, *FIRST_SECTIONS}}
    then = {name: values | LATER_SECTIONS.get(name, {}) for name, values in missing.items()}
    now = {name: LATER_KEYS.get(name, {}) | given for name, given in config.items()}
    return now | then


def identified(config: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What of a ``config`` identifies it: all but what came later and is not used."""
    named = {k: dict(v) for k, v in config.items() if k not in UNNAMED_SECTIONS or v != defaults[k]}
    for name, keys in UNNAMED_KEYS.items():
        unused = {key for key in keys if config[name][key] == defaults[name][key]}
        if name in named:
            named[name] = {key: value for key, value in named[name].items() if key not in unused}
    return named
