"""`imsr demo`: the real job on the sample that comes with the code. Nothing is special-cased."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Annotated

import typer

import sample_data
from flows.answers import answer
from flows.commands.data import show_ingest
from flows.commands.options import current_time
from flows.commands.runs import run_due
from flows.console import console, say, show_outcomes
from flows.holding import holding
from pipelines.lake.ingest import ingest
from pipelines.settings.imsr_toml import as_new
from pipelines.warehouse.catalog import connect
from pipelines.workspace.layout import Workspace


def demo(
    folder: Annotated[Path, typer.Argument(help="Where to make the workspace.")] = Path("demo-workspace"),
) -> None:
    """A year of grocery shopping, month by month: ingest, Beam sequences, pre-training, eight nightly updates.

    The data are a cut of The Complete Journey (see sample_data/README.md). If the workspace is there already, the
    demo goes on where it was.
    """
    if (folder / "imsr.toml").exists():
        workspace = Workspace.open(folder)
    else:
        workspace = Workspace.create(folder, as_new((sample_data.path() / "imsr.toml").read_text(encoding="utf-8")))
        _bring_tables(workspace)
    files = sorted((sample_data.path() / "landing").iterdir())
    status = console.status(f"ingesting {len(files)} monthly files")
    with status, holding(workspace, "imsr demo", now=current_time) as writer:
        report = ingest(workspace, files, now=writer.now, writer=writer)
    show_ingest(report, then="")  # the demo goes on by itself
    outcomes = run_due(workspace)
    if outcomes:
        show_outcomes(outcomes, workspace.settings.evaluation.top_n, part="runs")
    else:
        answer.add([], "runs")
        console.print("nothing is due: the demo has run here before")
    answer.fact(workspace=workspace.root)
    with connect(workspace) as connection:
        busiest = "SELECT user_id FROM interactions GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"
        (user,) = connection.execute(busiest).fetchall()[0]
    typed = shlex.quote(str(folder))
    query = "SELECT span_id, avg(interests) FROM interest_counts GROUP BY 1 ORDER BY 1"
    say(f"\nworkspace: {workspace.root}\ntry next:")
    say(f"  imsr status -w {typed}")
    say(f"  imsr recommend -w {typed} --user {user} -n 10 --names")
    say(f"  imsr explain -w {typed} --user {user}")
    say(f"  imsr report -w {typed} --open")
    say(f"  imsr api -w {typed}     # then http://127.0.0.1:8000/?user={user} in a browser")
    say(f'  imsr sql -w {typed} "{query}"')


def _bring_tables(workspace: Workspace) -> None:
    """Copy the sample's tables about items and users to where its settings look for them."""
    for file in filter(None, (workspace.settings.items.metadata, workspace.settings.segments.users)):
        target = workspace.root / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sample_data.path() / target.name, target)
