"""The tables of `benchmark_lifelong.py`, in Markdown, from the cells that it wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imsr_core.encoders.build import ENCODERS
from imsr_core.lifelong.references import LINEAR
from imsr_core.lifelong.transfer_matrix import backward_transfer, forgetting, forward_transfer

Cell = dict[str, Any]

#: Method -> how it is shown, and how many backbones n tasks need.
NAMES = {
    "dnn": ("DNN", "n"),
    "sinmo": ("SinMo", "n"),
    "sinmoall": ("SinMoAll", "1"),
    "finesmax": ("FineSmax = FineCLS", "1"),
    "finelast": ("FineLast", "1 + its end a task"),
    "fineall": ("FineAll", "n"),
    "mtl": ("MTL", "n"),
    "peterzero": ("PeterZero", "1, random"),
    "peterrec": ("PeterRec", "1"),
    "conure": ("Conure", "1"),
    "teracon": ("TERACON", "1"),
}

#: A model of its own for each task, which T1 gives nothing to.
ALONE = ("sinmo", "dnn")


def report(cells: Sequence[Cell]) -> str:
    """All tables of all data sets."""
    parts = []
    for dataset in dict.fromkeys(cell["dataset"] for cell in cells):
        known = [cell for cell in cells if cell["dataset"] == dataset]
        main = [cell for cell in known if cell["study"] == "main"]
        parts += [
            f"### {dataset}",
            _next_item(known),
            _scores(main),
            _against_linear(main),
            _costs(main),
            _sharing(main),
            _pruned(main),
            _overparameterised(known),
        ]
        if len(known) > len(main):
            parts += ["#### Studies", _studies(known)]
    return "\n\n".join(filter(None, parts)) + "\n"


def matrix_of(cell: Cell) -> NDArray[np.float64]:
    """R of a cell, NaN where a task is not learnt yet."""
    return np.array(cell["matrix"], dtype=np.float64)


def _scores(cells: Sequence[Cell]) -> str:
    """Final score of every task, mean and deviation over the seeds."""
    if not cells:
        return ""
    first = cells[0]
    header = ["", "seeds", *(f"{task} {metric}" for task, metric in zip(first["tasks"], first["metrics"], strict=True))]
    examples = [f"{np.mean([cell['test_examples'][n] for cell in cells]):.0f}" for n in range(len(first["tasks"]))]
    seeds = {cell["seed"]: cell for cell in cells}.values()
    rows = [
        ["labels", "", *map(str, first["labels"])],
        ["test examples", "", *examples],
        *_references(list(seeds)),
    ]
    for method, group in _by_method(cells):
        rows.append([NAMES[method][0], str(len(group)), *_means([matrix_of(cell)[-1] for cell in group])])
    return _table(header, rows)


def _next_item(cells: Sequence[Cell]) -> str:
    """T1 when it was learnt, by encoder (DNN's is `dssm`), beside the references; random backbones are left out."""
    groups: dict[str, dict[int, list[float]]] = {}
    metrics = ("hr@20", "ndcg@20", "mrr@5")
    for cell in cells:
        for name, values in cell["next_item"].items() if cell["method"] != "peterzero" else ():
            label = f"{name} ({NAMES[cell['method']][0]})" if cell["method"] in ("conure", "teracon") else name
            label = label if name in ENCODERS else f"*{name}*"
            groups.setdefault(label, {}).setdefault(cell["seed"], [values[metric] for metric in metrics])
    rows = [[name, str(len(seeds)), *_means(list(seeds.values()))] for name, seeds in groups.items()]
    return _table(["T1", "seeds", *metrics], rows) if rows else ""


def _references(cells: Sequence[Cell]) -> list[list[str]]:
    """A row for each score without an encoder; "-" where a task has none."""
    names = dict.fromkeys(name for cell in cells for task in cell["references"] for name in task)
    rows = []
    for name in names:
        values = np.array([[task.get(name, np.nan) for task in cell["references"]] for cell in cells])
        shown = zip(values.mean(axis=0), values.std(axis=0), strict=True)
        row = ["-" if np.isnan(mean) else f"{mean:.4f} ±{spread:.4f}" for mean, spread in shown]
        rows.append([f"*{name}*", str(len(cells)), *row])
    return rows


def _against_linear(cells: Sequence[Cell]) -> str:
    """Each task against *linear on items* of the same split: the mean difference over the splits, and its error."""
    if not cells:
        return ""
    tasks, rows = cells[0]["tasks"][1:], []
    for method, group in _by_method(cells):
        linear = [[task.get(LINEAR, np.nan) for task in cell["references"]][1:] for cell in group]
        gains = np.array([matrix_of(cell)[-1, 1:] for cell in group]) - np.array(linear)
        cellwise = [f"{gain:+.4f}" for gain in gains.mean(axis=0)]
        if len(group) > 1:
            errors = gains.std(axis=0, ddof=1) / len(group) ** 0.5
            cellwise = [f"{gain} ±{error:.4f}" for gain, error in zip(cellwise, errors, strict=True)]
        rows.append([NAMES[method][0], str(len(group)), *cellwise])
    return _table([f"less {LINEAR}", "seeds", *tasks], rows)


def _costs(cells: Sequence[Cell]) -> str:
    """What a task costs, and what it does to the others."""
    alone = {cell["seed"]: np.diag(matrix_of(cell)) for cell in cells if cell["method"] == "sinmo"}
    header = [
        "", "backbones", "parameters a task", "CPU s T1", "CPU s a task", "worst forgetting", "mean BWT", "mean FWT"
    ]  # fmt: skip
    rows = []
    for method, group in _by_method(cells):
        forward = [_forward(cell, alone.get(cell["seed"])) for cell in group]
        backward = [backward_transfer(matrix_of(cell))[:-1] for cell in group]
        lost = [forgetting(matrix_of(cell))[:-1].max() for cell in group]
        rows.append(
            [
                *NAMES[method],
                f"{np.mean([cell['parameters'][1:] for cell in group]):,.0f}",
                _number([cell["seconds"][0] for cell in group]),
                _number([np.mean(cell["seconds"][1:]) for cell in group]),
                _share(lost),
                _percent([row.mean() for row in backward]),
                _percent([row.mean() for row in forward if row is not None]),
            ]
        )
    return _table(header, rows) if rows else ""


def _sharing(cells: Sequence[Cell]) -> str:
    """What it costs to be shared: T2.. against the best model of the same size that is a task's alone (SinMo or DNN).

    Scores are means over the tasks after T1 of the final score against that model's; seconds and parameters are shares
    of SinMo's. A method that starts from T1 pays for it once: "with T1" spreads that over the tasks.
    """
    alone: dict[int, list[Cell]] = {}
    for cell in cells:
        if cell["method"] in ALONE:
            alone.setdefault(cell["seed"], []).append(cell)
    singles = {cell["seed"]: cell for cell in cells if cell["method"] == "sinmo"}
    rows = []
    for method, group in _by_method([cell for cell in cells if cell["seed"] in singles]):
        shares = []
        for cell in group:
            single = singles[cell["seed"]]
            best = np.max([matrix_of(each)[-1, 1:] for each in alone[cell["seed"]]], axis=0)
            later, whole = np.mean(cell["seconds"][1:]), np.sum(cell["seconds"]) / (len(cell["seconds"]) - 1)
            whole = later if method in ALONE else whole
            spent, size = np.mean(single["seconds"][1:]), np.mean(single["parameters"][1:])
            score = np.mean(matrix_of(cell)[-1, 1:] / best) - 1
            shares.append([score, later / spent, whole / spent, np.mean(cell["parameters"][1:]) / size])
        score, *costs = np.mean(shares, axis=0)
        rows.append([NAMES[method][0], f"{score:+.1%}", *(f"{cost:.0%}" for cost in costs)])
    header = ["T2.. to be shared", "score", "seconds", "seconds with T1", "parameters"]
    return _table(header, rows) if rows else ""


def _forward(cell: Cell, alone: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    return None if alone is None else forward_transfer(matrix_of(cell), alone)[1:]


def _pruned(cells: Sequence[Cell]) -> str:
    """Conure before and after pruning and retraining, on validation users."""
    found = [cell for cell in cells if cell["pruned"]]
    if not found:
        return ""
    rows = [
        [name, *_means([[phase[place] for phase in cell["pruned"]] for cell in found])]
        for place, name in enumerate(("Conure-", "pruned, not retrained", "Conure"))
    ]
    return _table(["on validation users", *found[0]["tasks"]], rows)


def _overparameterised(cells: Sequence[Cell]) -> str:
    """T1 on validation users against the share of the convolutions that was pruned, without and with retraining."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell["method"] == "conure" and (cell["study"] == "main" or cell["study"].startswith("pruned")):
            groups.setdefault("70%" if cell["study"] == "main" else cell["study"].split()[1], []).append(cell)
    if len(groups) < 2:
        return ""
    shares = sorted(groups, key=lambda share: float(share.rstrip("%")))
    rows = [[share, *_means([cell["pruned"][0] for cell in groups[share]])] for share in shares]
    return _table(["pruned", "T1 before", "not retrained", "retrained"], rows)


def _studies(cells: Sequence[Cell]) -> str:
    """Each variant against the main run of its method with the same seed: final scores, change in brackets."""
    mains = [cell for cell in cells if cell["study"] == "main"]
    tasks = max((cell["tasks"] for cell in mains or cells), key=len)
    finals = {(cell["method"], cell["seed"]): _final(cell) for cell in mains}
    studied = {cell["method"] for cell in cells if cell["study"] != "main"}
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if cell["study"].startswith("pruned"):
            continue
        if cell["study"] != "main" or cell["method"] in studied:
            groups.setdefault((cell["study"], cell["method"]), []).append(cell)
    rows = []
    for (study, method), group in sorted(groups.items(), key=lambda each: (each[0][0] != "main", each[0])):
        cellwise = []
        for task in tasks:
            values = np.array([_final(cell).get(task, np.nan) for cell in group])
            if np.isnan(values).all():
                cellwise.append("")
                continue
            before = np.array([finals.get((method, cell["seed"]), {}).get(task, np.nan) for cell in group])
            both = ~np.isnan(values) & ~np.isnan(before) & (study != "main")
            change = f" ({np.mean((values - before)[both] / before[both]):+.1%})" if both.any() else ""
            cellwise.append(f"{values.mean():.4f}{change}")
        several = [cell for cell in group if len(cell["tasks"]) > 1]
        lost = _share([forgetting(matrix_of(cell))[:-1].max() for cell in several])
        spent = _number([np.mean(cell["seconds"][1:]) for cell in several])
        rows.append([study, NAMES[method][0], str(len(group)), *cellwise, lost, spent])
    return _table(["study", "", "seeds", *tasks, "worst forgetting", "CPU s a task"], rows)


def _final(cell: Cell) -> dict[str, float]:
    return dict(zip(cell["tasks"], cell["matrix"][-1], strict=True))


def _by_method(cells: Sequence[Cell]) -> Iterable[tuple[str, list[Cell]]]:
    for method in NAMES:
        group = [cell for cell in cells if cell["method"] == method]
        if group:
            yield method, group


def _means(rows: Sequence[Sequence[float]]) -> list[str]:
    values = np.array(rows, dtype=np.float64)
    return [f"{mean:.4f} ±{spread:.4f}" for mean, spread in zip(values.mean(axis=0), values.std(axis=0), strict=True)]


def _summary(values: Sequence[float], show: Callable[[float], str]) -> str:
    finite = [value for value in values if not np.isnan(value)]
    return show(float(np.mean(finite))) if finite else "-"


def _share(values: Sequence[float]) -> str:
    return _summary(values, lambda value: f"{value:.1%}")


def _percent(values: Sequence[float]) -> str:
    return _summary(values, lambda value: f"{value:+.1%}")


def _number(values: Sequence[float]) -> str:
    return _summary(values, lambda value: f"{value:.1f}")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
