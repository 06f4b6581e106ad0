"""The model card of a version: what it learnt, how it scored before it learnt it, what it cannot do."""

from __future__ import annotations

from typing import Any

import torch

from imsr_core.bootstrap import paired_bootstrap
from imsr_core.metrics import hit_rate, ndcg
from pipelines.interests.gate_events import GateEvents
from pipelines.interests.version import Version
from pipelines.serving.ann import FACTS_FILE, INDEX_FILE, AnnFacts
from pipelines.workspace.layout import Workspace

#: What model hubs read.
_HEAD = """---
library_name: imsr
tags: [recommendation, multi-interest, incremental-learning]
---"""

_LIMITS = """- Scores are those of the versions before, on events that they had never seen, over the whole catalogue.
- A user or an item without events in the window has no vector here; the most popular items are what a stranger gets.
- Interests are learnt from what people did, and repeat its biases: popular items come up too often.
- Vectors of users are personal data. This folder is a copy: a user who is forgotten in the workspace is still in it."""


def model_card(version: Version, workspace: Workspace, index: AnnFacts | None = None) -> str:
    """The card in Markdown, with the metadata block that model hubs read; ``index`` stands beside it."""
    row, lineage = version.row, version.lineage
    with workspace.ledger.snapshot() as view:
        metrics = [m for m in view.metrics() if m.version_id == row.parent and m.slice in ("all", "repeat", "explore")]
    facts = {
        "users": row.summary.get("users"),
        "items": row.summary.get("items"),
        "interests": row.summary.get("interests"),
        "interests a user": row.summary.get("mean_interests"),
        "new interests in the last span": row.summary.get("born"),
    }
    verdict: dict[str, Any] | None = row.summary.get("verdict")
    members = lineage.config.get("model", {}).get("members", 1)
    lines = [
        _HEAD,
        f"# imsr version {row.version_id}",
        f"Strategy `{row.strategy}`, made {row.created_at[:10]}, state {row.state}. Learnt from "
        f"{f'version `{row.parent}`' if row.parent else 'nothing'}; the window ends with span {row.span_id}; "
        f"spans since pre-training: {len(lineage.spans) - 1}.",  # the first is that of pre-training
        "## What is in it",
        _table(["", ""], [[name, _shown(value)] for name, value in facts.items() if value is not None]),
        f"The model has {members} members; vectors of items and interests in the tables are the first one's, lists and "
        "the model's own file are of all."
        if members > 1
        else "",
        "## Scores",
        f"Of version `{row.parent}` on span {row.span_id}, before that was learnt:"
        if metrics
        else "Not tested yet: the version is the first of its chain.",
        _table(["metric", "events", "value", "n"], [[m.metric, m.slice, f"{m.value:.4f}", m.n] for m in metrics]),
        *_hidden(version),
        "## Verdict of the gate",
        _verdict(verdict),
        *(["## Index of nearest neighbours", _index(index)] if index else []),
        "## Limits",
        _LIMITS,
        "## Made with",
        ", ".join(f"{name} {number}" for name, number in lineage.packages.items()),
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def _hidden(version: Version) -> list[str]:
    """The version's own scores on the events that it was kept from learning, with intervals over users; or nothing."""
    events = GateEvents.read(version.folder)
    if not len(events):
        return []
    ranks, rows = torch.from_numpy(events.rank_candidate), []
    for name, metric in (("hr", hit_rate), ("ndcg", ndcg)):
        found = paired_bootstrap(metric(ranks, events.top_n).numpy(), events.user_index)
        rows.append(
            [f"{name}@{events.top_n}", f"{found.mean:.4f}", f"{found.low:.4f} .. {found.high:.4f}", len(events)]
        )
    said = "Of this version, on events of its last span that it was kept from learning (bootstrap over users):"
    return [said, _table(["metric", "value", "95 % interval", "n"], rows)]


def _verdict(verdict: dict[str, Any] | None) -> str:
    if verdict is None:
        return "It was not judged."
    told = "Passed." if verdict["passed"] else "Rejected."
    return " ".join([told, "; ".join(verdict["reasons"])]).strip()


def _index(facts: AnnFacts) -> str:
    return f"`{INDEX_FILE}` (faiss): {facts}. Row n is row n of `items.parquet`; every figure is in `{FACTS_FILE}`."


def _table(columns: list[str], rows: list[list[Any]]) -> str:
    if not rows:
        return ""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _shown(value: object) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
