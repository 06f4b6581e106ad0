"""A night tells people what went wrong: through Prefect's flow, through the commands, against a receiver here."""

from __future__ import annotations

import json
import time

import pytest
from receiver import SECRET, receiving
from small_world import DAYS, NOW, TOML, VERSIONS, land, log, make
from test_flow_runs import newest_run
from typer.testing import CliRunner

from flows.alerts import telling
from flows.cli import app
from flows.nightly import nightly
from imsr_core.errors import ImsrError
from pipelines.alerts.telling import NOTE, read_note
from pipelines.interests import training
from pipelines.lake.warnings import QuarantinedShareError
from pipelines.workspace.layout import Workspace

REJECTS = "[gate]\nholdout = 0.4\nmin_events = 5\nmin_hr = 1.0\n"
CLOCK = NOW.isoformat()


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")


@pytest.fixture
def receiver():
    with receiving() as made:
        yield made


def asking(workspace: Workspace, *urls: str, more: str = "") -> Workspace:
    """The workspace, whose [alerts] name these receivers."""
    text = workspace.settings_file.read_text()
    workspace.settings_file.write_text(f"{text}\n[alerts]\nurls = {json.dumps(urls)}\n{more}")
    return Workspace.open(workspace.root)


def command(*words: str):
    return CliRunner().invoke(app, list(words))


def events_of(workspace: Workspace, wanted: int) -> list[str]:
    """What Prefect's server has heard of the workspace; it hears a moment later."""
    from prefect.client.orchestration import get_client
    from prefect.events.filters import EventFilter, EventResourceFilter

    only = EventFilter(resource=EventResourceFilter(id=[f"imsr.workspace.{workspace.root.name}"]))
    deadline, names = time.monotonic() + 30, []
    with get_client(sync_client=True) as client:
        while len(names) < wanted and time.monotonic() < deadline:
            answer = client._client.post("/events/filter", json={"filter": only.model_dump(mode="json")}).json()
            names = [event["event"] for event in answer["events"]]
            time.sleep(0.2)
    return names


@pytest.mark.usefixtures("prefect_server")
def test_a_night_whose_version_is_rejected_is_told_without_looking(tmp_path, receiver):
    workspace = asking(make(tmp_path / "rejecting", log(range(2)), TOML + REJECTS), receiver.url)
    assert nightly(str(workspace.root), now="2024-03-03T01:00:00") == VERSIONS[:1]
    (message,) = receiver.messages
    assert message["title"] == "imsr rejecting: rejected"
    assert f"imsr promote {VERSIONS[0]}" in message["message"]
    assert events_of(workspace, 1) == ["imsr.rejected"]
    nightly(str(workspace.root), now="2024-03-03T02:00:00")
    assert len(receiver.messages) == 1


@pytest.mark.usefixtures("prefect_server")
def test_a_night_that_fails_is_told_once_for_the_span_and_fails_as_it_would(learnt, copy_of, receiver, monkeypatch):
    workspace = asking(copy_of(learnt), receiver.url)
    land(workspace, log([6], seed=1))

    def fail(*_, **__):
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(training, "strategy_named", lambda _: fail)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        nightly(str(workspace.root), now=CLOCK)
    (message,) = receiver.messages
    assert message["message"].count("the disk is gone") == 1
    assert message["message"].startswith("span 2024-03-07 failed")


@pytest.mark.usefixtures("prefect_server")
def test_a_receiver_that_is_gone_fails_no_night_and_stands_in_the_status(ingested, copy_of, receiver):
    workspace = asking(copy_of(ingested), f"json://x:{SECRET}@127.0.0.1:1/", more='stale_after = "1h"\n')
    assert nightly(str(workspace.root), now=CLOCK) == VERSIONS
    run, _, _ = newest_run()
    assert (run.state.type, run.state.name) == ("COMPLETED", "Stale")
    (problem,) = read_note(workspace).problems
    shown = command("status", "-w", str(workspace.root)).output
    assert problem.split(":")[0] in shown
    assert "imsr alerts test" in shown
    assert SECRET not in shown + (workspace.root / NOTE).read_text()
    told = json.loads(command("status", "-w", str(workspace.root), "--json").stdout)
    assert told["alerts"]["problems"] == [problem]


@pytest.mark.usefixtures("prefect_server")
def test_too_much_in_quarantine_is_a_state_of_its_own(learnt, copy_of, tmp_path, receiver):
    workspace = asking(copy_of(learnt), receiver.url)
    bad = tmp_path / "bad.csv"
    bad.write_text("user_id,item_id,timestamp\n" + "u1,i1,never\n" * 9 + f"u1,i2,{DAYS[5]}T01:00:00Z\n")
    with pytest.raises(QuarantinedShareError):
        nightly(str(workspace.root), files=[str(bad)], now="2024-03-07T01:00:00")
    run, _, _ = newest_run()
    assert (run.state.type, run.state.name) == ("FAILED", "Quarantined")
    assert [message["title"].rpartition(": ")[2] for message in receiver.messages] == ["quarantined"]


def test_run_tells_when_it_is_asked_to(tmp_path, receiver):
    workspace = asking(make(tmp_path / "shop", log(range(2)), TOML + REJECTS), receiver.url, more='on = ["rejected"]\n')
    assert command("run", "-w", str(workspace.root), "--alert").exit_code == 3
    assert [message["title"] for message in receiver.messages] == ["imsr shop: rejected"]


def misspelt(workspace: Workspace) -> None:
    workspace.settings_file.write_text(workspace.settings_file.read_text() + "\n[recommend]\nnightyl = true\n")


def damaged(workspace: Workspace) -> None:
    workspace.ledger_file.write_bytes(b"no ledger any more, but something long enough to be looked at" * 20)


@pytest.mark.parametrize("harm", [misspelt, damaged])
def test_settings_or_a_ledger_that_cannot_be_read_are_told(learnt, copy_of, receiver, harm):
    workspace = asking(copy_of(learnt), receiver.url)
    command("alerts", "check", "-w", str(workspace.root))  # stale: all days are years ago
    whole = [file.read_bytes() for file in (workspace.settings_file, workspace.ledger_file)]
    harm(workspace)
    for _ in range(2):  # each time that a night fails, by cron once
        failed = command("run", "-w", str(workspace.root), "--alert")
        assert failed.exit_code == 1
        assert command("alerts", "check", "-w", str(workspace.root)).exit_code == 1
    told = [message["message"] for message in receiver.messages[1:]]
    assert [text.split(":")[0] for text in told] == ["the run failed", "no night can run", "the run failed"]
    assert failed.exception.message in told[0]
    workspace.settings_file.write_bytes(whole[0])
    workspace.ledger_file.write_bytes(whole[1])
    assert command("alerts", "check", "-w", str(workspace.root)).exit_code == 0
    assert len(receiver.messages) == 4  # what was told before is not told again


def test_alerts_test_says_what_every_receiver_answers(learnt, copy_of, receiver):
    workspace = asking(copy_of(learnt), receiver.url, f"json://127.0.0.1:1/{SECRET}")
    result = command("alerts", "test", "-w", str(workspace.root))
    assert result.exit_code == 1
    assert "receiver 1 (json)" in result.output
    assert "taken" in result.output
    assert SECRET not in result.output + str(result.exception)
    assert "receiver 2 (json)" in str(result.exception)
    assert len(receiver.messages) == 1


def test_alerts_check_tells_by_cron_what_is_new(learnt, copy_of, receiver):
    workspace = asking(copy_of(learnt), receiver.url)  # all days are years ago
    shown = command("alerts", "check", "-w", str(workspace.root), "--dry-run", "--json")
    assert [(each["kind"], each["state"]) for each in json.loads(shown.stdout)["troubles"]] == [("stale", "new")]
    assert not receiver.messages
    assert command("alerts", "check", "-w", str(workspace.root)).exit_code == 0
    again = json.loads(command("alerts", "check", "-w", str(workspace.root), "--json").stdout)
    assert [each["state"] for each in again["troubles"]] == ["told"]
    assert again["sent"] == []
    assert len(receiver.messages) == 1


def test_nobody_to_tell_is_said(learnt, copy_of):
    workspace = copy_of(learnt)
    assert "[alerts] urls" in str(command("alerts", "test", "-w", str(workspace.root)).exception)
    assert command("alerts", "check", "-w", str(workspace.root)).exit_code == 0


def test_an_error_while_telling_fails_no_run(learnt, copy_of, monkeypatch):
    workspace, said = copy_of(learnt), []
    monkeypatch.setattr("flows.alerts.troubles", lambda *_, **__: 1 / 0)
    with telling(workspace, "night", now=NOW, say=said.append):
        pass
    assert said == ["alerts could not be sent: ZeroDivisionError"]
    with pytest.raises(ImsrError, match="no room"), telling(workspace, "night", now=NOW, say=said.append):
        raise ImsrError("no room")
