"""`imsr stream`: events as they happen, from a broker or a folder."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from flows.commands.options import WorkspaceOption, current_time
from flows.commands.runs import learn_all, lists_and_report
from flows.console import console
from flows.holding import holding
from flows.termination import hangs_up
from imsr_core.errors import ConfigError, ImsrError
from pipelines.lake.frozen import frozen_calendar
from pipelines.nights.plan import PlannedRun
from pipelines.stream.feed import Feed
from pipelines.stream.folder import FolderFeed
from pipelines.stream.group import own_group
from pipelines.stream.kafka import KafkaPlace, KafkaSource, read_client_file
from pipelines.stream.messages import MessageFeed
from pipelines.stream.service import Service
from pipelines.workspace.ending import Terminated, ask_to_end
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import Writer

FOLDER = "folder:"


def stream(
    workspace: WorkspaceOption = Path("."),
    source: Annotated[
        str,
        typer.Option("--from", help="kafka://HOST:PORT/TOPIC or folder:PATH.", show_default="[stream] source"),
    ] = "",
    drain: Annotated[bool, typer.Option("--drain", help="Take what there is now, and end.")] = False,
    learn: Annotated[bool, typer.Option("--learn/--no-learn", help="Learn each span when it is over.")] = True,
    skip_lost: Annotated[
        bool, typer.Option("--skip-lost", help="Go on though messages were deleted before they were read.")
    ] = False,
) -> None:
    """Write events to the lake as they come, each exactly once, and learn each span when it is over.

    A span is over when the watermark, the time up to which all partitions have delivered, has passed its end by
    [stream] allowed_lateness. Events that come later restate it, within [ingest] lookback_spans. SIGTERM or Ctrl-C ends
    the command after the batch that is being written. Several of these in one group share the partitions.
    """
    opened = Workspace.open(workspace)
    _require_calendar(opened)
    place = source or _from_settings(opened)
    feed = _feed(opened, place, skip_lost)
    service = Service(
        opened,
        feed,
        hold=lambda: holding(opened, "imsr stream", now=current_time),
        learn=_learn if learn else None,
        say=_say,
        clock=current_time,
    )
    try:
        _say(f"{place}: waits for {service.closing().waits_for}")
        with _ended_by_signals(service):
            service.serve(drain=drain)
    finally:
        feed.close()
    _say("ended; every batch is whole")


def _learn(runs: Sequence[PlannedRun], writer: Writer) -> None:
    learn_all(writer, runs)
    try:
        lists_and_report(writer)
    except ImsrError as error:  # the spans are learnt, and events go on; the next span makes them
        _say(f"lists and report are not made: {error.message}")


def _from_settings(workspace: Workspace) -> str:
    """``[stream] source``; a folder in it is looked for from the workspace's."""
    place = workspace.settings.stream.source
    if not place.startswith(FOLDER):
        return place
    return f"{FOLDER}{workspace.root / place.removeprefix(FOLDER)}"


def _feed(workspace: Workspace, place: str, skip_lost: bool) -> Feed:
    if place.startswith(FOLDER):
        return FolderFeed(workspace, Path(place.removeprefix(FOLDER)), _say, current_time())
    if not place.startswith("kafka://"):
        what = f"{place!r} is no stream" if place else "no stream is named"
        raise ConfigError(what, hint="--from kafka://HOST:PORT/TOPIC or --from folder:PATH")
    settings = workspace.settings.stream
    client = read_client_file(workspace.root / settings.client) if settings.client else {}
    source = KafkaSource(KafkaPlace.parse(place), settings.group or own_group(workspace), client, say=_say)
    return MessageFeed(workspace, source, current_time(), skip_lost=skip_lost)


def _require_calendar(workspace: Workspace) -> None:
    with workspace.ledger.snapshot() as view:
        if workspace.settings.spans.unit == "cut" and frozen_calendar(view) is None:
            raise ConfigError(
                "[spans] unit = 'cut' needs the whole log, and a stream has no end",
                hint="ingest a log first, or cut by hour, day, week or month",
            )


@contextmanager
def _ended_by_signals(service: Service) -> Iterator[None]:
    """The first SIGTERM, SIGINT or SIGHUP stops the service after its batch; while it learns it ends at once, as
    `imsr run` does: what was not finished is finished by the next run. A second one kills as usual."""

    def end(number: int, frame: FrameType | None) -> None:
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if each == signal.SIGINT else handler)
        service.stop.set()
        if service.learning:
            ask_to_end(code=128 + number)
            raise Terminated(128 + number)

    before: dict[int, Callable[..., object] | int | None] = {
        each: signal.signal(each, end)
        for each in (signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if hangs_up() else []))
    }
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _say(text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
