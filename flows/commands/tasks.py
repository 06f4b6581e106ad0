"""Tasks of the `users` line: one encoder of users that keeps learning what you label.

Tasks are declared in imsr.toml; `imsr task ...` adds them to the line and asks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.answers import Shown, answer, objects
from flows.commands import completion
from flows.commands.options import VersionOption, WorkspaceOption, current_time
from flows.commands.runs import REJECTED
from flows.console import console, show_table, warn
from flows.holding import holding
from flows.task_progress import task_progress
from imsr_core.counted import counted
from imsr_core.errors import ConfigError, ImsrError
from imsr_core.lifelong.tasks import BASE_TASK
from pipelines.tasks.adding import TaskOutcome, pretrain_users, try_task
from pipelines.tasks.due import due_tasks
from pipelines.tasks.moves import take_out
from pipelines.tasks.predict import TaskPredictor
from pipelines.tasks.table import TaskLine, compare_tasks, list_tasks, transfer_of
from pipelines.workspace.layout import Workspace

app = typer.Typer(no_args_is_help=True, add_completion=False, help=(__doc__ or "").splitlines()[0])


@app.command("add")
def add(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", autocompletion=completion.tasks, help="Tasks of imsr.toml."),
    ] = None,
    workspace: WorkspaceOption = Path("."),
    due: Annotated[bool, typer.Option("--due", help="All that are due: declared, and their span is learnt.")] = False,
) -> None:
    """Learn tasks: a new version each, which goes live if the gate lets it; T1 is learnt first where there is none.

    A task that is learnt already is left alone; a run that was killed goes on where it was. The exit code is 3 if
    the gate rejected a version, 1 if a task failed.
    """
    if bool(names) == due:
        raise ConfigError("which task?", hint="imsr task add NAME, or --due for all that are due")
    opened = Workspace.open(workspace)
    failures: dict[str, ImsrError] = {}
    outcomes: list[TaskOutcome] = []
    with holding(opened, "imsr task add", now=current_time) as writer:
        for name in due_tasks(opened) if due else names or ():
            with task_progress() as progress:
                found = try_task(writer, name, progress=progress)
            if isinstance(found, ImsrError):
                if not due:
                    raise found
                failures[name] = found
                continue
            outcomes.append(found)
            show_task_outcomes([found])  # at once: the next one may take long
    if not outcomes and not failures:
        console.print("no task is due; see: imsr task list")
    for name, error in failures.items():
        warn(f"task {name} failed: {error}")
    if failures:
        raise typer.Exit(1)
    exit_if_rejected(outcomes)


@app.command("pretrain")
def pretrain(
    workspace: WorkspaceOption = Path("."),
    anew: Annotated[bool, typer.Option("--anew", help="Begin another line; its tasks are then due again.")] = False,
) -> None:
    """Learn T1, the next item, on the sequences of all learnt spans: what every task starts from.

    `imsr task add` does it by itself where the line has no version yet.
    """
    opened = Workspace.open(workspace)
    with holding(opened, "imsr task pretrain", now=current_time) as writer, task_progress() as progress:
        outcome = pretrain_users(writer, anew=anew, progress=progress)
    if outcome.already and not outcome.rejected:
        console.print(f"T1 is learnt already, in version {_version(outcome)}; --anew begins another line")
        return
    show_task_outcomes([outcome])
    exit_if_rejected([outcome])


@app.command("list")
def list_all(workspace: WorkspaceOption = Path(".")) -> None:
    """Every task: learnt, due, waiting for its span, held (taken back) or failed, with its score and what it costs."""
    lines = list_tasks(Workspace.open(workspace))
    if not lines:
        console.print("no task is declared; add a [tasks.NAME] section to imsr.toml", markup=False)
        return
    shown = [
        "name", "state", "kind", "version", "labels", "n_labels", "metric", "score", "to_beat", "forgotten",
        "capacity_left", "parameter_share", "why",
    ]  # fmt: skip
    shown = [column for column in shown if any(getattr(line, column) is not None for line in lines)]
    titles = {"name": "task", "n_labels": "classes/items", "version": "learnt in"}
    columns = [titles.get(column, column.replace("_", " ")) for column in shown]
    show_table("", columns, [_cells(line, shown) for line in lines], as_objects=[asdict(line) for line in lines])


@app.command("predict")
def predict(
    name: Annotated[
        str,
        typer.Argument(autocompletion=completion.tasks, help=f"A task of the version; {BASE_TASK} is the next item."),
    ],
    user: Annotated[list[str] | None, typer.Option("--user", help="A user id; may be repeated.")] = None,
    users: Annotated[str, typer.Option("--users", help="User ids with commas between them.")] = "",
    n: Annotated[int, typer.Option("-n", help="Labels for each user.")] = 3,
    workspace: WorkspaceOption = Path("."),
    version: VersionOption = None,
    last: Annotated[int, typer.Option("--history", min=0, help="Beside it the user's last items, this many.")] = 0,
    called: Annotated[str, typer.Option("--names", help="Column of the items' metadata to call them by.")] = "",
) -> None:
    """What a version says of users, from all that they have done in the learnt spans: the best labels first.

    Users of whom nothing is known are named on standard error; with none but those the exit code is 1.
    """
    wanted = [*(user or ()), *filter(None, map(str.strip, users.split(",")))]
    if not wanted:
        raise ConfigError("predict for whom?", hint=f"imsr task predict {name} --users ID,ID or --user ID")
    predictor = TaskPredictor.open(Workspace.open(workspace), name, version)
    known = [user for user, found in zip(wanted, predictor.known(wanted), strict=True) if found]
    if unknown := [user for user in wanted if user not in set(known)]:
        warn(f"nothing is known of {', '.join(unknown)}")
    table = predictor.top_n(known or wanted, n)
    if last or called:
        found = predictor.histories(known, last or 5, called)
        beside = [", ".join(found[user_id]) for user_id in table["user_id"].to_pylist()]
        table = table.append_column("last items, newest first", [beside])
    show_table("", table.column_names, zip(*(column.to_pylist() for column in table.columns), strict=True))


@app.command("compare")
def compare(
    first: Annotated[
        str | None,
        typer.Argument(autocompletion=completion.versions, help="A version of the users line; unset: the current one."),
    ] = None,
    second: Annotated[str | None, typer.Argument(autocompletion=completion.versions, help="Another one.")] = None,
    workspace: WorkspaceOption = Path("."),
) -> None:
    """What learning did to the tasks. With two versions: their scores side by side. Else the matrix R.

    R has a row for each version on the way to FIRST: how well it does every task, on the same test users. Below it:
    the same scores without an encoder (the most frequent labels, a linear model on the items, what followed the last
    item before), backward transfer, the relative change since the task was learnt, and what was forgotten.
    """
    opened = Workspace.open(workspace)
    if first and second:
        pairs = compare_tasks(opened, first, second)
        rows = [[pair.name, pair.metric, pair.first, pair.second, _percent(pair.change)] for pair in pairs]
        show_table("", ["task", "metric", first, second, "change"], rows)
        return
    found = transfer_of(opened, first)
    matrix = found.matrix
    columns = ["version", *(f"{task} {metric}" for task, metric in zip(matrix.tasks, matrix.metrics, strict=True))]
    rows = [
        [version, *(_fixed(value) for value in row)]
        for version, row in zip(matrix.versions, matrix.values.tolist(), strict=True)
    ]
    for name in dict.fromkeys(name for task in matrix.tasks for name in found.references.get(task, {})):
        rows.append([name, *(_fixed(found.references.get(task, {}).get(name)) for task in matrix.tasks)])
    rows.append(["backward transfer", *(_percent(value) for value in found.backward.tolist())])
    rows.append(["forgotten", *(_percent(value) for value in found.forgotten.tolist())])
    show_table("", columns, rows)


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(autocompletion=completion.tasks, help="A task of the current version.")],
    workspace: WorkspaceOption = Path("."),
) -> None:
    """Take one task out: a new version in which all others answer as before, bit for bit.

    Refused where others rest on it (conure) or share every weight with it (teracon): see `imsr rollback --line users`.
    """
    opened = Workspace.open(workspace)
    with holding(opened, "imsr task remove", now=current_time) as writer:
        outcome = take_out(writer, name)
    show_task_outcomes([outcome])
    exit_if_rejected([outcome])


def show_task_outcomes(outcomes: Sequence[TaskOutcome]) -> None:
    """What was done, a line or two and a table for each."""
    for outcome in outcomes:
        if outcome.already and not outcome.rejected:
            console.print(f"task {outcome.name} is learnt already, in version {_version(outcome)}")
            if outcome.outdated:
                console.print(
                    f"  from other labels than its table has now; to learn these: imsr task remove {outcome.name}, "
                    f"then imsr task add {outcome.name}",
                    markup=False,
                )
            answer.add(
                [{"added": outcome.name, "version": _version(outcome), "already": True, "outdated": outcome.outdated}]
            )
            continue
        report = outcome.report
        if report is not None:
            unused = report.why_not()
            console.print(
                f"labels: {report.used:,} of {counted(report.read, 'row')} used{f' ({unused})' if unused else ''}"
            )
        known = outcome.verdict.forgetting if outcome.verdict else {}
        rows = [[s.name, s.main, _fixed(s.value), s.n, _percent(known.get(s.name))] for s in outcome.scores]
        live = "rejected" if outcome.rejected else "live"
        took = f", {outcome.seconds:.1f} s" if outcome.seconds else ""
        title = f"task {outcome.name}: version {_version(outcome)} is {live}{took}"
        columns = ["task", "metric", "score", "test examples", "forgotten"]
        made = {"added": outcome.name, "version": _version(outcome), "rejected": outcome.rejected, "already": False}
        show_table(title, columns, rows, as_objects=[{**made, "scores": objects(columns, rows)}])
        if any(s.name == outcome.name and not s.n for s in outcome.scores):
            console.print("  no user with a label is a test user: how good it is cannot be said", markup=False)
        for reason in outcome.verdict.reasons if outcome.verdict else ():
            console.print(f"  rejected: {reason}", markup=False)


def exit_if_rejected(outcomes: Sequence[TaskOutcome]) -> None:
    """End with code 3 if the gate rejected a version."""
    if any(outcome.rejected for outcome in outcomes):
        raise typer.Exit(REJECTED)


def _version(outcome: TaskOutcome) -> str:
    return outcome.version.version_id if outcome.version else "none"


def _cells(line: TaskLine, columns: Sequence[str]) -> list[object]:
    cells: dict[str, object] = {column: getattr(line, column) for column in columns}
    for column in ("forgotten", "capacity_left", "parameter_share"):
        if column in cells:
            cells[column] = _percent(getattr(line, column))
    if "score" in cells:
        cells["score"] = _fixed(line.score)
    return list(cells.values())


def _fixed(value: float | None) -> Shown | None:
    return Shown.as_(value, ".4f")


def _percent(value: float | None) -> Shown | None:
    return Shown.as_(value, ".1%")
