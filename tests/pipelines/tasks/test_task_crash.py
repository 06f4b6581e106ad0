"""Adding a task is killed at every step, for real; the same command again ends as if it had not been."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from small_world import DAYS
from task_world import add, users_current, users_rows, with_tasks

from pipelines.care.doctor import Severity, examine
from pipelines.interests.recommend import Recommender
from pipelines.tasks.version import current_version
from pipelines.warehouse.catalog import connect
from pipelines.workspace.failpoints import VARIABLE, FailPoint
from pipelines.workspace.layout import Workspace

ADD = "from flows.cli import main; main()"
TASK_POINTS = [str(point) for point in FailPoint if point.startswith("task.")]
#: Each point while T1 is learnt, and again (:2) while the task is: labels are read for the task alone.
POINTS = [*TASK_POINTS, *(f"{point}:2" for point in TASK_POINTS if point != FailPoint.TASK_LABELS_KEPT)]
T1, CLUB = (f"u-{DAYS[-1]}.{name}" for name in ("T1", "club"))


def run(workspace, failure=""):
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    environment |= {VARIABLE: failure} if failure else {}
    command = [sys.executable, "-c", ADD, "task", "add", "club", "--workspace", str(workspace.root)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def content(workspace):
    """Everything that counts: versions with their bits, which is live, how often the pointer moved, the views."""
    with workspace.ledger.snapshot() as view:
        moves = [(move.previous, move.version_id) for move in view.promotions("users")]
    rows = users_rows(workspace).values()
    states = {row.version_id: (row.state, row.parent, row.fingerprint) for row in rows}
    files = {row.version_id: (workspace.resolve(row.path) / "state.safetensors").read_bytes() for row in rows}
    with connect(workspace) as connection:
        shown = connection.sql("SELECT task, version_id, score FROM tasks ORDER BY ALL").fetchall()
    kept = sorted(path.name for path in (workspace.root / "labels").rglob("*.parquet"))
    return moves, states, files, shown, kept, users_current(workspace)


@pytest.fixture(scope="module")
def declared(learnt, tmp_path_factory):
    """Two tasks are declared, none is learnt. Read only."""
    root = tmp_path_factory.mktemp("declared") / "workspace"
    shutil.copytree(learnt.root, root)
    return with_tasks(Workspace.open(root))


@pytest.fixture(scope="module")
def unkilled(declared, tmp_path_factory):
    root = tmp_path_factory.mktemp("unkilled") / "workspace"
    shutil.copytree(declared.root, root)
    done = run(Workspace.open(root))
    assert done.returncode == 0, done.stderr
    return content(Workspace.open(root))


def killed_then_finished(declared, copy_of, failure):
    workspace = copy_of(declared)
    killed = run(workspace, failure)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert Recommender.open(workspace).top_n(["u1"], 3).num_rows == 3  # the other line serves on
    live = current_version(workspace)
    assert live is None or live.state.task_names  # a reader sees a whole version or none
    assert [each for each in examine(workspace) if each.severity == Severity.ERROR] == []
    again = run(workspace)
    assert again.returncode == 0, again.stderr
    return workspace


def test_a_run_killed_before_the_pointer_moves_is_finished_by_the_next(declared, unkilled, copy_of):
    workspace = killed_then_finished(declared, copy_of, "task.before_promote:2")
    assert content(workspace) == unkilled
    assert unkilled[-1] == CLUB


@pytest.mark.slow
@pytest.mark.parametrize("failure", POINTS)
def test_killed_anywhere_the_same_command_ends_the_same(declared, unkilled, copy_of, failure):
    workspace = killed_then_finished(declared, copy_of, failure)
    assert content(workspace) == unkilled
    assert examine(workspace, deep=True) == []
    assert add(workspace, "club").already
