"""`imsr tune`: settings for a workspace, from the newest stretch of its own pre-training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.answers import answer
from flows.commands.bench import time_left, trial_as_object, watch
from flows.commands.options import WorkspaceOption, current_time
from flows.console import console, show_table
from imsr_core.counted import counted
from pipelines.bench.search import Trial
from pipelines.bench.tuning import TuningPlan, choose, note_of, plan_tuning, settings_line
from pipelines.settings.edit_toml import with_keys, with_note
from pipelines.settings.imsr_toml import load_settings
from pipelines.workspace.layout import Workspace
from pipelines.workspace.seal import write_atomic


def tune(
    workspace: WorkspaceOption = Path("."),
    trials: Annotated[int, typer.Option(min=1, help="Settings that are tried, those in force among them.")] = 12,
    users: Annotated[int, typer.Option(min=0, help="Try them on a random sample of so many users; 0 = all.")] = 0,
    discover: Annotated[
        bool, typer.Option("--discover", help="Count only what is new to the user: where nobody has a thing twice.")
    ] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Put the best in force, if users show with certainty that it is better.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be tried, and how long; no more.")] = False,
) -> None:
    """Find settings on the last two spans of the pre-training, and note them in imsr.toml with the evidence.

    First says what will be tried and how long that takes. Interrupted, the same command goes on. Without --apply no
    setting changes; with it, versions that are learnt from now on have the new ones (restate the first span to learn
    all of it anew).
    """
    opened = Workspace.open(workspace)
    with console.status("reading the pre-training, timing a moment of training"):
        plan = plan_tuning(opened, trials, now=current_time(), users=users, discover=discover)
    _show_plan(plan)
    if dry_run:
        answer.fact(tried=[], best=None, applied=False)
        console.print("dry run: nothing was changed")
        return
    found = []
    for trial in plan.trials(watch):
        found.append(trial)
        console.print(f"{len(found)}/{len(plan.cells)} {_line(trial)}", markup=False, soft_wrap=True)
    choice = choose(plan, found)
    put = apply and choice.is_certain
    note = note_of(plan, found, choice, current_time().date(), applied=put)
    text = opened.settings_file.read_text(encoding="utf-8-sig")
    changed = with_keys(text, choice.best.settings) if put else text
    changed = with_note(changed, "imsr tune", note)
    load_settings(text=changed)
    write_atomic(opened.settings_file, changed.encode())
    tried = [trial_as_object(trial) for trial in found]
    answer.fact(tried=tried, best=choice.best.settings, applied=put, note=note, written=opened.settings_file)
    console.print(f"\n{note}\n\nwritten: {opened.settings_file}", markup=False, soft_wrap=True)


def _show_plan(plan: TuningPlan) -> None:
    data = plan.scope.data
    events = [span.sequences.n_events for span in data.spans]
    console.print(
        f"pre-train on {data.spans[0].id} ({counted(events[0], 'event')}); test on {data.spans[1].id} ({events[1]:,}), "
        f"learn it, test on {data.spans[2].id} ({events[2]:,})",
        soft_wrap=True,
    )
    rows = [(n, settings_line(s), "found" if plan.files.get(c) else "") for n, (s, c) in enumerate(plan.cells, 1)]
    show_table(
        f"{counted(len(plan.cells), 'setting')} of {plan.first.variant.name}",
        ["", "settings", ""],
        rows,
        wrap=True,
        part="planned",
        as_objects=[{"settings": s, "found": plan.files.get(c) is not None} for s, c in plan.cells],
    )
    most = f"at most {time_left((plan.seconds, plan.seconds))}" if plan.todo else "all are found"
    console.print(f"{plan.todo} to try: {most}")


def _line(trial: Trial) -> str:
    return f"HR {100 * trial.hr:.2f} NDCG {100 * trial.ndcg:.2f}  {settings_line(trial.settings)}"
