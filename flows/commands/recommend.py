"""`imsr recommend`: lists for users, from any version."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

from flows.answers import answer
from flows.commands.options import VersionOption, WorkspaceOption, current_time
from flows.console import say, show_table, warn
from imsr_core.counted import counted, plural
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
        float | None,
        typer.Option("--new-share", help="Share of the places for what is new; else [recommend] new_share."),
    ] = None,
    names: Annotated[
        bool, typer.Option("--names", help="Say what items and interests are called, by the table of [items].")
    ] = False,
    everybody: Annotated[
        bool, typer.Option("--all", help="Write everybody's lists to the view `recommendations`.")
    ] = False,
) -> None:
    """The best items of a user, best score first, each with the reason that it is there.

    A user whom the version has never seen gets what is in fashion.
    """
    opened = Workspace.open(workspace)
    how: dict[str, Any] = {"exclude_seen": new, "new_share": new_share}
    files = {name: (path, item_lines_of(path)) for name, path in (("exclude", exclude), ("only", only)) if path}
    if everybody and user:
        raise ConfigError("--all is for everybody, --user for one", hint="give one of the two")
    if everybody:
        from flows.holding import holding  # a list of one user needs none of what these bring along
        from pipelines.interests.list_job import write_lists

        with holding(opened, "imsr recommend --all", now=current_time):  # not while a user is being forgotten
            how |= items_named(Recommender.open(opened, version, users=[]), files)
            path = write_lists(opened, version, n, **how)
        answer.add([{"written": path}])
        say(f"written: {path}; see them: imsr sql 'FROM recommendations'")
        return
    if not user:
        raise ConfigError("recommend for whom?", hint="imsr recommend --user ID, or --all")
    recommender = Recommender.open(opened, version, users=user)
    how |= items_named(recommender, files)
    say_who_is_unknown(recommender, user)
    table = recommender.top_n(user, n, **how)
    if names:
        show_with_names(recommender, table.to_pylist())
        return
    show_table("", table.column_names, zip(*(table[name].to_pylist() for name in table.column_names), strict=True))


def show_with_names(recommender: Recommender, rows: list[dict[str, Any]]) -> None:
    """Lists as people read them: names in place of ids, and reasons in words."""
    from pipelines.insight.explain import Explainer  # see `recommend`
    from pipelines.insight.words import Words

    explainer = Explainer(recommender)
    words = Words(explainer.catalogue, recommender.version.vocabulary)
    told = []
    for user, own in groupby(rows, key=itemgetter("user_id")):
        told += words.of_list(list(own), explainer.labels_of(user))
    columns = ["user_id", "rank", "item_id", "name", "score", "why", "interest"]
    show_table("", columns, [[row.get(column) for column in columns] for row in told], as_objects=told)


def item_lines_of(path: Path) -> list[str]:
    """The lines of a file with an id on each, as written. Raises `ConfigError` if it cannot be read as that."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="a text file with one item id a line") from error
    return [line.removesuffix("\r") for line in text.split("\n")]  # an id may hold other ends of lines


def item_ids_in(lines: Sequence[str], recommender: Recommender) -> list[str]:
    """The ids that lines name, empty ones apart: as written; where the version knows no such item, as a field of CSV
    (in quotes, perhaps over several lines); else without the space around it."""
    unknown = set(recommender.unknown_items(lines))
    found, rest = [line for line in lines if line not in unknown], [line for line in lines if line in unknown]
    if any(line.lstrip().startswith('"') for line in rest):
        with suppress(csv.Error):
            rest = [",".join(row) for row in csv.reader(f"{line}\n" for line in rest)]
    unknown = set(recommender.unknown_items(rest))
    found += [line.strip() if line in unknown else line for line in rest]
    return [item_id for item_id in found if item_id]


def items_named(recommender: Recommender, files: Mapping[str, tuple[Path, Sequence[str]]]) -> dict[str, list[str]]:
    """The ids of each file by its option, and say how many of them the version does not know. Raises `ConfigError` for
    a file in which it knows none: that is hardly what was meant."""
    named = {}
    for option, (path, lines) in files.items():
        named[option] = ids = item_ids_in(lines, recommender)
        unknown = recommender.unknown_items(ids)
        if ids and len(unknown) == len(set(ids)):
            raise ConfigError(
                f"{path}: none of its {len(unknown):,} item ids is known to this version, the first is {unknown[0]!r}",
                hint="ids are compared letter by letter; the `items` view lists them",
            )
        if unknown:
            shown = ", ".join(repr(each) for each in unknown[:3])
            more = ", ..." if len(unknown) > 3 else ""
            few, of_all = len(unknown), counted(len(set(ids)), "item id")
            warn(f"{path}: {few:,} of {of_all} {plural(few, 'is')} not known to this version: {shown}{more}")
    return named


def say_who_is_unknown(recommender: Recommender, users: Sequence[str]) -> None:
    """Say which users the version does not know: what they get is nobody's own list, and an id may be mistyped."""
    names = list(dict.fromkeys(users))
    unknown = [name for name, known in zip(names, recommender.known(names).tolist(), strict=True) if not known]
    if not unknown:
        return
    shown = ", ".join(map(repr, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
    text = f"not known to version {recommender.version.row.version_id}, and shown what is in fashion: {shown}"
    several = next((name for name in unknown if _are_users(recommender, name)), None)
    if several is not None:
        text += "; several users: " + " ".join(f"--user {each.strip()}" for each in several.split(",")[:3])
    warn(text)


def _are_users(recommender: Recommender, name: str) -> bool:
    """Whether a name that no user has is those of several, with commas."""
    parts = [part.strip() for part in name.split(",")]
    return len(parts) > 1 and bool((recommender.version.vocabulary.users_of(pa.array(parts, pa.string())) >= 0).any())
