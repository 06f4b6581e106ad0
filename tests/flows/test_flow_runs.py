"""The flows in a Prefect harness: the same result as the plain steps, and what the API then knows of the run."""

import json
import re
import shutil
import time

import pytest
from small_world import (
    DAYS,
    LATER,
    NOW,
    TOML,
    VERSIONS,
    current,
    day_of_events,
    learnt_content,
    log,
    make,
    span_rows,
    states,
    version_rows,
)
from typer.testing import CliRunner

from flows import steps
from flows.artifacts import ProgressArtifact, artifact_key
from flows.backfill import backfill
from flows.cli import app
from flows.nightly import nightly
from flows.refresh import full_refresh
from flows.restate import restate
from flows.steps import moment
from imsr_core.errors import ImsrError, NonFiniteError
from pipelines.interests import training
from pipelines.nights.backfill import Which
from pipelines.nights.plan import PlanError
from pipelines.workspace.layout import Workspace
from pipelines.workspace.lease import hold

pytestmark = pytest.mark.usefixtures("prefect_server")
CLOCK = NOW.isoformat()


def newest_run():
    """The flow run that was made last, its task runs, and its artifacts by key."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)
        artifacts = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        )
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
    return run, tasks, {artifact.key: artifact for artifact in artifacts}


#: What Prefect calls a task until its name has arrived.
UNNAMED = re.compile(r"[a-z]+-[0-9a-f]{3}")


def task_names(run, wanted: int) -> list[str]:
    """The names of a run's tasks in order; the server records them, and what they are called, a moment later."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    only, names = FlowRunFilter(id=FlowRunFilterId(any_=[run.id])), []
    deadline = time.monotonic() + 30
    with get_client(sync_client=True) as client:
        while (len(names) < wanted or any(map(UNNAMED.fullmatch, names))) and time.monotonic() < deadline:
            tasks = client.read_task_runs(flow_run_filter=only)
            names = [task.name for task in sorted(tasks, key=lambda task: task.expected_start_time)]
            time.sleep(0.1)
    return names


@pytest.fixture(scope="module")
def after_a_night(prefect_server, ingested, tmp_path_factory):
    """A workspace after one flow run over all six days, and the API's picture of the run."""
    root = tmp_path_factory.mktemp("night") / "workspace"
    shutil.copytree(ingested.root, root)
    versions = nightly(str(root), now=CLOCK)
    return Workspace.open(root), versions, newest_run()


def test_a_night_learns_what_the_plain_steps_learn(after_a_night, learnt):
    workspace, versions, _ = after_a_night
    assert versions == VERSIONS
    assert set(states(workspace).values()) == {"published"}
    for version in VERSIONS:
        assert learnt_content(workspace, version) == learnt_content(learnt, version)


def test_the_steps_of_each_span_are_tasks_in_order(after_a_night):
    _, _, (run, _, _) = after_a_night
    order = ("sequences", "evaluate", "train", "gate", "publish")
    wanted = [f"{step} {day}" for day in (DAYS[1], *LATER) for step in order]
    assert [name for name in task_names(run, len(wanted)) if name not in ("ingest", "quarantine")] == wanted


def test_the_run_can_be_found_by_span_strategy_and_version(after_a_night):
    _, versions, (run, _, _) = after_a_night
    assert run.state.is_completed()
    assert run.name == f"nightly {DAYS[0]} .. {DAYS[-1]}"
    spans = [f"span:{version.removesuffix('.1')}" for version in versions]
    assert set(run.tags) == {*spans, *(f"version:{v}" for v in versions), "strategy:pretrain", "strategy:imsr"}


def test_each_span_leaves_a_full_bar_a_report_and_a_comparison(after_a_night):
    _, versions, (_, _, artifacts) = after_a_night
    for version in versions:
        span_id = version.removesuffix(".1")
        bar, page, table = (artifacts[artifact_key(span_id, kind)] for kind in ("progress", "report", "metrics"))
        assert (bar.type, page.type, table.type) == ("progress", "markdown", "table")
        assert bar.data == 100.0
        assert page.data.startswith(f"# {span_id}: version {version}, published")
        for heading in ("## Against the current version", "## Numbers", "interests born", "## Lineage"):
            assert heading in page.data
        assert '"check": "serves"' in table.data
    later = artifacts[artifact_key(DAYS[4], "report")].data
    assert f"## Version {DAYS[3]}.1 on this span, before it was learnt" in later
    assert "| hr@10 | all |" in later
    assert f"learnt from `{DAYS[3]}.1`" in later


def test_a_second_night_does_nothing(after_a_night):
    workspace, _, _ = after_a_night
    assert nightly(str(workspace.root), now=CLOCK) == []


def test_what_has_landed_is_ingested_first_from_the_folder_that_was_named(learnt, copy_of, tmp_path):
    workspace = copy_of(learnt)
    landing = tmp_path / "elsewhere"
    landing.mkdir()
    rows = [dict(zip(("user_id", "item_id", "timestamp"), event, strict=True)) for event in day_of_events(6)]
    (landing / "seventh.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (landing / ".half-a-copy.jsonl").write_text("{")
    assert nightly(str(workspace.root), landing=str(landing), now=CLOCK) == ["2024-03-07.1"]
    assert {"ingest", "train 2024-03-07", "publish 2024-03-07"} <= set(task_names(newest_run()[0], 6))


def test_the_time_given_decides_what_is_closed(ingested, copy_of):
    root = str(copy_of(ingested).root)
    assert nightly(root, now="2024-03-02T23:59:59") == []
    assert nightly(root, now="2024-03-03T00:59:59+01:00") == []
    assert nightly(root, now="2024-03-03T00:00:00") == VERSIONS[:1]


@pytest.mark.parametrize("error", [NonFiniteError("the loss is not finite"), RuntimeError("the disk is gone")])
def test_a_span_that_fails_fails_the_run_and_gives_the_workspace_back(learnt, copy_of, monkeypatch, error):
    workspace = copy_of(learnt)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(training, "strategy_named", lambda _: fail)
    with pytest.raises(type(error), match=str(error)):
        restate(str(workspace.root), DAYS[5], now=CLOCK)
    assert newest_run()[0].state.is_failed()
    assert [states(workspace)[day] for day in DAYS[4:]] == ["published", "failed"]
    assert str(error) in span_rows(workspace)[DAYS[5]].error
    assert current(workspace) == VERSIONS[-1]
    with hold(workspace, "the next one"):
        pass
    monkeypatch.undo()
    assert nightly(str(workspace.root), now=CLOCK) == [f"{DAYS[5]}.2"]


def test_no_workspace_is_a_failed_flow(tmp_path):
    with pytest.raises(ImsrError, match="not a workspace"):
        nightly(str(tmp_path))
    assert newest_run()[0].state.is_failed()


def test_a_step_that_hiccups_is_tried_again_a_training_is_not(monkeypatch):
    real_task, tried = steps.task, []
    monkeypatch.setattr(steps, "task", lambda **options: real_task(**(options | {"retry_delay_seconds": 0})))

    def flaky():
        tried.append(1)
        if len(tried) == 1:
            raise OSError("hiccup")
        return len(tried)

    assert steps.as_task("sequences", flaky) == 2
    tried.clear()
    with pytest.raises(OSError, match="hiccup"):
        steps.as_task("train", flaky)


def test_restate_and_backfill_flows_do_what_the_commands_do(learnt, copy_of):
    workspace = copy_of(learnt)
    assert restate(str(workspace.root), DAYS[4], now=CLOCK) == [f"{day}.2" for day in DAYS[4:]]
    assert backfill(str(workspace.root), first=DAYS[5], which=Which.ALL, now=CLOCK) == [f"{DAYS[5]}.3"]
    assert list(version_rows(workspace)) == [*VERSIONS, f"{DAYS[4]}.2", f"{DAYS[5]}.2", f"{DAYS[5]}.3"]
    assert backfill(str(workspace.root), now=CLOCK) == []


def test_a_full_refresh_leaves_a_shadow_and_can_put_it_live(learnt, copy_of):
    workspace = copy_of(learnt)
    shadow = full_refresh(str(workspace.root), now=CLOCK)
    run, _, artifacts = newest_run()
    assert version_rows(workspace)[shadow].state == "shadow"
    assert current(workspace) == VERSIONS[-1]
    assert {f"version:{shadow}", "strategy:full_retrain"} <= set(run.tags)
    assert artifacts[artifact_key(DAYS[-1], "refresh")].data.startswith(f"# Full refresh: version {shadow}, shadow")
    assert full_refresh(str(workspace.root), rebase=True, now=CLOCK) == shadow == current(workspace)
    _, _, artifacts = newest_run()
    assert "## Against the version that was current" in artifacts[artifact_key(DAYS[-1], "refresh")].data
    assert '"check": "serves"' in artifacts[artifact_key(DAYS[-1], "refresh-metrics")].data


def test_the_command_ends_with_code_3_if_the_gate_rejects(tmp_path, monkeypatch):
    workspace = make(tmp_path / "w", log(range(2)), TOML + "[gate]\nholdout = 0.4\nmin_events = 5\nmin_hr = 1.0\n")
    monkeypatch.setattr("flows.commands.serve.prepare_prefect", lambda: None)  # it is ready, and the process goes on
    result = CliRunner().invoke(app, ["nightly", "-w", str(workspace.root)])
    assert result.exit_code == 3, result.output
    assert f"rejected by the gate: {VERSIONS[0]}" in result.output
    run, _, _ = newest_run()
    assert (run.state.type, run.state.name) == ("COMPLETED", "Rejected")  # an automation can wait for it
    assert VERSIONS[0] in run.state.message
    again = CliRunner().invoke(app, ["nightly", "-w", str(workspace.root)])
    assert again.exit_code == 0
    assert "nothing was due" in again.output


def test_a_backfill_out_of_order_is_refused(ingested, copy_of):
    with pytest.raises(PlanError, match="must be learnt before"):
        backfill(str(copy_of(ingested).root), first=DAYS[4], now=CLOCK)


def test_the_bar_is_updated_once_a_second_at_most_and_at_the_end(monkeypatch):
    shown = []
    monkeypatch.setattr(ProgressArtifact, "_show", lambda self, percent, text: shown.append(percent))
    clock = iter(range(10_000))
    monkeypatch.setattr("flows.artifacts.time.monotonic", lambda: next(clock) / 100)
    progress = ProgressArtifact("d1")
    for step in range(1, 501):
        progress(step, 500, 0.5)
    assert shown[-1] == 100.0
    assert len(shown) == 6  # five seconds by this clock


def test_the_clock_of_a_flow_is_utc_unless_it_says_otherwise_wherever_the_machine_is(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert moment("2024-03-10") == moment("2024-03-10T02:00:00+02:00") == NOW
        assert moment(None) > NOW
    finally:
        monkeypatch.undo()
        time.tzset()
