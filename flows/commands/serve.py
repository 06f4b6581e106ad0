"""`imsr nightly`, `imsr serve`: the nightly flow, once or by a schedule. Prefect is imported only here: it is slow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from flows.alerts import telling
from flows.answers import answer
from flows.commands.options import WorkspaceOption, current_time
from flows.commands.runs import REJECTED
from flows.console import console, warn
from flows.prefect_home import provide_prefect_home
from flows.serve import next_run, no_server, serve_nightly
from flows.server import DEFAULTS, HOST, prefect_server
from imsr_core.counted import counted
from imsr_core.errors import ConfigError, ImsrError
from pipelines.workspace.layout import Workspace
from pipelines.workspace.lease import LeaseHeld, is_held

LandingOption = Annotated[
    Path | None,
    typer.Option("--landing", help="Folder with new event files.", show_default="WORKSPACE/landing"),
]


def nightly(workspace: WorkspaceOption = Path("."), landing: LandingOption = None) -> None:
    """One night as a Prefect flow: ingest what has landed, learn what is due.

    The flow run shows up on the server of PREFECT_API_URL, or on a temporary one. `imsr ingest` and `imsr run` do the
    same without Prefect. The exit code is 3 if the gate rejected a version.
    """
    opened = Workspace.open(workspace)
    folder = _landing(opened, landing)
    prepare_prefect()
    if not os.environ.get("PREFECT_API_URL"):  # a temporary server would be waited for only to hear that
        _require_free(opened)
    from flows.nightly import nightly as flow

    try:
        versions = flow(str(opened.root), str(folder))
    except Exception as error:
        if (why := no_server(error)) is None:
            raise
        _cannot_begin(opened, why)
    console.print(f"new versions: {', '.join(versions)}" if versions else "nothing was due")
    with opened.ledger.snapshot() as view:
        rejected = [row.version_id for row in view.versions() if row.version_id in versions and row.state == "rejected"]
    answer.add({"version": version, "rejected": version in rejected} for version in versions)
    if rejected:
        console.print(f"rejected by the gate: {', '.join(rejected)}; see: imsr versions")
        raise typer.Exit(REJECTED)


def serve(
    workspace: WorkspaceOption = Path("."),
    cron: Annotated[str, typer.Option("--cron", help="When, in UTC: minute hour day month weekday.")] = "0 2 * * *",
    landing: LandingOption = None,
    port: Annotated[int, typer.Option("--port", help="Port of the Prefect server that is started.")] = 4200,
) -> None:
    """Run the nightly flow by a schedule on this machine, until Ctrl-C or SIGTERM.

    Starts a Prefect server on the loopback address with its UI, unless PREFECT_API_URL names one. One run at a time;
    the schedule is paused on the way out. A run that was cut off is finished by the next one.
    """
    opened = Workspace.open(workspace)
    folder = _landing(opened, landing)
    first = next_run(cron)
    prepare_prefect()

    with prefect_server(port) as server:
        console.print(f"Prefect: {server.url.removesuffix('/api')}     nightly by cron {cron!r} (UTC), Ctrl-C ends it")
        console.print(f"the first run is at {first:%Y-%m-%d %H:%M} UTC")
        if opened.settings.alerts.urls:
            from flows.automation import install_automation

            _, told = install_automation(opened)
            console.print(f"alerts go to {counted(told, 'receiver')}")
        serve_nightly(
            str(opened.root),
            cron=cron,
            landing=str(folder),
            name=opened.root.name,
            wait_for_server=server.process.wait if server.process else None,
        )


def _require_free(workspace: Workspace) -> None:
    with workspace.ledger.snapshot() as view:
        lease = view.lease() if is_held(view) else None
    if lease is not None and lease.holder is not None:
        _cannot_begin(workspace, LeaseHeld(lease.holder))


def _cannot_begin(workspace: Workspace, why: ImsrError) -> NoReturn:
    """A night that does not begin has failed for the receivers of [alerts], too."""
    with telling(workspace, "night", now=current_time(), say=warn):
        raise why


def _landing(workspace: Workspace, folder: Path | None) -> Path:
    chosen = (folder or workspace.root / "landing").absolute()
    if not chosen.is_dir():
        raise ConfigError(f"{chosen} is not a folder", hint="make it, or name another with --landing")
    return chosen


def prepare_prefect() -> None:
    """Set the environment before Prefect is imported; what is set already stays. Loopback needs no proxy."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    provide_prefect_home()
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), HOST, "localhost")))
