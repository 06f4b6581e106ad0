"""The report of a bench as Markdown and Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pyarrow as pa

from imsr_core.bootstrap import Interval
from imsr_core.counted import counted
from imsr_core.sorted_keys import unique
from pipelines.bench.picks import picks, subject_of
from pipelines.bench.summary import Done, Figure, Scope, Summary, figures, gain, grouped, spans_hit_rates, summaries
from pipelines.workspace.parquet_files import write_table
from pipelines.workspace.seal import write_atomic

#: What gains are measured over: plain fine-tuning, and fine-tuning as published.
REFERENCES = ("fine_tune", "fine_tune-literal")
#: From such a gain on it is told as so many times as good: in per cent over next to nothing it looks like a mistake.
_MANY = 10.0
_STRANGERS = (
    "*everything* counts events of users and items that a version does not know as misses; popularity has a list for "
    "everybody. What imsr shows users whom it does not know is scored by each `imsr run`: slice `strangers` of the "
    "view `metrics`."
)


def write_report(done: Sequence[Done], scope: Scope, out: Path, title: str) -> str:
    """Write ``results.parquet``, ``picks.parquet`` and ``results.md`` (``results-discover.md``) into ``out``; the
    Markdown."""
    rows = [asdict(figure) for figure in figures(done, scope.data, scope.top_n)]
    columns = {f.name: [row[f.name] for row in rows] for f in fields(Figure)}
    write_table(pa.table(columns), out / "results.parquet")
    found = picks(done, scope.data, scope.top_n)
    write_table(pa.Table.from_pylist([row for pick in found for row in pick.rows()]), out / "picks.parquet")
    text = markdown(done, scope, title)
    write_atomic(report_path(out, scope), text.encode())
    return text


def report_path(out: Path, scope: Scope) -> Path:
    """Where the Markdown of a bench stands."""
    return out / ("results-discover.md" if scope.discover else "results.md")


def markdown(done: Sequence[Done], scope: Scope, title: str) -> str:
    """All tables of a bench."""
    lines, top_n = summaries(done, scope, REFERENCES), scope.top_n
    what = "what is new to the user" if scope.discover else "everything may be shown"
    parts = [
        f"# {title}\n\n{about(scope)}\n",
        f"## What a user would pick instead\n\n{picks_table(done, scope)}",
        f"## Models alone: {what}\n\n{methods_table(lines, top_n)}",
        f"## HR@{top_n} by kind of event, models alone, per cent\n\n{slices_table(lines)}\n{_STRANGERS}\n",
        f"## imsr against each\n\n{duels_table(done, scope)}",
        f"## Cost\n\n{cost_table(lines)}",
        f"## HR@{top_n} by span, per cent\n\n{spans_table(done, scope)}",
        f"## What each version knows of each span\n\n{matrices(done, scope)}",
        "## Variants\n\n" + "\n".join(_described(done)),
    ]
    return "\n".join(parts) + "\n"


def about(scope: Scope) -> str:
    """What the figures are of."""
    data = scope.data
    users = unique(np.concatenate([span.sequences.users for span in data.spans]))
    events = [span.sequences.n_events for span in data.spans]
    scored = [int(scope.member(span).sum()) for span in data.reported]
    reported = sum(span.sequences.n_events for span in data.reported)
    kind = "new to their user, of known users and items" if scope.discover else "of known users and items"
    tuned = ", ".join(span.id for span in data.tested[: data.tuning]) or "none"
    return (
        f"{counted(len(users), 'user')}, {counted(data.spans[-1].n_items, 'item')}, "
        f"{counted(sum(events), 'event')}: {events[0]:,} for pre-training, "
        f"then {', '.join(f'{n:,}' for n in events[1:])} a span. Protocol: {data.protocol}. "
        f"Reported: {', '.join(span.id for span in data.reported)} ({sum(scored):,} of "
        f"{counted(reported, 'event')}: those {kind}); left for tuning: {tuned}."
    )


def picks_table(done: Sequence[Done], scope: Scope) -> str:
    """One line for each that somebody could serve, in both tables, and what the subject gains over it; the best that
    is no model of ours in bold."""
    subject = subject_of(done)
    name = subject[0] if subject else "-"
    top_n = scope.top_n
    head = ["", "extractor", f"HR@{top_n}", f"NDCG@{top_n}", f"RI of {name} over it"]
    head += [f"HR@{top_n}, discover", f"NDCG@{top_n}, discover", f"RI of {name}, discover", "CPU s a span", "seeds"]
    rows = []
    for pick in picks(done, scope.data, top_n):
        cells = [pick.variant, pick.extractor]
        for side in (pick.everything, pick.discover):
            mark = "**" if side.best_rival else ""
            cells += [
                f"{mark}{_percent(side.hr)}{mark}",
                f"{mark}{_percent(side.ndcg)}{mark}",
                gain_in_words(side.gain),
            ]
        rows.append([*cells, _number(pick.seconds, ".2f"), str(pick.seeds)])
    return table(head, rows, left=2)


def methods_table(lines: Sequence[Summary], top_n: int) -> str:
    """One line a variant: what it finds, and what that is worth over the references."""
    references = [name for name in REFERENCES if any(name in line.gains for line in lines)]
    head = ["variant", "extractor", f"HR@{top_n}", f"NDCG@{top_n}", *(f"RI over {name}" for name in references)]
    head += ["HR as it serves", "NDCG as it serves", "seeds"]
    rows = []
    for line in lines:
        gains = [gain_in_words(line.gains.get(name)) for name in references]
        cells = [_spread(line.hr, line.hr_sd), _spread(line.ndcg, line.ndcg_sd), *gains]
        rows.append([*_who(line), *cells, _percent(line.served_hr), _percent(line.served_ndcg), str(line.seeds)])
    return table(head, rows, left=2)


def slices_table(lines: Sequence[Summary]) -> str:
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


def duels_table(done: Sequence[Done], scope: Scope) -> str:
    """What imsr gains over each of the others with the same extractor, the models alone and as they serve; empty
    without imsr."""
    groups = grouped(done)
    rows = []
    for name, extractor in groups:
        for key in [k for k in groups if k[0] == "imsr" and k != (name, extractor) and extractor in (k[1], "none")]:
            pair = (groups[key], groups[name, extractor], scope)
            sides = ((False, False), (True, True), (True, False))
            gains = [gain(*pair, served=mine, over_served=theirs) for mine, theirs in sides]
            rows.append([key[1], name, *map(gain_in_words, gains)])
    head = [
        "extractor",
        "imsr over",
        "RI, models alone",
        "RI, both as they serve",
        "RI, imsr as it serves, the other alone",
    ]
    return table(head, rows, left=2) if rows else ""


def spans_table(done: Sequence[Done], scope: Scope) -> str:
    """HR of each variant on each span as it serves, mean over seeds; spans that were tuned on are in brackets."""
    data = scope.data
    tuned = {span.id for span in data.tested[: data.tuning]}
    head = ["variant", "extractor", *(f"({s.id})" if s.id in tuned else s.id for s in data.tested)]
    rows = []
    for key, members in grouped(done).items():
        values = [spans_hit_rates(result, scope) for _, result in members]
        rows.append([*key, *(_percent(v) for v in np.mean(values, axis=0))])
    return table(head, rows, left=2)


def matrices(done: Sequence[Done], scope: Scope) -> str:
    """R[t, i] of the first seed of each variant: rows are versions, columns spans, on a sample of users."""
    data = scope.data
    parts = [f"HR@{scope.top_n} in per cent of the version after a span (row) on a span (column), first seed.\n"]
    for key, members in grouped(done).items():
        matrix = members[0][1].matrix
        if not matrix.size or np.isnan(matrix).all():
            continue
        head = ["version", *(span.id for span in data.tested[: matrix.shape[1]])]
        rows = [[data.spans[t].id, *(_percent(v) for v in row)] for t, row in enumerate(matrix)]
        parts.append(f"**{key[0]}**, {key[1]}\n\n{table(head, rows, left=1)}")
    return "\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """A Markdown table whose first ``left`` columns are text."""
    marks = ["---"] * left + ["--:"] * (len(head) - left)
    lines = [head, marks, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _who(line: Summary) -> list[str]:
    return [line.variant, line.extractor]


def _described(done: Sequence[Done]) -> list[str]:
    return list(dict.fromkeys(f"- `{cell.variant.name}`: {cell.variant.what}" for cell, _ in done))


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.2f}"


def _number(value: float, form: str) -> str:
    return "-" if np.isnan(value) else f"{value:{form}}"


def _spread(mean: float, deviation: float) -> str:
    return _percent(mean) if np.isnan(deviation) else f"{100 * mean:.2f} ± {100 * deviation:.2f}"


def gain_in_words(found: Interval | None) -> str:
    """A relative improvement with its interval, as the tables have it."""
    if found is None or np.isnan(found.mean):
        return "-"
    if found.mean >= _MANY:
        return f"{1 + found.mean:.0f} times ({1 + found.low:.0f} .. {1 + found.high:.0f})"
    return f"{100 * found.mean:+.1f}% ({100 * found.low:+.1f} .. {100 * found.high:+.1f})"
