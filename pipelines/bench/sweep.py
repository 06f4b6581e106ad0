"""Sensitivity, as the paper shows it: one setting after the other takes other values, all else stays as it is.

    imsr bench -w shop --sweep detector.c1=0.3:0.5:0.7,trimmer.c2=0.1:0.3:0.5

Every value is a variant of its own ("imsr~detector.c1=0.3"), computed and kept as any other, beside the variant as it
is. ``sweep.png`` has a panel for each setting: the score, and how many interests a user has.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imsr_core.config import InterestsConfig
from imsr_core.errors import ConfigError
from pipelines.bench.figures import pyplot_for_files
from pipelines.bench.summary import Summary
from pipelines.bench.variants import Variant, with_settings

_HINT = "settings and their values, as in: --sweep detector.c1=0.3:0.5:0.7,trimmer.c2=0.1:0.3"


@dataclass(frozen=True)
class Sweep:
    """A variant as it is, and for each setting (value, variant) in the order of the values that were given."""

    base: Variant
    settings: Mapping[str, Sequence[tuple[Any, Variant]]]

    @classmethod
    def of(cls, text: str, base: Variant, config: InterestsConfig) -> Sweep:
        """Read a sweep; a value that a setting cannot have is refused before anything runs.

        Raises:
            ConfigError: it is no sweep, or names a setting or a value that there is not.
        """
        if not base.is_model:
            raise ConfigError(f"{base.name} has no settings to sweep", hint="name a model: --strategies imsr")
        settings: dict[str, list[tuple[Any, Variant]]] = {}
        for part in filter(None, (each.strip() for each in text.split(","))):
            key, _, values = part.partition("=")
            if not key or not values:
                raise ConfigError(f"--sweep {part!r}: no values", hint=_HINT)
            for raw in values.split(":"):
                value = _value(raw.strip())
                try:
                    with_settings(config, {key: value})
                except TypeError as error:
                    raise ConfigError(f"[{key.replace('.', '] ')} = {raw}: no such value", hint=_HINT) from error
                name = f"{base.name}~{key}={re.sub(r'[^A-Za-z0-9_.+-]', '_', raw.strip())}"
                what = f"{base.what}; [{key.replace('.', '] ')} = {raw.strip()}"
                settings.setdefault(key, []).append(
                    (value, replace(base, name=name, what=what, settings=dict(base.settings) | {key: value}))
                )
        if not settings:
            raise ConfigError("--sweep names nothing", hint=_HINT)
        return cls(base, settings)

    @property
    def variants(self) -> list[Variant]:
        """All that is computed."""
        return [self.base, *(variant for points in self.settings.values() for _, variant in points)]

    def points(self, key: str, lines: Sequence[Summary]) -> list[tuple[str, Summary]]:
        """Value (as text) and figures of each variant of a setting that was computed."""
        found = {line.variant: line for line in lines}
        return [(str(value), found[v.name]) for value, v in self.settings[key] if v.name in found]

    def draw(self, lines: Sequence[Summary], top_n: int, out: Path) -> Path:
        """``sweep.png``; a band is one standard deviation over seeds. Raises BenchError without matplotlib."""
        pyplot = pyplot_for_files()
        keys = list(self.settings)
        figure, panels = pyplot.subplots(
            1, len(keys), figsize=(4.2 * len(keys), 3.4), layout="constrained", squeeze=False
        )
        base = next((line for line in lines if line.variant == self.base.name), None)
        for axes, key in zip(panels[0], keys, strict=True):
            points = self.points(key, lines)
            _panel(axes, key, points, top_n)
            if base is not None:
                axes.axhline(100 * base.hr, color="C0", linestyle=":", linewidth=0.9)
        path = out / "sweep.png"
        figure.savefig(path, dpi=130)
        pyplot.close(figure)
        return path


def _panel(axes: Any, key: str, points: Sequence[tuple[str, Summary]], top_n: int) -> None:
    places = range(len(points))
    hits = [100 * line.hr for _, line in points]
    spread = [0.0 if line.hr_sd != line.hr_sd else 100 * line.hr_sd for _, line in points]
    axes.errorbar(places, hits, yerr=spread, marker="o", color="C0", capsize=3)
    axes.set_ylabel(f"HR@{top_n}, per cent", color="C0")
    axes.set_xticks(places, [value for value, _ in points])
    axes.set_xlabel(f"[{key.replace('.', '] ')}")
    more = axes.twinx()
    more.plot(places, [line.interests for _, line in points], marker="s", markersize=4, color="C1", linestyle="--")
    more.set_ylabel("interests a user", color="C1")


def _value(raw: str) -> Any:
    """A value as imsr.toml would read it; what is no number or boolean there is text."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw
