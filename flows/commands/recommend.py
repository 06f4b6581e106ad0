"""`imsr recommend`: lists for users, from any version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import WorkspaceOption, current_time
from flows.console import console, show_table
from flows.holding import holding
from imsr_core.errors import ConfigError
from pipelines.interests.recommend import Recommender
from pipelines.workspace.layout import Workspace


def recommend(
    user: Annotated[list[str] | None, typer.Option("--user", help="A user id; may be repeated.")] = None,
    n: Annotated[int, typer.Option("-n", help="Items for each user.")] = 20,
    workspace: WorkspaceOption = Path("."),
    version: Annotated[str | None, typer.Option("--version", help="A version id; else the current one.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Leave out what the user had before.")] = False,
    everybody: Annotated[
        bool, typer.Option("--all", help="Write everybody's lists to the view `recommendations`.")
    ] = False,
) -> None:
    """The best items of a user: the union over the user's interests, best score first.

    A user whom the version has never seen gets the most popular items of its last span.
    """
    opened = Workspace.open(workspace)
    if everybody:
        with holding(opened, "imsr recommend --all", now=current_time):  # not while a user is being forgotten
            path = Recommender.open(opened, version).write_all(n, exclude_seen=new)
        console.print(f"written: {path}; see them: imsr sql 'FROM recommendations'")
        return
    if not user:
        raise ConfigError("recommend for whom?", hint="imsr recommend --user ID, or --all")
    table = Recommender.open(opened, version).top_n(user, n, exclude_seen=new)
    show_table("", table.column_names, zip(*(table[name].to_pylist() for name in table.column_names), strict=True))
