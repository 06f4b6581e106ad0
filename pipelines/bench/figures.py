"""The report of a bench as pictures. matplotlib is an extra: `pip install 'imsr[bench]'`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.bench.data import BenchData, BenchError
from pipelines.bench.summary import Done, Summary


def draw(done: Sequence[Done], lines: Sequence[Summary], data: BenchData, top_n: int, out: Path) -> list[Path]:
    """``spans.png``: the hit rate by span; ``gains.png``: what each variant is worth, with intervals.

    Raises:
        BenchError: matplotlib is not installed.
    """
    pyplot = _pyplot()
    paths = [out / "spans.png", out / "gains.png"]
    _by_span(pyplot, done, data, top_n, paths[0])
    _gains(pyplot, lines, paths[1])
    return paths


def _pyplot() -> Any:
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise BenchError("the pictures need matplotlib", hint="pip install 'imsr[bench]', or --no-figures") from error
    return pyplot


def _by_span(pyplot: Any, done: Sequence[Done], data: BenchData, top_n: int, path: Path) -> None:
    groups: dict[str, list[list[float]]] = {}
    for cell, result in done:
        values = []
        for span in data.tested:
            ranks, member = result.ranks.get(span.id), span.slices[data.main_slice]
            values.append(100 * float((ranks[member] < top_n).mean()) if ranks is not None else np.nan)
        groups.setdefault(f"{cell.variant.name} {cell.extractor}".removesuffix(" none"), []).append(values)
    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    styles = ["-", "--", ":"]
    for number, (name, rows) in enumerate(groups.items()):
        axes.plot(np.mean(rows, axis=0), styles[number // 10 % 3], marker="o", markersize=3, label=name)
    axes.set_xticks(range(len(data.tested)), [span.id for span in data.tested])
    if data.tuning:
        axes.axvspan(-0.5, data.tuning - 0.5, color="0.93", zorder=0)
        axes.text(-0.4, axes.get_ylim()[0], "tuning", va="bottom", color="0.5")
    axes.set_ylabel(f"HR@{top_n}, per cent")
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
