"""Schedules, workers and deployments with real processes. Slow; each part that could break without a word is seen."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from prefect_processes import HOST, Server, end, environment, free_port, running, server, wait_for
from small_world import DAYS, VERSIONS, current, learnt_content, run_all, states, version_rows

import flows
from flows.steps import QUARANTINED, REJECTED, STALE

pytestmark = pytest.mark.slow

CODE = Path(flows.__file__).parents[1]
IMSR = [sys.executable, "-c", "from flows.cli import main; main()"]
DEPLOYED = {f"{flow}/production-{flow}" for flow in ("nightly", "backfill", "restate", "full-refresh", "add-task")}


@pytest.fixture(scope="module")
def loopback(tmp_path_factory):
    with server(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def deployed(loopback, ingested, copy_of):
    """A workspace whose deployments are on the server, and its work pool."""
    workspace = copy_of(ingested)
    pools = [pool["name"] for pool in loopback.ask("work_pools/filter", {})]
    if "imsr" not in pools:
        loopback.prefect("work-pool", "create", "imsr", "--type", "process")
        loopback.prefect("work-pool", "set-concurrency-limit", "imsr", "1")
    place = {"IMSR_CODE": str(CODE), "IMSR_WORKSPACE": str(workspace.root)}
    loopback.prefect("deploy", "--all", cwd=CODE, **place)
    return workspace


def deployment(loopback: Server, name: str) -> dict:
    return loopback.ask(f"deployments/name/{name}")


def worker(loopback: Server, log: Path):
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "imsr", "--type", "process"]
    return running(command, loopback.env, log, loopback.folder)


def test_deploy_all_makes_every_deployment_one_at_a_time(loopback, deployed):
    found = {name: deployment(loopback, name) for name in DEPLOYED}
    for each in found.values():
        assert each["work_pool_name"] == "imsr"
        assert each["parameters"]["workspace"] == str(deployed.root)
        assert each["global_concurrency_limit"]["limit"] == 1
        assert each["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    (schedule,) = found["nightly/production-nightly"]["schedules"]
    assert schedule["schedule"]["cron"] == "0 2 * * *"
    assert loopback.ask("work_pools/imsr")["concurrency_limit"] == 1


def test_a_cron_schedule_really_makes_runs(loopback, deployed):
    wanted = deployment(loopback, "nightly/production-nightly")["id"]

    def scheduled():
        runs = [run for run in loopback.flow_runs("SCHEDULED") if run["deployment_id"] == wanted]
        return [run["expected_start_time"] for run in runs if run["auto_scheduled"]]

    times = wait_for("the scheduler made runs", scheduled)
    assert all("T02:00:00" in time for time in times)


def test_a_worker_runs_a_deployment(loopback, deployed, learnt, tmp_path):
    started = deployment(loopback, "nightly/production-nightly")["id"]
    run = loopback.ask(f"deployments/{started}/create_flow_run", {})
    with worker(loopback, tmp_path / "worker.log"):
        done = wait_for("the run is over", lambda: _final(loopback, run["id"]))
    assert done["state_type"] == "COMPLETED", (tmp_path / "worker.log").read_text()[-4000:]
    assert f"version:{VERSIONS[-1]}" in done["tags"]
    assert current(deployed) == VERSIONS[-1]
    assert learnt_content(deployed, VERSIONS[-1]) == learnt_content(learnt, VERSIONS[-1])


def test_a_run_that_dies_with_its_worker_gives_back_its_place(loopback, deployed, tmp_path):
    """By the automation of the docs; the pool has one place, and the run that died would hold it for ever."""
    wanted = yaml.safe_load((CODE / "flows" / "killed_runs.yaml").read_text())
    assert wanted["trigger"]["within"] > 3 * 180  # Prefect's usual time between two signs of life
    ended = {"Completed", "Failed", "Cancelled", "Crashed", REJECTED, STALE, QUARANTINED}
    assert {f"prefect.flow-run.{name}" for name in ("heartbeat", *ended)} == set(wanted["trigger"]["expect"])
    wanted["trigger"]["within"] = 70
    (tmp_path / "killed_runs.yaml").write_text(yaml.safe_dump(wanted))
    loopback.prefect("automation", "create", "--from-file", str(tmp_path / "killed_runs.yaml"))
    started = deployment(loopback, "nightly/production-nightly")["id"]
    first = loopback.ask(f"deployments/{started}/create_flow_run", {})
    alive = Server(loopback.url, loopback.env | {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}, loopback.folder)
    dying = Server(loopback.url, alive.env | {"IMSR_FAIL": "train.staged:1:stop"}, loopback.folder)
    with worker(dying, tmp_path / "dying.log") as process:
        (run,) = wait_for("the run stands still", lambda: _stopped_children(process.pid))
        process.kill()
        os.kill(run, signal.SIGKILL)
        process.wait()
    second = loopback.ask(f"deployments/{started}/create_flow_run", {})
    with worker(alive, tmp_path / "worker.log"):
        done = wait_for("the next run is over", lambda: _final(loopback, second["id"]), patience=400)
    assert done["state_type"] == "COMPLETED", (tmp_path / "worker.log").read_text()[-4000:]
    assert _final(loopback, first["id"])["state_type"] == "CRASHED"
    assert current(deployed) == VERSIONS[-1]


def _stopped_children(pid: int) -> list[int]:
    """Processes that a process has begun and that are suspended."""
    listed = subprocess.run(["ps", "-o", "pid=,stat=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(child) for child, state in rows if state.startswith("T")]


def test_one_command_serves_a_schedule_with_a_server_of_its_own(ingested, copy_of, tmp_path):
    workspace = copy_of(ingested)
    env, port = environment(tmp_path / "home"), free_port()
    command = [*IMSR, "serve", "-w", str(workspace.root), "--cron", "* * * * *", "--port", str(port)]
    with running(command, env, tmp_path / "serve.log", tmp_path) as process:
        served = Server(f"http://{HOST}:{port}/api", env, tmp_path)
        (first, *_) = wait_for("a scheduled run is done", lambda: served.flow_runs("COMPLETED"), patience=400)
        assert first["auto_scheduled"]
        (schedule,) = served.ask("deployments/name/nightly/copy")["schedules"]
        assert schedule["active"]
        assert end(process, signal.SIGTERM) == 0, (tmp_path / "serve.log").read_text()[-4000:]
    assert set(states(workspace).values()) == {"published"}
    with pytest.raises(OSError, match="refused"):
        served.ask("health")


@contextmanager
def serving(workspace, folder, port, *more, background=False):
    """`imsr serve` as a process, also as a shell's background job: with SIGINT ignored; and a way to ask its server."""
    env = environment(folder / "home")
    command = [*IMSR, "serve", "-w", str(workspace.root), "--port", str(port), *more]
    if background:
        command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    with running(command, env, folder / "serve.log", folder) as process:
        served = Server(f"http://{HOST}:{port}/api", env, folder, process)
        wait_for("the schedule is served", lambda: served.ask(f"deployments/name/nightly/{workspace.root.name}"))
        yield served


def test_a_background_job_of_a_script_ends_at_sigterm_and_its_ui_asks_its_own_server(ingested, copy_of, tmp_path):
    port = free_port()
    with serving(copy_of(ingested), tmp_path, port, background=True) as served:
        with urllib.request.urlopen(f"http://{HOST}:{port}/ui-settings", timeout=20) as answer:
            assert json.loads(answer.read())["api_url"] == served.url
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(90) == 0
        with pytest.raises(OSError, match="refused"):
            served.ask("health")


def test_serve_that_is_killed_leaves_no_server_and_the_same_command_works_at_once(ingested, copy_of, tmp_path):
    workspace, port = copy_of(ingested), free_port()
    for _ in range(2):
        with serving(workspace, tmp_path, port) as served:
            wait_for("its own server answers", lambda: has_server(served, port) and answers(served))
            served.process.kill()
            served.process.wait()
    wait_for("the server has ended with it", lambda: not answers(served), patience=60)


def has_server(served, port):
    """Whether the process has a server of its own by now; the one of a process that was killed may still answer."""
    words = ["pgrep", "-P", str(served.process.pid), "-f", f"port {port}"]
    return subprocess.run(words, capture_output=True).returncode == 0


def answers(served):
    try:
        return bool(served.ask("health"))
    except OSError:
        return False


def test_serve_ends_with_an_error_when_its_server_dies(ingested, copy_of, tmp_path):
    port = free_port()
    with serving(copy_of(ingested), tmp_path, port) as served:
        listed = subprocess.run(["pgrep", "-P", str(served.process.pid), "-f", f"port {port}"], capture_output=True)
        os.kill(int(listed.stdout), signal.SIGKILL)
        assert served.process.wait(60) == 1
    assert "error: the schedule has ended, " in (tmp_path / "serve.log").read_text()


def test_a_server_that_dies_in_the_middle_leaves_work_that_a_plain_run_finishes(ingested, learnt, copy_of, tmp_path):
    workspace = copy_of(ingested)
    with server(tmp_path) as doomed:
        command = [*IMSR, "nightly", "-w", str(workspace.root)]
        with running(command, doomed.env, tmp_path / "nightly.log", tmp_path) as flow:
            wait_for("the first version is there", lambda: version_rows(workspace))
            doomed.process.kill()
            doomed.process.wait()
            with suppress(subprocess.TimeoutExpired):
                flow.wait(180)  # it ends by itself, with its work done or not
            end(flow, signal.SIGTERM)
    finished = subprocess.run(
        [*IMSR, "run", "-w", str(workspace.root)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    assert run_all(workspace) == []
    assert set(states(workspace).values()) == {"published"}
    for version in VERSIONS:
        assert learnt_content(workspace, version) == learnt_content(learnt, version)
    assert len(version_rows(workspace)) == len(DAYS) - 1


def _final(loopback: Server, run_id: str):
    run = loopback.ask(f"flow_runs/{run_id}")
    return run if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None
