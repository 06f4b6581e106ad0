"""A task taken back: rolled back, taken out, or refused with the reason; and it is not added again by itself."""

import pytest
from small_world import DAYS, NOW, VERSIONS, current
from task_world import add, predictions, users_current, users_rows

from flows.holding import holding
from flows.lines import pointer_for
from imsr_core.lifelong.errors import TaskError
from pipelines.tasks import learning as task_learning
from pipelines.tasks.due import HELD, due_tasks, notes
from pipelines.tasks.moves import put_users_live, roll_users_back, take_out
from pipelines.tasks.version import UserVersion, current_version
from pipelines.versions.lineage import VersionError
from pipelines.versions.pointer import GateError

T1, CLUB, SHOP = (f"u-{DAYS[-1]}.{name}" for name in ("T1", "club", "shop"))
WITHOUT = f"u-{DAYS[-1]}.without-club"


def roll_back(workspace, to=None):
    with holding(workspace, "test", now=NOW) as writer:
        return roll_users_back(writer, to=to)


def put_live(workspace, version_id):
    with holding(workspace, "test", now=NOW) as writer:
        return put_users_live(writer, version_id, "by hand")


def remove(workspace, name):
    with holding(workspace, "test", now=NOW) as writer:
        return take_out(writer, name)


def held(workspace):
    with workspace.ledger.snapshot() as view:
        return {name for name, note in notes(view, workspace).items() if note["state"] == HELD}


def test_rolling_back_goes_to_the_parent_and_holds_the_task(taught, copy_of):
    workspace = copy_of(taught("conure"))
    move = roll_back(workspace)
    assert (move.previous, move.version_id) == (SHOP, CLUB)
    assert users_current(workspace) == CLUB
    assert held(workspace) == {"shop"}
    assert due_tasks(workspace) == []
    roll_back(workspace)
    assert users_current(workspace) == T1
    assert held(workspace) == {"club", "shop"}
    with pytest.raises(VersionError, match="first of its chain"):
        roll_back(workspace)
    assert current(workspace) == VERSIONS[-1]  # the other line did not move


def test_a_task_that_was_taken_back_is_found_when_it_is_asked_for_again(taught, copy_of, monkeypatch):
    workspace = copy_of(taught("conure"))
    roll_back(workspace)
    monkeypatch.setattr(task_learning, "get_method", None)  # nothing is learnt again
    assert add(workspace, "shop").version.version_id == SHOP
    assert users_current(workspace) == SHOP
    assert held(workspace) == set()
    assert list(users_rows(workspace)) == [T1, CLUB, SHOP]


def test_going_back_to_a_version_by_name_and_forth_again(taught, copy_of):
    workspace = copy_of(taught("conure"))
    roll_back(workspace, to=T1)
    assert users_current(workspace) == T1
    assert put_live(workspace, SHOP).previous == T1
    assert held(workspace) == set()
    assert put_live(workspace, SHOP) is None
    with pytest.raises(VersionError, match="was never live"):
        roll_back(workspace, to=VERSIONS[0])
    with pytest.raises(VersionError, match="users line has no version"):
        put_live(workspace, VERSIONS[0])
    assert pointer_for(workspace, SHOP).line == "users"
    assert pointer_for(workspace, VERSIONS[0]).line == "interests"


def test_without_a_version_there_is_nothing_to_roll_back(learnt, copy_of):
    with pytest.raises(VersionError, match="no current version yet"):
        roll_back(copy_of(learnt))


def test_a_damaged_version_does_not_go_live(taught, copy_of):
    workspace = copy_of(taught("conure"))
    (UserVersion.open(workspace, CLUB).folder / "state.safetensors").write_bytes(b"no")
    with pytest.raises(GateError, match="cannot go live"):
        roll_back(workspace)
    assert users_current(workspace) == SHOP


def test_peterrec_takes_a_task_out_and_the_others_stay_bit_for_bit(taught, copy_of):
    workspace = copy_of(taught("peterrec"))
    outcome = remove(workspace, "club")
    assert not outcome.rejected
    assert users_current(workspace) == outcome.version.version_id == WITHOUT
    version = current_version(workspace)
    assert [task.name for task in version.tasks] == ["T1", "shop"]
    assert not any("club" in name for name in version.state.tensors)
    for task in ("T1", "shop"):
        assert predictions(workspace, WITHOUT, task, SHOP) == predictions(workspace, SHOP, task, SHOP)
    assert held(workspace) == {"club"}
    assert due_tasks(workspace) == []
    assert add(workspace, "club").version.parent == WITHOUT
    assert predictions(workspace, users_current(workspace), "club", SHOP) == predictions(workspace, SHOP, "club", SHOP)


@pytest.mark.parametrize(
    ("method", "task", "says"),
    [
        ("conure", "club", "the later tasks shop compute with its weights"),
        ("conure", "shop", "trained by now"),
        ("teracon", "club", "all tasks share every weight"),
        ("peterrec", "T1", "all other tasks stand on it"),
        ("peterrec", "age", "has no task 'age'"),
    ],
)
def test_what_cannot_be_taken_out_is_refused_with_the_reason(taught, copy_of, method, task, says):
    workspace = copy_of(taught(method))
    before = users_current(workspace), list(users_rows(workspace)), held(workspace)
    with pytest.raises(TaskError, match=says) as caught:
        remove(workspace, task)
    assert caught.value.hint
    assert (users_current(workspace), list(users_rows(workspace)), held(workspace)) == before
