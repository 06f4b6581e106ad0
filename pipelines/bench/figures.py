"""The report of a bench as pictures. matplotlib is an extra: `pip install 'imsr[bench]'`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.bench.data import BenchError
from pipelines.bench.summary import Done, Scope, Summary, grouped, spans_hit_rates


def draw(done: Sequence[Done], lines: Sequence[Summary], scope: Scope, out: Path) -> list[Path]:
    """``spans.png``: the hit rate by span as each serves; ``gains.png``: what each model alone is worth, with
    intervals.

    Raises:
        BenchError: matplotlib is not installed.
    """
    pyplot = pyplot_for_files()
    paths = [out / "spans.png", out / "gains.png"]
    _by_span(pyplot, done, scope, paths[0])
    _gains(pyplot, lines, paths[1])
    return paths


def pyplot_for_files() -> Any:
    """matplotlib's pyplot, which draws into files. Raises BenchError if it is not installed."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise BenchError("the pictures need matplotlib", hint="pip install 'imsr[bench]', or --no-figures") from error
    return pyplot


def _by_span(pyplot: Any, done: Sequence[Done], scope: Scope, path: Path) -> None:
    data = scope.data
    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    styles = ["-", "--", ":"]
    for number, (key, members) in enumerate(grouped(done).items()):
        rows = 100 * np.array([spans_hit_rates(result, scope) for _, result in members])
        name = " ".join(key).removesuffix(" none")
        axes.plot(rows.mean(axis=0), styles[number // 10 % 3], marker="o", markersize=3, label=name)
    axes.set_xticks(range(len(data.tested)), [span.id for span in data.tested])
    if data.tuning:
        axes.axvspan(-0.5, data.tuning - 0.5, color="0.93", zorder=0)
        axes.text(-0.4, axes.get_ylim()[0], "tuning", va="bottom", color="0.5")
    axes.set_ylabel(f"HR@{scope.top_n}, per cent")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _gains(pyplot: Any, lines: Sequence[Summary], path: Path) -> None:
    rows = [(line, line.gains["fine_tune"]) for line in lines if "fine_tune" in line.gains][::-1]
    figure, axes = pyplot.subplots(figsize=(8, 0.6 + 0.32 * max(len(rows), 2)), layout="constrained")
    for place, (_, found) in enumerate(rows):
        axes.plot([100 * found.low, 100 * found.high], [place, place], color="0.4")
        axes.plot(100 * found.mean, place, "o", color="C0")
    axes.axvline(0, color="0.7", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{line.variant} {line.extractor}".removesuffix(" none") for line, _ in rows])
    axes.set_xlabel("RI over fine_tune, per cent, 95% interval over users")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
