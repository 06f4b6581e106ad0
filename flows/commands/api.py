"""`imsr api`: the live version over HTTP."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import torch
import typer
import uvicorn
from fastapi import FastAPI

from flows.api import application
from flows.commands.options import WorkspaceOption
from flows.console import console
from flows.termination import hangs_up
from imsr_core.errors import ConfigError
from pipelines.serving.live import Live
from pipelines.workspace.ending import Terminated


def api(
    workspace: WorkspaceOption = Path("."),
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; not loopback: a key is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0: any.")] = 8000,
    key: Annotated[
        str | None, typer.Option("--key", envvar="IMSR_API_KEY", help="Key that requests must bring as X-API-Key.")
    ] = None,
) -> None:
    """Answer requests for recommendations from the live version, and from the next one as soon as it is live.

    The address in a browser is a page for people. GET /users/ID/recommendations, /users/ID/interests, POST
    /recommendations (a list of items: a session, a new user), GET /items/ID/similar, /items?q=NAME, /versions/current,
    /health, /metrics (Prometheus); /docs shows all with their parameters.
    """
    if not key and not _is_loopback(host):
        raise ConfigError(
            f"--host {host} can be reached from elsewhere, and there is no key",
            hint="set IMSR_API_KEY, or listen on 127.0.0.1",
        )
    torch.set_num_threads(1)  # one request, one thread: two at once would wait for each other
    live = Live.open(workspace)
    with live.watching(), _listening(host, port) as listening:
        console.print(
            f"version {live.served.version_id} of {live.workspace.root} on http://{host}:{listening.getsockname()[1]} "
            "(a page for people; /docs)",
            soft_wrap=True,
        )
        _serve(application(live, key), listening)


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises `ConfigError` if it cannot be had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        hint = "--port names another port; 0: any that is free"
        raise ConfigError(f"nothing can listen on {host}, port {port}: {reason}", hint=hint) from error


def _serve(app: FastAPI, listening: socket.socket) -> None:
    """Answer requests until SIGTERM, SIGHUP or Ctrl-C; those under way are answered, a second signal does not wait."""
    if hangs_up():
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))  # uvicorn knows no other
    server = uvicorn.Server(uvicorn.Config(app, log_level=os.environ.get("IMSR_LOG", "warning")))
    with suppress(Terminated, KeyboardInterrupt):  # a service is there to be ended
        server.run(sockets=[listening])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
