"""The report of a bench as Markdown and Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pyarrow as pa

from imsr_core.bootstrap import Interval
from pipelines.bench.data import BenchData
from pipelines.bench.summary import Done, Figure, Summary, figures, gain, grouped, summaries
from pipelines.bench.variants import VARIANTS
from pipelines.workspace.parquet_files import write_table
from pipelines.workspace.seal import write_atomic

#: What gains are measured over: plain fine-tuning, and fine-tuning as published.
REFERENCES = ("fine_tune", "fine_tune-literal")


def write_report(done: Sequence[Done], data: BenchData, top_n: int, out: Path, title: str) -> str:
    """Write ``results.parquet`` and ``results.md`` into ``out``; the Markdown."""
    rows = [asdict(figure) for figure in figures(done, data, top_n)]
    columns = {f.name: [row[f.name] for row in rows] for f in fields(Figure)}
    write_table(pa.table(columns), out / "results.parquet")
    text = markdown(done, data, top_n, title)
    write_atomic(out / "results.md", text.encode())
    return text


def markdown(done: Sequence[Done], data: BenchData, top_n: int, title: str) -> str:
    """All tables of a bench."""
    lines = summaries(done, data, top_n, REFERENCES)
    parts = [
        f"# {title}\n\n{about(data)}\n",
        methods_table(lines, top_n),
        f"## HR@{top_n} by kind of event, per cent\n\n{slices_table(lines, top_n)}",
        f"## imsr against each\n\n{duels_table(done, data, top_n)}",
        f"## Cost\n\n{cost_table(lines)}",
        f"## HR@{top_n} by span, per cent\n\n{spans_table(done, data, top_n)}",
        f"## What each version knows of each span\n\n{matrices(done, data, top_n)}",
        "## Variants\n\n" + "\n".join(f"- `{name}`: {VARIANTS[name].what}" for name in _names(lines)),
    ]
    return "\n".join(parts) + "\n"


def about(data: BenchData) -> str:
    """What the figures are of."""
    users = np.unique(np.concatenate([span.sequences.users for span in data.spans]))
    events = [span.sequences.n_events for span in data.spans]
    scored = [int(span.slices[data.main_slice].sum()) for span in data.reported]
    tuned = ", ".join(span.id for span in data.tested[: data.tuning]) or "none"
    return (
        f"{len(users):,} users, {data.spans[-1].n_items:,} items, {sum(events):,} events: {events[0]:,} for "
        f"pre-training, then {', '.join(f'{n:,}' for n in events[1:])} a span. Protocol: {data.protocol}. "
        f"Reported: {', '.join(span.id for span in data.reported)} ({sum(scored):,} events of known users and items); "
        f"left for tuning: {tuned}."
    )


def methods_table(lines: Sequence[Summary], top_n: int) -> str:
    """One line a variant: what it finds, and what that is worth over the references."""
    references = [name for name in REFERENCES if any(name in line.gains for line in lines)]
    head = ["variant", "extractor", f"HR@{top_n}", f"NDCG@{top_n}", *(f"RI over {name}" for name in references)]
    head += ["HR with trend", "NDCG with trend", "seeds"]
    rows = []
    for line in lines:
        gains = [_interval(line.gains.get(name)) for name in references]
        cells = [_spread(line.hr, line.hr_sd), _spread(line.ndcg, line.ndcg_sd), *gains]
        rows.append([*_who(line), *cells, _percent(line.trend_hr), _percent(line.trend_ndcg), str(line.seeds)])
    return table(head, rows, left=2)


def slices_table(lines: Sequence[Summary], top_n: int) -> str:
    """One line a variant: the hit rate by kind of event, and what later versions have lost."""
    head = [
        "variant",
        "extractor",
        "last event",
        "had before",
        "new to the user",
        "everything",
        "forgetting",
        "backward",
    ]
    rows = [
        [*_who(x), *map(_percent, (x.last, x.repeat, x.explore, x.everything, x.forgetting, x.backward))] for x in lines
    ]
    return table(head, rows, left=2)


def cost_table(lines: Sequence[Summary]) -> str:
    """One line a model: what it stores, and what a span costs."""
    head = ["variant", "extractor", "interests a user", "stored floats", "CPU s a span", "CPU s last span", "peak MB"]
    rows = []
    for line in lines:
        if not np.isnan(line.interests):
            stored = [_number(line.interests, ".2f"), _number(line.floats, ",.0f")]
            spent = [_number(line.seconds, ".1f"), _number(line.last_seconds, ".1f"), _number(line.peak_mb, ",.0f")]
            rows.append([*_who(line), *stored, *spent])
    return table(head, rows, left=2)


def duels_table(done: Sequence[Done], data: BenchData, top_n: int) -> str:
    """What imsr gains over each of the others with the same extractor, the model alone and with the trend; empty
    without imsr."""
    groups = grouped(done)
    rows = []
    for name, extractor in groups:
        for key in [k for k in groups if k[0] == "imsr" and k != (name, extractor) and extractor in (k[1], "none")]:
            pair = (groups[key], groups[name, extractor], data, top_n)
            sides = ((False, False), (True, True), (True, False))
            gains = [gain(*pair, blended=mine, over_blended=theirs) for mine, theirs in sides]
            rows.append([key[1], name, *map(_interval, gains)])
    head = [
        "extractor",
        "imsr over",
        "RI, models alone",
        "RI, both with trend",
        "RI, imsr with trend, the other without",
    ]
    return table(head, rows, left=2) if rows else ""


def spans_table(done: Sequence[Done], data: BenchData, top_n: int) -> str:
    """HR of each variant on each span, mean over seeds; spans that were tuned on are in brackets."""
    tuned = {span.id for span in data.tested[: data.tuning]}
    head = ["variant", "extractor", *(f"({s.id})" if s.id in tuned else s.id for s in data.tested)]
    groups: dict[tuple[str, str], list[list[float]]] = {}
    for cell, result in done:
        found = []
        for span in data.tested:
            ranks = result.ranks.get(span.id)
            member = span.slices[data.main_slice]
            found.append(float((ranks[member] < top_n).mean()) if ranks is not None and member.any() else np.nan)
        groups.setdefault((cell.variant.name, cell.extractor), []).append(found)
    rows = [[*key, *(_percent(v) for v in np.mean(values, axis=0))] for key, values in groups.items()]
    return table(head, rows, left=2)


def matrices(done: Sequence[Done], data: BenchData, top_n: int) -> str:
    """R[t, i] of the first seed of each variant: rows are versions, columns spans, on a sample of users."""
    parts, shown = (
        [f"HR@{top_n} in per cent of the version after a span (row) on a span (column), first seed.\n"],
        set(),
    )
    for cell, result in done:
        key = (cell.variant.name, cell.extractor)
        if key in shown or not result.matrix.size or np.isnan(result.matrix).all():
            continue
        shown.add(key)
        head = ["version", *(span.id for span in data.tested[: result.matrix.shape[1]])]
        rows = [[data.spans[t].id, *(_percent(v) for v in row)] for t, row in enumerate(result.matrix)]
        parts.append(f"**{cell.variant.name}**, {cell.extractor}\n\n{table(head, rows, left=1)}")
    return "\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """A Markdown table whose first ``left`` columns are text."""
    marks = ["---"] * left + ["--:"] * (len(head) - left)
    lines = [head, marks, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _who(line: Summary) -> list[str]:
    return [line.variant, line.extractor]


def _names(lines: Sequence[Summary]) -> list[str]:
    return list(dict.fromkeys(line.variant for line in lines))


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.2f}"


def _number(value: float, form: str) -> str:
    return "-" if np.isnan(value) else f"{value:{form}}"


def _spread(mean: float, deviation: float) -> str:
    return _percent(mean) if np.isnan(deviation) else f"{100 * mean:.2f} ± {100 * deviation:.2f}"


def _interval(found: Interval | None) -> str:
    if found is None or np.isnan(found.mean):
        return "-"
    return f"{100 * found.mean:+.1f}% ({100 * found.low:+.1f} .. {100 * found.high:+.1f})"
