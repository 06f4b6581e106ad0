"""Where a Beam job runs: the runner and its flags, checked before anything starts.

Beam itself only warns about a flag it does not know, and its ``DirectRunner`` is a different engine with
and without internet (it tries to download one). Both are refused here.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Literal, NoReturn, get_args

from imsr_core.errors import ConfigError, ImsrError

Mode = Literal["in_memory", "multi_threading", "multi_processing"]
DASK_RUNNER = "apache_beam.runners.dask.dask_runner.DaskRunner"


class BeamJobError(ImsrError):
    """A Beam job failed, or did not end in time."""


@dataclass(frozen=True)
class RunnerOptions:
    """How to run a Beam job.

    Attributes:
        runner: a Beam runner by name, or by its full class path; "DaskRunner" is understood too.
        mode: FnApiRunner only: one process, several threads, or several processes on this machine.
        workers: FnApiRunner only: threads or processes; ``in_memory`` has 1.
        beam_flags: more Beam flags, as on a command line ("--flink_master=...", "--dask_client_address=...").
        timeout_seconds: when a job that workers run is given up. (Those of ``multi_processing`` log to stderr and
            listen on all network interfaces: not for an exposed host.)
        few_events: a span of fewer events needs no Beam where one process does the work anyway.

    Raises:
        ConfigError: a value that cannot work.
    """

    runner: str = "FnApiRunner"
    mode: Mode = "in_memory"
    workers: int = 1
    beam_flags: tuple[str, ...] = ()
    timeout_seconds: float = 3600.0
    few_events: int = 0

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ConfigError(f"[sequences] mode = {self.mode!r}", hint=f"use one of {', '.join(get_args(Mode))}")
        if self.workers < 1 or (self.mode == "in_memory" and self.workers > 1):
            raise ConfigError(
                f"[sequences] workers = {self.workers} with mode = {self.mode!r}",
                hint='use 1 worker with mode = "in_memory", or 2 and more with another mode',
            )
        if self.runner.lower().removesuffix("runner") in ("direct", "switchingdirect"):
            raise ConfigError(
                f"[sequences] runner = {self.runner!r}: Beam picks another engine by what it can download",
                hint='use runner = "FnApiRunner"',
            )
        if self.timeout_seconds <= 0:
            raise ConfigError(f"timeout_seconds = {self.timeout_seconds}", hint="give a positive number")

    @property
    def is_fn_api(self) -> bool:
        """Whether this is Beam's local reference runner."""
        return self.runner.rsplit(".", 1)[-1].lower() in ("fnapirunner", "fnapi")

    @property
    def is_dask(self) -> bool:
        """Whether this is Beam's Dask runner."""
        return self.runner.rsplit(".", 1)[-1].lower() in ("daskrunner", "dask")

    @property
    def can_lose_workers(self) -> bool:
        """Whether the work is done in other processes, which can die alone."""
        return not self.is_fn_api or self.mode == "multi_processing"

    @property
    def is_one_process(self) -> bool:
        """Whether all the work is done here, one task after the other: then nothing needs Beam."""
        return self.is_fn_api and self.workers == 1 and not self.beam_flags

    def is_too_little_for_beam(self, events: int) -> bool:
        """Whether so many events are built sooner than Beam is imported."""
        return events < self.few_events and self.is_one_process

    def flags(self, partitions: int) -> list[str]:
        """The Beam command line of a job with this many elements.

        Raises:
            ConfigError: a flag that Beam does not know, or a value that it does not take.
        """
        if self.is_fn_api:
            own = [f"--direct_running_mode={self.mode}", f"--direct_num_workers={self.workers}"]
            own.append("--runner=FnApiRunner")
        elif self.is_dask:
            own = [f"--runner={DASK_RUNNER}"]
            # Dask puts 128 elements into one partition: unasked, one worker would get every bucket.
            if not any(flag.startswith(("--dask_npartitions", "--dask_partition_size")) for flag in self.beam_flags):
                own.append(f"--dask_npartitions={partitions}")
        else:
            own = [f"--runner={self.runner}"]
        flags = own + list(self.beam_flags)
        _check_flags(flags, self.is_dask)
        return flags


def import_beam() -> ModuleType:
    """Import Apache Beam without its warning about an optional Google library."""
    before, handlers = logging.root.manager.disable, list(logging.root.handlers)
    logging.disable(logging.WARNING)
    try:
        import apache_beam
    finally:
        logging.disable(before)
        # The silenced warning has still installed a handler on the root logger.
        logging.root.handlers[:] = handlers
    return apache_beam


@contextmanager
def importable_workers() -> Iterator[None]:
    """Let worker processes that start inside this context import this project."""
    before = os.environ.get("PYTHONPATH")
    root = str(Path(__file__).resolve().parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join([root, before]) if before else root
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextmanager
def silent_workers() -> Iterator[None]:
    """Let Beam not print the traceback of an error in a worker, which reaches the caller anyway."""
    logger = logging.getLogger("apache_beam.runners.common")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def deadline(seconds: float, what: str) -> Iterator[Callable[[str], None]]:
    """Raise ``BeamJobError`` in the main thread when the body is not done in time (wall clock, seconds), or when some
    thread calls the function that this yields, with the reason.

    An alarm of somebody else that was already set goes on afterwards.

    Raises:
        BeamJobError: the time is over; or this is not the main thread, where no alarm can interrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        raise BeamJobError(
            f"{what}: a job with worker processes must start in the main thread, or it could hang for ever",
            hint='call the step directly (not submitted to a thread), or use mode = "in_memory"',
        )

    reasons: list[str] = []

    def give_up(_signal: int, _frame: FrameType | None) -> NoReturn:
        if not reasons:
            reasons.append(f"not done after {seconds:g} seconds; a worker process may have been killed")
        raise BeamJobError(
            f"{what}: {reasons[0]}",
            hint="look for an out-of-memory kill, use fewer workers or more buckets, then run the span again",
        )

    def at_once(reason: str) -> None:
        if not reasons:  # once: the second would interrupt whoever is putting things away
            reasons.append(reason)
            signal.setitimer(signal.ITIMER_REAL, 0.001)

    handler = signal.signal(signal.SIGALRM, give_up)
    begun = time.monotonic()
    remaining, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield at_once
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if remaining:
            signal.setitimer(signal.ITIMER_REAL, max(remaining - (time.monotonic() - begun), 0.001))


class _FlagParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"Beam flags: {message}", hint="see the pipeline options of your runner")


def _check_flags(flags: list[str], dask: bool) -> None:
    import_beam()
    from apache_beam.options.pipeline_options import PipelineOptions

    if dask:
        _import_dask_options()
    parser = _FlagParser(allow_abbrev=False, add_help=False, conflict_handler="resolve")
    for options in {str(options): options for options in PipelineOptions.__subclasses__()}.values():
        options._add_argparse_args(parser)  # type: ignore[arg-type]
    _, unknown = parser.parse_known_args(flags)
    if unknown:
        name = unknown[0].split("=")[0]
        near = difflib.get_close_matches(name, parser._option_string_actions, n=1)
        raise ConfigError(
            f"Beam does not know the flag {unknown[0]!r}",
            hint=f"did you mean {near[0]}?" if near else "see the pipeline options of your runner",
        )


def _import_dask_options() -> None:
    try:
        import apache_beam.runners.dask.dask_runner  # noqa: F401  (its flags register themselves)
        import distributed  # noqa: F401
    except ImportError as error:
        raise ConfigError("the Dask runner needs Dask", hint="pip install 'imsr[dask]'") from error
