"""What a user would pick instead of imsr, tuned and retrained: iALS, EASE, SASRec, on the very events of `imsr bench`.

    pip install -r tests/benchmarks/rivals/requirements.txt
    python tests/benchmarks/benchmark_rivals.py EVENTS... --data imsr.toml --out bench/mine --rivals ials,ease,sasrec
    imsr bench --data imsr.toml --out bench/mine --found          # the tables, rivals among them

Settings are chosen on the tuning spans only; then each rival is trained from scratch on all data before each reported
span. Ranks go to OUT/rivals/, where `imsr bench` finds them. Run again, it goes on.
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path

from rivals.ease import EASE
from rivals.ials import IALS
from rivals.ials_in_score import NAME as IALS_IN_SCORE
from rivals.ials_in_score import rank_ials_in_score
from rivals.item_knn import ITEM_KNN
from rivals.protocol import Rival
from rivals.sasrec import SASREC
from rivals.walk import Trial, Trials, rank_span, train

from pipelines.bench.cells import CellResult
from pipelines.bench.data import BenchData, load_bench_data
from pipelines.bench.kept import SpanRecord
from pipelines.bench.log import open_log
from pipelines.bench.rivals import RivalFiles

RIVALS = {rival.name: rival for rival in (ITEM_KNN, IALS, EASE, SASREC)}
NAMES = (*RIVALS, IALS_IN_SCORE)


def main() -> None:
    """Tune, retrain and rank."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", nargs="*", type=Path)
    parser.add_argument("--data", required=True, type=Path, help="an imsr.toml for the event files")
    parser.add_argument("--out", required=True, type=Path, help="the folder of `imsr bench`")
    parser.add_argument("--rivals", default=",".join(NAMES), help="with commas: " + ", ".join(NAMES))
    parser.add_argument("--trials", type=int, default=60, help="settings that are tried at most, for each aim")
    options = parser.parse_args()
    now = datetime.now(UTC)
    workspace, _ = open_log(options.data, options.events, options.out, now=now)
    data = load_bench_data(workspace, workspace.settings.bench, now=now)
    top_n, files = workspace.settings.evaluation.top_n, RivalFiles(options.out)
    for name in options.rivals.split(","):
        if name == IALS_IN_SCORE:
            trials = tune(IALS, data, top_n, files, options.trials)
            result, what = rank_ials_in_score(data, top_n, trials)
            files.put(name, what, data, top_n, result)
        else:
            compete(RIVALS[name], data, top_n, files, options.trials)


def tune(rival: Rival, data: BenchData, top_n: int, files: RivalFiles, most: int) -> Trials:
    """Settings for both tables, on the tuning spans; trials that were made before are read."""
    folder = files.path(rival.name).parent
    folder.mkdir(parents=True, exist_ok=True)
    trials = Trials(rival, data, top_n, folder / f"{rival.name}.{data.fingerprint}.{top_n}.trials.jsonl")
    for aims in (("everything", "unseen"), ("discover",)):
        for trial in trials.walk(*aims, most=most):
            print(f"{rival.name} {'/'.join(aims)}: {_line(trial)}", flush=True)
    return trials


def compete(rival: Rival, data: BenchData, top_n: int, files: RivalFiles, most: int) -> None:
    """Tune a rival, retrain it before each reported span, and keep its ranks."""
    trials = tune(rival, data, top_n, files, most)
    shown, found = trials.best("everything", "unseen"), trials.best("discover")
    unseen = shown.unseen > shown.everything
    result = CellResult(rival.name)
    for number in range(1 + data.tuning, len(data.spans)):
        span, started, wall = data.spans[number], time.process_time(), time.perf_counter()
        scores = train(rival, data, number, shown.settings)
        cost = (time.process_time() - started, time.perf_counter() - wall)
        everything, new = rank_span(scores, span, top_n)
        if found.settings != shown.settings:
            new_scores = train(rival, data, number, found.settings)
            result.discover[span.id] = rank_span(new_scores, span, top_n)[1]
        else:
            result.discover[span.id] = new
        result.ranks[span.id] = new if unseen else everything
        result.records.append(SpanRecord(data.spans[number - 1].id, *cost))
        print(f"{rival.name} before {span.id}: {cost[0]:.1f} CPU s", flush=True)
    result.seconds = sum(record.cpu_seconds for record in result.records)
    what = f"{rival.what}; {_settings(shown)}{', without what the user had' if unseen else ''}"
    files.put(rival.name, f"{what}; for discover {_settings(found)}", data, top_n, result)


def _line(trial: Trial) -> str:
    values = f"{trial.everything:.4f} {trial.unseen:.4f} {trial.discover:.4f}"
    return f"{_settings(trial)}: {values}, {trial.seconds:.1f} CPU s"


def _settings(trial: Trial) -> str:
    return ", ".join(f"{name} {value}" for name, value in trial.settings.items())


if __name__ == "__main__":
    main()
