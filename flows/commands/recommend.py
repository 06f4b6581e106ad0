"""`imsr recommend`: lists for users, from any version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.answers import answer
from flows.commands.options import VersionOption, WorkspaceOption, current_time
from flows.console import console, show_table
from flows.holding import holding
from imsr_core.errors import ConfigError
from pipelines.interests.recommend import Recommender
from pipelines.workspace.layout import Workspace


def recommend(
    user: Annotated[list[str] | None, typer.Option("--user", help="A user id; may be repeated.")] = None,
    n: Annotated[int, typer.Option("-n", help="Items for each user.")] = 20,
    workspace: WorkspaceOption = Path("."),
    version: VersionOption = None,
    new: Annotated[bool, typer.Option("--new", help="Leave out what the user had before.")] = False,
    exclude: Annotated[
        Path | None, typer.Option("--exclude", help="A file of item ids, one a line, that are never shown.")
    ] = None,
    only: Annotated[
        Path | None, typer.Option("--only", help="A file of item ids, one a line: nothing else is shown.")
    ] = None,
    new_share: Annotated[
        float | None, typer.Option("--new-share", help="Share of the places for what is new; else [recommend].")
    ] = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="Write everybody's lists to the view `recommendations`.")
    ] = False,
) -> None:
    """The best items of a user, best score first, each with the reason that it is there.

    A user whom the version has never seen gets the most popular items of its last span.
    """
    opened = Workspace.open(workspace)
    how: dict[str, Any] = {"exclude_seen": new, "new_share": new_share}
    how |= {"exclude": item_ids_of(exclude) if exclude else [], "only": item_ids_of(only) if only else None}
    if everybody:
        with holding(opened, "imsr recommend --all", now=current_time):  # not while a user is being forgotten
            path = Recommender.open(opened, version).write_all(n, **how)
        answer.add([{"written": path}])
        console.print(f"written: {path}; see them: imsr sql 'FROM recommendations'")
        return
    if not user:
        raise ConfigError("recommend for whom?", hint="imsr recommend --user ID, or --all")
    table = Recommender.open(opened, version, users=user).top_n(user, n, **how)
    show_table("", table.column_names, zip(*(table[name].to_pylist() for name in table.column_names), strict=True))


def item_ids_of(path: Path) -> list[str]:
    """The ids of a file with one a line, empty lines apart. Raises `ConfigError` if it cannot be read as that."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="a text file with one item id a line") from error
    return [line.strip() for line in lines if line.strip()]
