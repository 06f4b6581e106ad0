"""`imsr export`: a version as files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from flows.answers import answer
from flows.commands.options import VersionOption, WorkspaceOption
from flows.console import console, errors, progress_is_shown, say
from pipelines.serving.ann import told
from pipelines.serving.export import export as write_export
from pipelines.workspace.layout import Workspace
from pipelines.workspace.places import folder_to_make


def export(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    workspace: WorkspaceOption = Path("."),
    version: VersionOption = None,
    lists: Annotated[int, typer.Option("--lists", min=0, help="Items of everybody's list to write; 0: no lists.")] = 0,
    new: Annotated[bool, typer.Option("--new", help="Leave out of the lists what the user had.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Lists as CSV instead of Parquet.")] = False,
    ann: Annotated[
        bool, typer.Option("--ann", help="Also an index of the item vectors (faiss), with its measured recall.")
    ] = False,
) -> None:
    """Write a version to a folder: item vectors, interests and lists as Parquet, the model as safetensors with its
    configuration and a model card (the layout of a Hugging Face repository).

    The folder is a copy: a user who is forgotten afterwards is still in it.
    """
    opened = Workspace.open(workspace)
    with Progress(console=errors, transient=True, disable=not progress_is_shown()) as bar:
        task = bar.add_task("lists", total=None, visible=bool(lists))
        path = write_export(
            opened,
            folder_to_make(out),
            version,
            lists=lists,
            new=new,
            csv=csv,
            ann=ann,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    answer.add([{"written": file} for file in sorted(path.iterdir())])
    names = ", ".join(sorted(file.name for file in path.iterdir()))
    say(f"written: {path}: {names}")
    if ann:
        console.print(f"index: {told(path)}", soft_wrap=True)
