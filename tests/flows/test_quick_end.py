"""A command's process ends at once, and still does all that waits for its end and says the same."""

from __future__ import annotations

import os
import subprocess
import sys
from textwrap import dedent, indent

import pytest

PLAIN, QUICK = "contextlib.nullcontext", "quick_end.ending_quickly"


def child(body: str, how: str = QUICK, **options: object) -> subprocess.CompletedProcess[str]:
    """A process whose main block is ``body``, ended in this way."""
    script = "import atexit, contextlib, logging, sys, tempfile, threading, time\nfrom flows import quick_end\n"
    script += f"with {how}():\n{indent(dedent(body).strip(), '    ')}\n"
    standard = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 60, "check": False}
    standard["env"] = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run([sys.executable, "-c", script], **(standard | options))


WAITING = """
    atexit.register(print, "registered")
    sys.modules["last"] = type("Last", (), {"__del__": lambda self: print("taken down")})()
    threading.Thread(target=lambda: (time.sleep(0.3), print("thread"))).start()
    folder = tempfile.TemporaryDirectory()
    print(folder.name)
    sys.stdout.write("no newline,")
    sys.exit(3)
"""


@pytest.mark.parametrize("how", [PLAIN, QUICK])
def test_everything_that_waits_for_the_end_is_done(how):
    ended = child(WAITING, how)
    folder, said, *rest = ended.stdout.splitlines()
    assert (ended.returncode, said, ended.stderr) == (3, "no newline,thread", "")
    assert rest == ["registered"] + ["taken down"] * (how == PLAIN)  # the one thing that is left out
    assert not os.path.exists(folder)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("sys.exit()", 0),
        ("sys.exit(0)", 0),
        ("sys.exit(143)", 143),
        ("sys.exit(-1)", 255),
        ("pass", 0),
        ("sys.exit('a text')", 1),
        ("raise ValueError('a bug')", 1),
    ],
)
def test_the_exit_code_and_what_is_said_are_the_same(body, code):
    plain, quick = (child(f"print('out')\n{body}", how) for how in (PLAIN, QUICK))
    assert (quick.returncode, quick.stdout) == (plain.returncode, plain.stdout) == (code, "out\n")
    assert quick.stderr.replace(QUICK, PLAIN) == plain.stderr


@pytest.mark.parametrize("body", ["print('lost')\nsys.exit(0)", "print('lost')\nsys.exit(3)"])
def test_what_cannot_be_written_is_said_as_ever(body):
    found = []
    for how in (PLAIN, QUICK):
        reading, writing = os.pipe()
        os.close(reading)
        ended = child(body, how, stdout=writing)
        os.close(writing)
        found.append((ended.returncode, ended.stderr))
    assert found[0] == found[1]
    assert found[1][0] == 120
    assert "BrokenPipe" in found[1][1]


def test_a_command_ends_so_and_what_it_printed_is_there(tmp_path):
    """Its output is larger than a pipe, and nothing of it is lost."""
    script = "import sys; from flows.cli import main; sys.argv[0] = 'imsr'; main()"
    command = [sys.executable, "-v", "-c", script, "views", "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert ended.returncode == 0
    assert ended.stdout.rstrip().endswith("╯")
    assert "# destroy" not in ended.stderr  # what -v says of each module that is taken down
