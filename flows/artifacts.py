"""What a flow run shows in the Prefect UI: tags, a bar while a span trains, and a report at its end."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from flows.after_learning import Made, after_learning
from imsr_core.counted import counted
from pipelines.interests.gate import Verdict
from pipelines.nights.night import SpanOutcome
from pipelines.versions.lineage import Lineage
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import VersionRow
from pipelines.workspace.steps import Call, plainly
from pipelines.workspace.writer import Writer

#: Seconds between two updates of a bar: each one is a request and a row in Prefect's database.
UPDATE_SECONDS = 1.0

_COUNTS = {
    "events learnt": "events",
    "users": "users",
    "items": "items",
    "users of the span": "active_users",
    "new users": "new_users",
    "interests a user": "mean_interests",
    "interests born": "born",
    "interests trimmed": "trimmed",
    "seconds of training": "train_seconds",
}


def artifact_key(span_id: str, kind: str) -> str:
    """The key under which Prefect keeps one kind of artifact of a span: lower-case letters, digits and dashes."""
    return f"span-{span_id}-{kind}".lower()


def span_tags(span_id: str, version: VersionRow | None = None) -> list[str]:
    """The tags of a span's run; strategy and version are known once it is learnt."""
    tags = [f"span:{span_id}"]
    return tags if version is None else [*tags, f"strategy:{version.strategy}", f"version:{version.version_id}"]


def tag_flow_run(tags: list[str]) -> None:
    """Add tags to the flow run that this is called from; they can then be searched for in the UI."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with get_client(sync_client=True) as client:
        known = client.read_flow_run(context.flow_run.id).tags
        client.update_flow_run(context.flow_run.id, tags=sorted({*known, *tags}))


def name_flow_run(spans: str) -> None:
    """Name the flow run that this is called from by its flow and what it learns: "nightly 2017-05 .. 2017-07"."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        return
    with get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, name=f"{context.flow.name} {spans}")


def show_report(made: Made) -> None:
    """Leave a link to a new report beside its first sentence; a browser on the machine of the workspace opens it."""
    if not made.sentence or made.report is None:
        return
    text = f"{made.sentence}\n\n[{made.report.name}]({made.report.as_uri()}): `{made.report}`\n"
    key = f"report-{made.report.stem}".lower().translate(str.maketrans("_.", "--"))
    create_markdown_artifact(text, key=key, description=made.sentence)


def shown_after_learning(writer: Writer, call: Call = plainly) -> str:
    """Make everybody's lists and the report, and show a new one; returns its sentence, empty if it is not new."""
    made = after_learning(writer, call=call)
    show_report(made)
    return made.sentence


@dataclass
class ProgressArtifact:
    """A progress bar of one span, to be called as ``pipelines.interests.training.Progress``; made at the first call."""

    span_id: str
    _artifact: UUID | None = None
    _shown: float = field(default=float("-inf"))

    def __call__(self, done: int, total: int, loss: float) -> None:
        now = time.monotonic()
        if done < total and now - self._shown < UPDATE_SECONDS:
            return
        self._shown = now
        percent = 100.0 * done / max(total, 1)
        text = f"span {self.span_id}: step {done} of at most {total}, loss {loss:.3f}"
        self._show(percent, text)

    def close(self) -> None:
        """Fill the bar: training may end early, or there was nothing left to train."""
        if self._artifact is not None:
            self._show(100.0, f"span {self.span_id}: trained")

    def _show(self, percent: float, text: str) -> None:
        if self._artifact is None:
            key = artifact_key(self.span_id, "progress")
            self._artifact = create_progress_artifact(percent, key=key, description=text)  # type: ignore[assignment]
        else:
            update_progress_artifact(self._artifact, percent, description=text)


def show_outcome(workspace: Workspace, outcome: SpanOutcome) -> None:
    """Tag the run, and leave a report (Markdown) and the gate's comparison with the current version (a table)."""
    version = outcome.version
    assert version is not None
    span_id = outcome.run.span_id
    tag_flow_run(span_tags(span_id, version))
    what = f"version {version.version_id} after span {span_id}"
    create_markdown_artifact(report(workspace, outcome), key=artifact_key(span_id, "report"), description=what)
    create_table_artifact(comparison(outcome), key=artifact_key(span_id, "metrics"), description=what)


def show_refresh(workspace: Workspace, version: VersionRow) -> None:
    """Leave a report (Markdown) of a version trained from scratch and, if the gate saw it, its comparison (a table)."""
    what = f"version {version.version_id}, trained from scratch"
    rows = _checks(Verdict.from_json(version.verdict)) if version.verdict else []
    with workspace.ledger.snapshot() as view:
        current = view.pointer(version.line)
    lines = [
        f"# Full refresh: version {version.version_id}, {version.state}",
        f"Current is {current}; trained on {counted(len(version.spans), 'span')}.",
        "## Against the version that was current" if rows else "",
        _table(list(rows[0]), [list(row.values()) for row in rows]) if rows else "",
        "## Numbers",
        _numbers(version.summary),
    ]
    text = "\n\n".join(line for line in lines if line) + "\n"
    create_markdown_artifact(text, key=artifact_key(version.span_id, "refresh"), description=what)
    if rows:
        create_table_artifact(rows, key=artifact_key(version.span_id, "refresh-metrics"), description=what)


def comparison(outcome: SpanOutcome) -> list[dict[str, Any]]:
    """What the gate looked at, a row each: the new version against the one that was current, with the interval."""
    return _checks(outcome.verdict) if outcome.verdict else []


def _checks(verdict: Verdict) -> list[dict[str, Any]]:
    checks = verdict.checks
    rounded = [{name: _rounded(value) for name, value in asdict(check).items()} for check in checks]
    return [{"check": row.pop("name"), **row} for row in rounded]


def report(workspace: Workspace, outcome: SpanOutcome) -> str:
    """The span as a page of Markdown: verdict, metrics, what happened to the interests, lineage."""
    version, run = outcome.version, outcome.run
    assert version is not None
    summary = version.summary | {"events": outcome.events}
    with workspace.ledger.snapshot() as view:
        current = view.pointer(version.line)
    serving = "it is current" if current == version.version_id else f"current is {current}"
    lineage = Lineage.read(workspace.resolve(version.path))
    compared = comparison(outcome)
    lines = [
        f"# {run.span_id}: version {version.version_id}, {version.state}",
        f"{run}. Strategy `{version.strategy}`; {serving}.",
        *(f"- {reason}" for reason in (outcome.verdict.reasons if outcome.verdict else ())),
        "## Against the current version",
        _table(list(compared[0]), [list(row.values()) for row in compared]) if compared else "Not compared.",
        f"## Version {version.parent} on this span, before it was learnt" if outcome.metrics else "",
        _table(["metric", "slice", "value", "n"], [[m.metric, m.slice, m.value, m.n] for m in outcome.metrics]),
        "## Numbers",
        _numbers(summary),
        "## Lineage",
        f"learnt from `{version.parent or 'nothing'}`; fingerprint `{version.fingerprint[:16]}`",
        _table(["span", "data"], [[span, f"`{data}`"] for span, data in lineage.data.items()]),
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def _numbers(summary: dict[str, Any]) -> str:
    return _table(["", ""], [[name, summary[key]] for name, key in _COUNTS.items() if key in summary])


def _rounded(value: Any) -> Any:
    return round(value, 5) if isinstance(value, float) else value


def _table(columns: list[str], rows: list[list[Any]]) -> str:
    if not rows:
        return ""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value).replace("|", r"\|")
