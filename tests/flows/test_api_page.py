"""The page of the API in a browser, where ids are as awkward as ids may be."""

from __future__ import annotations

import html
import re
import shutil
import socket
import subprocess
import threading
from importlib.resources import files
from urllib.parse import quote

import pytest
import uvicorn
from fastapi.responses import HTMLResponse
from small_world import NASTY_USER

from flows.api import application
from pipelines.serving.live import Live

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]
#: Says in the document how much wider it is than its window.
MEASURED = (
    "<script>setInterval(() => { document.title = document.documentElement.scrollWidth - innerWidth }, 50)</script>"
)


@pytest.fixture(scope="module")
def address(learnt):
    app = application(Live.open(learnt))
    page = files("flows").joinpath("try_it.html").read_text("utf-8").replace("</body>", f"{MEASURED}</body>")
    app.get("/measured")(lambda: HTMLResponse(page))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        serving.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        serving.join()


def seen(address: str, width: int = 500) -> str:
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000"]
    command += [f"--window-size={width},1000", "--dump-dom", address]
    return html.unescape(subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout)


def test_things_with_commas_in_their_ids_can_be_asked_for_and_sent(address):
    assert "1 of the 2 things are known" in seen(f"{address}/?item=i1&item={quote('a,b,c')}")
    assert "2 of the 3 things are known" in seen(f"{address}/?items=i1,i2,nothing")  # as earlier pages wrote it


def test_a_user_is_asked_for_as_written_and_then_without_the_space_around(address):
    assert "each with what speaks most for it" in seen(f"{address}/?user={quote(NASTY_USER)}")
    assert "each with what speaks most for it" in seen(f"{address}/?user=u1%20")


def test_a_long_id_is_not_wider_than_a_phone(address):
    found = seen(f"{address}/measured?user={'a' * 200}")
    assert "For user aaa" in found
    assert int(re.search(r"<title>(-?\d+)", found)[1]) <= 0
