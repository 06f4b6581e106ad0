"""The small world with two label tables: `club` tells which favourites a user has, `shop` items of another shop."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

from small_world import NOW, user_name

from flows.holding import holding
from pipelines.tasks.adding import TaskOutcome, add_task, pretrain_users
from pipelines.tasks.gate import matrix_of
from pipelines.tasks.version import LINE, UserVersion
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import VersionRow

USERS = """
[users]
method = "{method}"
max_forgetting = {max_forgetting}
[users.encoder]
dim = 8
length = 8
dilations = [1, 2]
[users.split]
train = 0.6
validation = 0.1
[users.pretrain]
epochs = 2
[users.task]
epochs = 2
[users.retrain]
epochs = 1
"""
TASKS = """
[tasks.club]
labels = "club.csv"
user_id = "who"
label = "club"
[tasks.shop]
labels = "shop.csv"
kind = "items"
time = "day"
from_span = "2024-03-03"
"""


def with_tasks(
    workspace: Workspace, method: str = "conure", tasks: str = TASKS, *, max_forgetting: float = 1.0
) -> Workspace:
    """Add the `users` line and the label tables to a workspace; by default no task can forget too much."""
    text = workspace.settings_file.read_text(encoding="utf-8")
    users = USERS.format(method=method, max_forgetting=max_forgetting)
    workspace.settings_file.write_text(text + users + tasks, encoding="utf-8")
    write_csv(workspace.root / "club.csv", ["who", "club"], [[user_name(n), f"club {n % 5}"] for n in range(30)])
    rows = [[user_name(n), f"s{(n + k) % 4}", f"2024-03-0{4 + k}"] for n in range(30) for k in range(2)]
    write_csv(workspace.root / "shop.csv", ["user_id", "label", "day"], rows)
    return Workspace.open(workspace.root)


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    """A label table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def add(workspace: Workspace, name: str) -> TaskOutcome:
    """Add one task."""
    with holding(workspace, "test", now=NOW) as writer:
        return add_task(writer, name)


def pretrain(workspace: Workspace, *, anew: bool = False) -> TaskOutcome:
    """Learn T1."""
    with holding(workspace, "test", now=NOW) as writer:
        return pretrain_users(writer, anew=anew)


def predictions(workspace: Workspace, version_id: str, task: str, data_of: str) -> list[list[float]]:
    """The scores that a version gives the users of the version ``data_of``."""
    from pipelines.tasks.data import history

    version, other = UserVersion.open(workspace, version_id), UserVersion.open(workspace, data_of)
    return version.method.predict(version.state, task, history(other.tasks[-1].chain(workspace))).tolist()


def matrix(workspace: Workspace, version_id: str) -> list[list[float]]:
    """R as the ledger has it."""
    with workspace.ledger.snapshot() as view:
        return matrix_of(view, version_id).values.tolist()


def taught_copy(
    learnt: Workspace, root: Path, method: str = "conure", names: Sequence[str] = ("club", "shop")
) -> Workspace:
    """A copy of a learnt workspace whose `users` line has learnt these tasks."""
    shutil.copytree(learnt.root, root)
    workspace = with_tasks(Workspace.open(root), method)
    for name in names:
        assert add(workspace, name).version is not None
    return workspace


def users_current(workspace: Workspace) -> str | None:
    """The current version of the line."""
    with workspace.ledger.snapshot() as view:
        return view.pointer(LINE)


def users_rows(workspace: Workspace) -> dict[str, VersionRow]:
    """The versions of the line, by id."""
    with workspace.ledger.snapshot() as view:
        return {row.version_id: row for row in view.versions(LINE)}
