"""Alerts: people are told of a night that failed, was rejected, is late, or had too much in quarantine.

Receivers stand in imsr.toml, [alerts] urls; the nightly flow tells them by itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.alerts import report
from flows.answers import answer
from flows.commands.options import WorkspaceOption, current_time
from flows.console import console, show_table, warn
from imsr_core.counted import counted
from imsr_core.errors import ConfigError, ImsrError
from pipelines.alerts.telling import read_note, tell, try_receivers
from pipelines.alerts.troubles import Trouble, troubles, unreadable
from pipelines.workspace.layout import Workspace

app = typer.Typer(no_args_is_help=True, add_completion=False, help=(__doc__ or "").splitlines()[0])

_NONE = 'name somebody in imsr.toml: [alerts] urls = ["env:IMSR_ALERT_URL"] (an apprise URL in that variable)'


class UndeliveredError(ImsrError):
    """Receivers that did not take a message."""


@app.command("test")
def try_out(workspace: WorkspaceOption = Path(".")) -> None:
    """Send a message that says it is a test to every receiver; the exit code is 1 if one did not take it.

    A receiver is called by its place in [alerts] urls and its kind: URLs hold secrets, and none is ever shown.
    """
    opened = _with_receivers(workspace)
    deliveries = try_receivers(opened, now=current_time())
    rows = [[each.receiver, each.problem or "taken"] for each in deliveries]
    show_table("", ["receiver", "answer"], rows, wrap=True)
    if failed := [each.receiver for each in deliveries if each.problem]:
        raise UndeliveredError(f"not taken: {', '.join(failed)}", hint="mend its URL in [alerts], and try again")


@app.command("check")
def check(
    workspace: WorkspaceOption = Path("."),
    send: Annotated[bool, typer.Option("--send/--dry-run", help="Tell what is new; or only look.")] = True,
) -> None:
    """Look what is wrong now, and tell what is new of it: by cron, also where no night runs any more.

    Reads the ledger, also while a run writes. What was told is not told again; what nobody took is.
    """
    opened = Workspace.open(workspace)
    found = _looked_at(opened, send=send)
    known = set(read_note(opened).told)
    rows = [[each.kind, each.text, each.hint, "told" if each.key in known else "new"] for each in found]
    show_table("", ["kind", "what", "next", "state"], rows, wrap=True, part="troubles")
    if not found:
        console.print("nothing is wrong")
    answer.fact(sent=[], problems=[])
    if not send:
        return
    if not opened.settings.alerts.urls:
        warn(f"nobody is told: {_NONE}")
        return
    told = tell(opened, found, now=current_time())
    report(told, console.print)
    answer.fact(sent=[each.text for each in told.troubles], problems=told.problems)
    if told.deliveries and len(told.problems) == len(told.deliveries):
        raise UndeliveredError("nobody took it", hint="imsr alerts test says why; the next check tries again")


def _looked_at(workspace: Workspace, *, send: bool) -> list[Trouble]:
    """What is wrong; that settings or ledger cannot be read at all is told, too."""
    try:
        return troubles(workspace, now=current_time())
    except ImsrError as error:
        if send:
            report(tell(workspace, [unreadable(error)], now=current_time(), whole=False), warn)
        raise


@app.command("install")
def install(workspace: WorkspaceOption = Path(".")) -> None:
    """Have the Prefect server of PREFECT_API_URL tell what no run can: that none began in time, or that it was killed.

    Makes an automation and, for each receiver, a block that keeps its URL encrypted; given again it writes them anew.
    `imsr serve` does it by itself for a server of its own.
    """
    opened = _with_receivers(workspace)
    from flows.commands.serve import prepare_prefect

    prepare_prefect()
    from flows.automation import install_automation

    name, number = install_automation(opened)
    answer.add([{"automation": name, "receivers": number}])
    console.print(
        f"automation {name!r} tells {counted(number, 'receiver')} of runs that are late or were killed", markup=False
    )


def _with_receivers(folder: Path) -> Workspace:
    opened = Workspace.open(folder)
    if not opened.alerts.urls:
        raise ConfigError("nobody is to be told: [alerts] urls is empty", hint=_NONE)
    return opened
