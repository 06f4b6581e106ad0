"""`imsr bench`: methods side by side on one's own log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.answers import answer
from flows.commands.data import show_ingest
from flows.commands.options import current_time
from flows.console import console, show_table, span_progress
from imsr_core.config import InterestsConfig
from imsr_core.errors import ConfigError
from imsr_core.parts import EXTRACTORS
from imsr_core.strategies.protocol import Progress
from pipelines.bench.cells import Cell, CellFiles
from pipelines.bench.data import BenchError, load_bench_data
from pipelines.bench.figures import draw
from pipelines.bench.grid import Grid, Step, run_grid
from pipelines.bench.log import open_log
from pipelines.bench.rivals import RivalFiles
from pipelines.bench.search import Trial, as_toml, search, searchable
from pipelines.bench.summary import Scope, summaries
from pipelines.bench.sweep import Sweep
from pipelines.bench.tables import REFERENCES, report_path, write_report
from pipelines.bench.variants import VARIANTS, variants_named
from pipelines.workspace.layout import Workspace
from pipelines.workspace.places import folder_to_make

DEFAULT = (
    "popularity-last,popularity-decayed,personal,item-knn,counters,single-vector,fine_tune-literal,fine_tune,imsr,"
    "full_retrain"
)


Events = Annotated[list[Path] | None, typer.Argument(help="Event files, with --data.")]
Data = Annotated[
    Path | None, typer.Option("--data", exists=True, dir_okay=False, help="An imsr.toml for the event files.")
]
OfWorkspace = Annotated[
    Path | None, typer.Option("--workspace", "-w", help="Or a workspace whose spans are compared on.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the results; run again, it goes on.")]
Strategies = Annotated[str, typer.Option(help=f"Variants, with commas, or 'all': {', '.join(VARIANTS)}")]
Extractors = Annotated[str, typer.Option(help=f"With commas: {', '.join(EXTRACTORS)}. Without: that of the settings.")]
Seeds = Annotated[int, typer.Option(min=1, help="Chains of each variant, from [training] seed up.")]
Trials = Annotated[
    int, typer.Option("--search", min=0, help="Instead: choose settings of each variant on the tuning spans.")
]
SweepOf = Annotated[
    str,
    typer.Option(help="Sensitivity of one variant (imsr, or that of --strategies): detector.c1=0.3:0.5,trimmer.c2=0.3"),
]
Discover = Annotated[
    bool,
    typer.Option("--discover", help="Count only what is new to the user; what the user had is left out of lists."),
]
Compute = Annotated[bool, typer.Option("--compute/--found", help="--found: report what is there, and compute nothing.")]
Figures = Annotated[bool, typer.Option("--figures/--no-figures", help="Draw PNG files (needs matplotlib).")]


def bench(
    events: Events = None,
    data: Data = None,
    workspace: OfWorkspace = None,
    out: Out = Path("bench"),
    strategies: Strategies = DEFAULT,
    extractors: Extractors = "",
    seeds: Seeds = 3,
    trials: Trials = 0,
    sweep: SweepOf = "",
    discover: Discover = False,
    compute: Compute = True,
    figures: Figures = True,
) -> None:
    """Is it worth it on my log? Methods side by side, with what you would pick instead: counters, and rivals.

    Same loop, same loss, same evaluation; only the strategy differs. Each chain is tested on a span before it learns
    it. Prints and writes HR, NDCG and the relative improvement with intervals, costs, and what is forgotten:
    results.md, results.parquet, spans.png, gains.png. Results of other systems in OUT/rivals are taken in.
    """
    if (data is None) == (workspace is None):
        raise ConfigError("name a log, or a workspace", hint="imsr bench EVENTS... --data CONFIG, or: imsr bench -w .")
    variants = variants_named(list(VARIANTS) if strategies == "all" else _names(strategies))
    chosen = _extractors(extractors)
    opened = _open(events or [], data, workspace, folder_to_make(out))
    settings = opened.settings
    swept = _swept(sweep, strategies, settings.interests)
    spans = load_bench_data(opened, settings.bench, now=current_time())
    first = settings.training.seed
    grid = Grid(
        data=spans,
        config=settings.interests,
        variants=tuple(swept.variants if swept else variants),
        extractors=tuple(chosen or [settings.model.extractor]),
        seeds=tuple(range(first, first + seeds)),
        top_n=settings.evaluation.top_n,
    )
    files = CellFiles(out)
    scope = Scope(spans, grid.top_n, discover)
    if trials:
        _search(grid, files, trials, scope)
        return
    steps = [_show_step(step) for step in run_grid(grid, files, settings.bench, watch, compute=compute)]
    done = [(step.cell, step.result) for step in steps] + RivalFiles(out).all(spans, grid.top_n)
    if not done:
        raise BenchError(f"{out} holds no result of these variants yet", hint="leave --found out")
    text = write_report(done, scope, out, f"Methods side by side: {out.name}")
    console.print(text.split("\n## What each version")[0], markup=False, soft_wrap=True)
    written = [report_path(out, scope), out / "results.parquet"]
    lines = summaries(done, scope, REFERENCES)
    answer.add(map(asdict, lines), "methods")
    if figures:
        written += [*draw(done, lines, scope, out), *([swept.draw(lines, grid.top_n, out)] if swept else [])]
    answer.fact(written=written)
    console.print(f"written: {', '.join(map(str, written))}", soft_wrap=True)


def _swept(text: str, strategies: str, config: InterestsConfig) -> Sweep | None:
    if not text:
        return None
    named = _names(strategies) if strategies != DEFAULT else ["imsr"]
    if len(named) != 1:
        raise ConfigError(f"a sweep is of one variant, not of {len(named)}", hint="--strategies imsr, or leave it out")
    return Sweep.of(text, variants_named(named)[0], config)


def _open(events: list[Path], data: Path | None, workspace: Path | None, out: Path) -> Workspace:
    if workspace is not None:
        return Workspace.open(workspace)
    assert data is not None
    with console.status("reading the log"):
        opened, report = open_log(data, events, out, now=current_time())
    if report is not None and report.span_versions:
        show_ingest(report)
    return opened


def _extractors(text: str) -> list[str]:
    for name in _names(text):
        EXTRACTORS.named(name)
    return _names(text)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _search(grid: Grid, files: CellFiles, trials: int, scope: Scope) -> None:
    """Search for each variant with the first seed and extractor, and print what to put into the settings."""
    for variant in grid.variants:
        searchable(variant)
        first = next(cell for cell in grid.cells() if cell.variant is variant)
        found = list(search(first, scope, files, trials, watch))
        found.sort(key=lambda trial: -trial.score)
        keys = list(dict.fromkeys(key for trial in found for key in trial.settings))
        rows = [
            [trial.score, trial.hr, trial.ndcg, trial.seconds, *(trial.settings.get(key, "as given") for key in keys)]
            for trial in found
        ]
        tuned = ", ".join(span.id for span in grid.data.tested[: grid.data.tuning])
        head = ["score", f"HR@{grid.top_n}", f"NDCG@{grid.top_n}", "CPU s", *keys]
        told = [{"variant": variant.name, **trial_as_object(trial)} for trial in found]
        show_table(f"{variant.name}, {first.extractor}: scores on {tuned}", head, rows, part="trials", as_objects=told)
        best = found[0].settings
        console.print(f"best:\n\n{as_toml(best)}\n" if best else "the given settings are best\n", markup=False)


def trial_as_object(trial: Trial) -> dict[str, Any]:
    """A trial as JSON has it."""
    return {name: getattr(trial, name) for name in ("settings", "score", "hr", "ndcg", "seconds")}


@contextmanager
def watch(cell: Cell, number: int, total: int, left: tuple[float, float] | None) -> Iterator[Progress]:
    """Show a running cell."""
    with span_progress(f"{number}/{total} {cell.name} ({time_left(left)})") as progress:
        yield progress


def _show_step(step: Step) -> Step:
    what = "found" if step.found else f"{step.result.seconds:.0f} CPU s"
    console.print(f"{step.number}/{step.total} {step.cell.name}: {what}; {time_left(step.left)}")
    return step


def time_left(left: tuple[float, float] | None) -> str:
    """(least, most) seconds as people read it."""
    if left is None:
        return "no estimate yet"
    if left[1] == 0:
        return "nothing left"
    if left[1] < 60 and left[0] == left[1]:
        return f"{max(1, round(left[1]))} s of CPU"
    least, most = (seconds / 60 for seconds in left)
    return f"{most:.1f} min of CPU" if least == most else f"{least:.0f} to {most:.0f} min of CPU left"
