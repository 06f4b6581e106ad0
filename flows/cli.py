"""The command line: `imsr --help` is the table of contents."""

from __future__ import annotations

import errno
import sys

import duckdb
import typer

from flows.commands import (
    backfill,
    bench,
    care,
    data,
    demo,
    inspect,
    plan,
    promotion,
    recommend,
    refresh,
    restate,
    runs,
    serve,
    tasks,
)
from flows.console import errors
from flows.termination import end_cleanly_on_sigterm
from imsr_core.errors import ImsrError

app = typer.Typer(
    name="imsr",
    help="Incremental multi-interest recommendation over time spans: every night a new span, a new model version.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

START, WORK, CARE, LOOK = "Start", "Work", "Care", "Look"

app.command("demo", rich_help_panel=START)(demo.demo)
app.command("init", rich_help_panel=START)(data.init)
app.command("ingest", rich_help_panel=WORK)(data.ingest_files)
app.command("run", rich_help_panel=WORK)(runs.run)
app.command("backfill", rich_help_panel=WORK)(backfill.backfill)
app.command("restate", rich_help_panel=WORK)(restate.restate)
app.command("nightly", rich_help_panel=WORK)(serve.nightly)
app.command("serve", rich_help_panel=WORK)(serve.serve)
app.command("promote", rich_help_panel=WORK)(promotion.promote_version)
app.command("rollback", rich_help_panel=WORK)(promotion.rollback_version)
app.command("refresh", rich_help_panel=WORK)(refresh.refresh)
app.command("recommend", rich_help_panel=WORK)(recommend.recommend)
app.add_typer(tasks.app, name="task", rich_help_panel=WORK)
app.command("forget", rich_help_panel=CARE)(care.forget)
app.command("prune", rich_help_panel=CARE)(care.prune)
app.command("doctor", rich_help_panel=CARE)(care.doctor)
app.command("plan", rich_help_panel=LOOK)(plan.plan)
app.command("status", rich_help_panel=LOOK)(inspect.status)
app.command("versions", rich_help_panel=LOOK)(inspect.versions)
app.command("compare", rich_help_panel=LOOK)(promotion.compare_versions)
app.command("sql", rich_help_panel=LOOK)(inspect.sql)
app.command("bench", rich_help_panel=LOOK)(bench.bench)
app.command("views", rich_help_panel=LOOK)(inspect.views)


#: A disk that is full, broken or not ours to write to; other system errors are bugs and show where they are.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}


def main() -> None:
    """Run a command; an error of the user's or the disk's making is one message with what to do, and exit code 1."""
    end_cleanly_on_sigterm()
    try:
        app()
    except ImsrError as error:
        _fail(error.message, error.hint)
    except (OSError, duckdb.IOException) as error:
        if isinstance(error, OSError) and error.errno not in _DISK:
            raise
        _fail(str(error), "once the disk is in order run the command again: what is published is as it was")


def _fail(message: str, hint: str) -> None:
    errors.print(f"[red bold]error:[/] {_plain(message)}", soft_wrap=True)
    if hint:
        errors.print(f"  -> {_plain(hint)}", soft_wrap=True)
    sys.exit(1)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
