"""The add-task flow and the nightly flow's last step: the same versions as by hand, and failures that stop nothing."""

import json

import pytest
from small_world import DAYS, LATER, NOW, VERSIONS, log, make, states
from task_world import TASKS, users_current, users_rows, with_tasks
from typer.testing import CliRunner

from flows.cli import app
from flows.console import console
from flows.nightly import nightly
from flows.tasks import add_tasks
from imsr_core.lifelong.errors import TaskError
from imsr_core.lifelong.methods.conure import Conure
from pipelines.tasks.table import list_tasks
from pipelines.tasks.version import current_version

T1, CLUB, SHOP = (f"u-{DAYS[-1]}.{name}" for name in ("T1", "club", "shop"))
CLOCK = NOW.isoformat()


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setattr(console, "_width", 200)


def imsr(workspace, *arguments):
    return CliRunner().invoke(app, [*arguments, "--workspace", str(workspace.root)])


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_adds_what_is_due_as_by_hand(learnt, taught, copy_of):
    workspace = with_tasks(copy_of(learnt))
    assert add_tasks(str(workspace.root), now=CLOCK) == [CLUB, SHOP]
    assert current_version(workspace).state.fingerprints() == current_version(taught("conure")).state.fingerprints()
    assert add_tasks(str(workspace.root), now=CLOCK) == []
    assert add_tasks(str(workspace.root), names=["club"], now=CLOCK) == []
    with pytest.raises(TaskError, match="no task 'age'"):
        add_tasks(str(workspace.root), names=["age"], now=CLOCK)


@pytest.mark.usefixtures("prefect_server")
def test_a_night_adds_due_tasks_at_its_end_and_a_failure_costs_no_span(tmp_path):
    tasks = '[tasks.broken]\nlabels = "nowhere.csv"\n' + TASKS
    workspace = with_tasks(make(tmp_path / "w", log(range(3))), tasks=tasks)
    made = nightly(str(workspace.root), files=[], now=CLOCK)
    assert made == [*VERSIONS[:2], f"u-{LATER[0]}.club"]  # shop's labels are of later days
    assert set(states(workspace).values()) == {"published"}
    assert users_current(workspace) is not None
    lines = {line.name: line for line in list_tasks(workspace)}
    assert lines["broken"].state == "failed"
    assert lines["club"].state == "learnt"


@pytest.mark.usefixtures("prefect_server")
def test_nights_leave_tasks_alone_where_the_settings_say_so(tmp_path):
    workspace = with_tasks(make(tmp_path / "w", log(range(2))))
    text = workspace.settings_file.read_text().replace('method = "conure"', 'method = "conure"\nnightly = false')
    workspace.settings_file.write_text(text)
    assert nightly(str(workspace.root), files=[], now=CLOCK) == VERSIONS[:1]
    assert users_rows(workspace) == {}


def test_the_command_line_goes_through_a_tasks_life(learnt, copy_of):
    workspace = with_tasks(copy_of(learnt), "peterrec")
    assert "due" in imsr(workspace, "task", "list").output
    added = imsr(workspace, "task", "add", "--due")
    assert added.exit_code == 0, added.output
    club = added.output.index(f"{CLUB} is live")
    assert club < added.output.index("task shop") < added.output.index(f"{SHOP} is live")  # each as soon as it is made
    again = imsr(workspace, "task", "add", "club").output
    assert ("learnt already" in again, "other labels" in again) == (True, False)
    assert "no task is due" in imsr(workspace, "task", "add", "--due").output
    assert "learnt already" in imsr(workspace, "task", "pretrain").output
    assert "club 1" in imsr(workspace, "task", "predict", "club", "--users", "u1,u2", "-n", "5").output
    told = imsr(workspace, "task", "predict", "club", "--users", "u1, nobody")
    assert (told.exit_code, "club 1" in told.output) == (0, True)  # one unknown id does not refuse the list
    assert "nothing is known of nobody" in told.output
    for_programs = imsr(workspace, "task", "predict", "club", "--users", "u1,nobody", "--json")
    assert json.loads(for_programs.stderr) == {"warning": "nothing is known of nobody"}
    assert {row["user_id"] for row in json.loads(for_programs.stdout)} == {"u1"}
    assert "backward transfer" in imsr(workspace, "task", "compare").output
    assert "change" in imsr(workspace, "task", "compare", CLUB, SHOP).output
    table = workspace.root / "club.csv"
    table.write_text(table.read_text().replace("club 4", "club four"))
    assert "to learn these: imsr task remove club" in imsr(workspace, "task", "add", "club").output
    assert "without-club" in imsr(workspace, "task", "remove", "club").output
    assert SHOP in imsr(workspace, "rollback", "--line", "users").output
    assert users_current(workspace) == SHOP
    assert CLUB in imsr(workspace, "promote", CLUB).output
    assert users_current(workspace) == CLUB
    assert T1 in imsr(workspace, "versions").output


def test_a_task_that_no_test_user_has_says_so(learnt, copy_of):
    workspace = with_tasks(copy_of(learnt))
    (workspace.root / "club.csv").write_text("who,club\nu1,a\nu2,b\n")
    added = imsr(workspace, "task", "add", "club")
    assert added.exit_code == 0
    assert "no user with a label is a test user: how good it is cannot be said" in added.output
    (workspace.root / "club.csv").write_text("who,club\n" + "".join(f"u{n},{n % 2}\n" for n in range(30)))
    assert "no user with a label" not in imsr(with_tasks(copy_of(learnt, "other")), "task", "add", "club").output


def test_a_failure_is_exit_code_1(taught, learnt, copy_of):
    workspace = with_tasks(copy_of(learnt), tasks=TASKS.replace("club.csv", "gone.csv"))
    assert "tasks       2 due; see: imsr task list" in imsr(workspace, "status").output
    failed = imsr(workspace, "task", "add", "--due")
    assert failed.exit_code == 1
    status = imsr(workspace, "status").output
    assert "tasks       2 learnt, 1 failed; see: imsr task list" in status
    assert f"club failed: there is no file {workspace.root / 'gone.csv'}" in status.replace("\n", "")
    told = json.loads(imsr(workspace, "status", "--json").stdout)["tasks"]
    assert [(each["name"], each["state"]) for each in told] == [
        ("T1", "learnt"),
        ("shop", "learnt"),
        ("club", "failed"),
    ]
    assert users_current(workspace) == SHOP
    refused = imsr(copy_of(taught("conure"), "conure"), "task", "remove", "club")
    assert isinstance(refused.exception, TaskError)
    unasked = imsr(workspace, "task", "add")
    assert "which task?" in str(unasked.exception)


def test_what_the_gate_rejects_is_exit_code_3(learnt, copy_of, monkeypatch):
    workspace = with_tasks(copy_of(learnt))
    learn = Conure.learn_task

    def touching(self, state, problem):
        child = learn(self, state, problem)
        touched = {name: each * 1.001 for name, each in child.tensors.items() if name.startswith("encoder/")}
        return child.replaced(touched)

    monkeypatch.setattr(Conure, "learn_task", touching)
    done = imsr(workspace, "task", "add", "club")
    assert done.exit_code == 3
    assert "rejected" in done.output
    assert users_current(workspace) == T1
