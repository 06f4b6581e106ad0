"""`imsr plan`: what would run and why. Writes nothing."""

from __future__ import annotations

from pathlib import Path

from flows.answers import answer
from flows.commands.options import WorkspaceOption, current_time
from flows.console import console
from flows.planned import show_begun_otherwise, show_missing_nights, show_rebuilding, show_runs
from imsr_core.counted import counted
from pipelines.lake.landing import landed
from pipelines.nights.plan import due, nothing_due
from pipelines.tasks.labels import labels_problem
from pipelines.workspace.layout import Workspace


def plan(workspace: WorkspaceOption = Path(".")) -> None:
    """Say what the next run would do and why, and which nights brought no data; writes nothing."""
    opened = Workspace.open(workspace)
    now = current_time()
    runs = due(opened, now=now)
    show_runs(opened, runs, part="runs")
    if not runs:
        console.print(nothing_due(opened, now=now), markup=False, soft_wrap=True)
    show_missing_nights(opened, now)
    show_rebuilding(opened)
    show_begun_otherwise(opened, runs)
    for name in opened.settings.tasks:
        problem = labels_problem(opened, name)
        if problem:
            console.print(f"problem: {problem}", style="yellow", markup=False)
    files = landed(opened)
    answer.fact(landing=[file.name for file in files])
    if files:
        there = counted(len(files), "file")
        console.print(f"landing has {there}; `imsr ingest` and `imsr nightly` read those that are new")
