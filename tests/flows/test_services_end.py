"""What runs until it is ended (`stream`, `api`) has done its work when it is: exit code 0, by whichever signal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from flows.commands.api import _listening
from imsr_core.errors import ConfigError
from pipelines.workspace.layout import Workspace

SIGNALS = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]

#: How a command's process begins, with the signals that a background job or nohup would ignore.
START = """
    import os, signal, sys, threading
    from pathlib import Path
    from contextlib import nullcontext
    from types import SimpleNamespace
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    from flows.termination import end_cleanly_on_sigterm
    end_cleanly_on_sigterm()

    serving = threading.Event()

    def ask():
        serving.wait()
        os.kill(os.getpid(), int(sys.argv[1]))
    threading.Thread(target=ask, daemon=True).start()
"""
SERVICES = {
    "api": """
    import uvicorn
    from fastapi import FastAPI
    from flows.commands import api
    served, workspace = SimpleNamespace(version_id="v"), SimpleNamespace(root="w")
    live = SimpleNamespace(served=served, workspace=workspace, watching=nullcontext)
    api.Live = SimpleNamespace(open=lambda _: live)
    api.application = lambda live, key: FastAPI()
    begun = uvicorn.Server.startup

    async def startup(self, sockets=None):
        await begun(self, sockets)
        serving.set()
    uvicorn.Server.startup = startup
    api.api(Path("."), port=0)""",
    "stream": """
    from flows.commands import stream
    from pipelines.stream.service import Service
    begun = Service.serve

    def serve(self, **options):
        serving.set()
        begun(self, **options)
    Service.serve = serve
    stream.stream(Path(sys.argv[2]), source="folder:" + sys.argv[2] + "/landing")""",
}


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_is_ended(tmp_path, service, number):
    script = textwrap.dedent(START) + textwrap.dedent(SERVICES[service])
    root = Workspace.create(tmp_path / "w").root
    words = [sys.executable, "-c", script, str(int(number)), str(root)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=os.environ | {"IMSR_LOG": "error"})
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_another_one_has():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="already in use") as refused:
        _listening("127.0.0.1", taken.getsockname()[1])
    assert "--port" in refused.value.hint


def test_a_port_that_is_none():
    with pytest.raises(ConfigError, match="80000"):
        _listening("127.0.0.1", 80_000)
