"""The command line: `imsr --help` is the table of contents."""

from __future__ import annotations

import errno
import gc
import signal
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from flows.answers import answer, complain
from flows.command_list import COMMANDS
from flows.console import errors, plain
from flows.forgotten_option import ForgivingGroup
from flows.next_command import keep_workspace
from flows.out_of_memory import ADVICE, lacks_memory
from flows.quick_end import ending_quickly
from flows.standard_streams import lost_words, never_fail_to_speak
from flows.termination import end_cleanly_on_sigterm
from imsr_core.errors import ImsrError
from pipelines.workspace.ending import raise_signal_behind
from pipelines.workspace.file_system import NOT_OURS, is_of_the_machine

app = typer.Typer(
    name="imsr",
    cls=ForgivingGroup.of("flows.commands", COMMANDS),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version  # brings the packages for mail and archives along

        try:
            typer.echo(f"imsr {version('imsr')}")
        except PackageNotFoundError:  # run from a checkout that was never installed
            typer.echo("imsr, not installed")
        raise typer.Exit


@app.callback()
def imsr(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show imsr's version.")
    ] = False,
) -> None:
    """Incremental multi-interest recommendation over time spans: every night a new span, a new model version."""


_FULL = {errno.ENOSPC, errno.EDQUOT}
#: What a file system does not know.
_LACKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}
#: Exit codes of commands that did what they were to do.
_DONE = {0, 3, 4}


def main() -> None:
    """The process of a command."""
    never_fail_to_speak()
    with ending_quickly(at_last=_with_what_was_lost):
        run_command()


def run_command() -> None:
    """Run a command; an error of the user's or the disk's making is one message with what to do, and exit code 1."""
    end_cleanly_on_sigterm()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name of a file may hold bytes that are no text
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except ImsrError as error:
        known = "memory" in error.hint or not lacks_memory(error)
        _fail(error.message, error.hint if known else ADVICE)
    except Exception as error:
        try:
            raise_signal_behind(error)
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        if lacks_memory(error):
            _fail(f"out of memory: {_first_line(error)}", ADVICE)
        if not _of_the_disk(error):
            raise
        _fail(str(error), f"{_advice_on(error)}: what is published is as it was")
    finally:
        gc.freeze()  # the process ends: to look for garbage among all modules would take a third of a second


def _of_the_disk(error: Exception) -> bool:
    """A disk that is full, broken or not ours to write to, whoever says so; other system errors are bugs and show where
    they are."""
    if isinstance(error, OSError):
        return is_of_the_machine(error) or error.errno in NOT_OURS | _LACKS
    duckdb, arrow = sys.modules.get("duckdb"), sys.modules.get("pyarrow")  # what was never imported raises nothing
    if duckdb is not None and isinstance(error, duckdb.Error):
        return isinstance(error, duckdb.IOException) or is_of_the_machine(error)
    return arrow is not None and isinstance(error, arrow.ArrowException) and is_of_the_machine(error)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _advice_on(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in NOT_OURS:
        return "this user may not write there, or the disk is read only"
    if isinstance(error, OSError) and error.errno in _FULL:
        return "make room on its disk and run the command again"
    return "once the disk is in order run the command again"


def _fail(message: str, hint: str) -> None:
    _tell(message, hint)
    sys.exit(1)


def _tell(message: str, hint: str) -> None:
    if answer.as_json:
        complain(message, hint)
        return
    errors.print(f"[red bold]error:[/] {plain(message)}", soft_wrap=True)
    if hint:
        errors.print(f"  -> {plain(keep_workspace(hint))}", soft_wrap=True)


def _with_what_was_lost(code: int) -> int:
    """The exit code of a command whose standard output may have gone nowhere; that it did is said."""
    lost = lost_words()
    if lost is None or code not in _DONE:
        return code
    _tell(
        f"the standard output cannot be written: {lost.strerror}",
        "what the command does is done, only its words are lost: make room where they go",
    )
    return code or 1
