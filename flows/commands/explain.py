"""`imsr explain`: what the interests of a user mean."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.answers import answer
from flows.commands.options import VersionOption, WorkspaceOption, current_time
from flows.console import console, say, show_table, warn
from flows.holding import holding
from imsr_core.errors import ConfigError
from pipelines.insight.explain import Explainer
from pipelines.insight.sentences import sentences
from pipelines.lake.item_metadata import item_table
from pipelines.workspace.layout import Workspace
from pipelines.workspace.lease import LeaseHeld


def explain(
    user: Annotated[str | None, typer.Option("--user", help="A user id.")] = None,
    workspace: WorkspaceOption = Path("."),
    version: VersionOption = None,
    items: Annotated[int, typer.Option("--items", min=1, help="Nearest items to show of each interest.")] = 4,
    everybody: Annotated[
        bool, typer.Option("--all", help="Write everybody's nearest items to the view `interest_items`.")
    ] = False,
) -> None:
    """What each interest of a user stands for: its nearest items, the categories that stand out, its age and its use.

    First in sentences, then a line for each interest. With a table in imsr.toml's [items] the items have names and
    categories; without one an interest is named after its nearest item.
    """
    opened = Workspace.open(workspace)
    if not everybody and user is None:
        raise ConfigError("explain whose interests?", hint="imsr explain --user ID, or --all")
    _take_metadata(opened)
    explainer = Explainer.open(opened, version, users=None if everybody or user is None else [user])
    if everybody:
        with holding(opened, "imsr explain --all", now=current_time):  # not while a user is being forgotten
            path = explainer.write_all(items)
        say(f"written: {path}; see them: imsr sql 'FROM interest_items'")
    if user is None:
        answer.add([{"written": path}])
        return
    meanings = explainer.user(user, items=items)
    console.print(sentences(user, meanings), markup=False, soft_wrap=True)
    columns = ["interest", "about", "brings", "born", "last active", "items", "overlap", "drift"]
    columns += ["stands out", "nearest items"]
    rows = [
        [
            each.interest_id,
            each.label,
            f"{each.brings}/{each.of}",
            each.born_span,
            each.active_span,
            each.support,
            None if each.overlap is None else f"{each.overlap:.2f}",
            None if each.drift is None else f"{each.drift:.3f}",
            ", ".join(map(str, each.categories)) or None,
            ", ".join(dict.fromkeys(name for _, name in each.items)),
        ]
        for each in meanings
    ]
    shown = explainer.recommender.version.row.version_id
    show_table(f"user {user} as of version {shown}", columns, rows, wrap=True, as_objects=list(map(asdict, meanings)))
    console.print(
        "about: what stands out among the items nearest to the interest. brings: of the first recommendations, those "
        "nearest to it. items: what the user had in the last active span and belongs to it. overlap: likeness to the "
        "nearest older interest, 1 = the same. drift: how far a span moves it, 0 = not at all. stands out: a category, "
        "its share of the nearest items, and how many times its share of all items that is.",
        markup=False,
        soft_wrap=True,
    )


def _take_metadata(workspace: Workspace) -> None:
    """The table about items as it is now; beside a run that holds the workspace, as it was taken last."""
    table = item_table(workspace.settings)
    if table.is_current(workspace):
        return
    try:
        with holding(workspace, "imsr explain", now=current_time) as writer:
            table.keep(writer)
    except LeaseHeld:
        warn("the table of [items] changed, and a run holds the workspace: explained with the one before")
