"""Processor seconds and peak memory of a command.

A process counts what the one that began it had held as its own peak. So a small one, which holds nothing, begins it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Runs a command, whose output goes nowhere, and prints its processor seconds, its peak in kB and its exit code.
SMALL = """
import json, os, sys
child = os.fork()
if not child:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.execv(sys.argv[1], sys.argv[1:])
_, status, used = os.wait4(child, 0)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss, os.waitstatus_to_exitcode(status)]))
"""


def cost_of(command: Sequence[str], environment: Mapping[str, str], cwd: Path | None = None) -> tuple[float, int]:
    """Processor seconds and peak memory in bytes of ``command``. Exits where the command fails."""
    small = [sys.executable, "-I", "-S", "-c", SMALL, *command]
    run = subprocess.run(small, env=dict(environment), cwd=cwd, stdout=subprocess.PIPE, check=True)
    seconds, kilobytes, code = json.loads(run.stdout)
    if code:
        raise SystemExit(f"{' '.join(command)}: exit code {code}")
    return seconds, kilobytes * 1024
