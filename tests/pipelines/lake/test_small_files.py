"""Many small files read in one go give what each gives by itself: rows, quarantine, counts, errors."""

import dataclasses
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_cases import NOW, events, make_workspace, span_rows

from imsr_core.errors import ImsrError
from pipelines.lake import ingest as ingesting
from pipelines.lake.ingest import ingest
from pipelines.workspace.layout import Workspace

SETTINGS = {
    "auto": '[source]\nvalue = "rating"\nevent_type = "kind"\n',
    "picky": '[source]\nvalue = "rating"\nmin_value = 2\nevent_type = "kind"\nkeep_events = ["buy", "view"]\n'
    'item_pattern = "i(.*)"\n',
    "formats": '[source]\nvalue = "rating"\nevent_type = "kind"\ntime_format = ["%d/%m/%Y", "s", "iso8601"]\n',
    "no header": '[source]\ncolumns = ["user_id", "item_id", "timestamp", "rating", "kind"]\n',
    "few rows": "[ingest]\nmax_rows_per_file = 3\n",
}
HEADER = ("user_id", "item_id", "timestamp", "rating", "kind")


def one_row(chance: random.Random) -> list[str]:
    us = 1_704_067_200 + chance.randrange(86_400 * 90)
    return [
        chance.choice(["u1", "u2", "ü3", "7", "7.0", "", "NULL", "u,4" if chance.random() < 0.1 else "u5"]),
        f"i{chance.randrange(6)}" if chance.random() < 0.95 else "x",
        str(us),
        chance.choice(["3", "1.5", "NULL", "x", "nan", ""]),
        chance.choice(["buy", "view", "", "look"]),
    ]


def a_file(chance: random.Random) -> tuple[str, bytes]:
    """A name and the content of a file: mostly plain, sometimes with what makes a file no plain one."""
    rows = [one_row(chance) for _ in range(chance.randrange(5))]
    form = chance.choice(["s", "s", "s", "ms", "iso", "slashes", "odd"])
    for row in rows:
        second = int(row[2])
        row[2] = {
            "s": str(second),
            "ms": str(second * 1000),
            "iso": f"2024-0{1 + second % 3}-0{1 + second % 9}T01:02:03Z",
            "slashes": f"0{1 + second % 9}/0{1 + second % 3}/2024",
            "odd": chance.choice([str(second), "never", "-5", f"{second}000", "2024-02-30"]),
        }[form]
    kind = chance.choice(["csv", "csv", "csv", "tsv", "semicolon", "inter", "jsonl", "parquet"])
    if kind == "parquet":
        return f"{chance.choice('abc')}.parquet", as_parquet(chance, rows, form)
    if kind == "jsonl":
        import json

        lines = [json.dumps(dict(zip(HEADER, row, strict=True)), ensure_ascii=False) for row in rows]
        lines = [line if chance.random() < 0.95 else chance.choice(["{", "null", "[]", "  ", ""]) for line in lines]
        text = "\n".join(lines) + chance.choice(["\n", ""])
        return f"{chance.choice('abc')}.jsonl", text.encode()
    mark = {"csv": ",", "tsv": "\t", "semicolon": ";", "inter": "\t"}[kind]
    header = [f"{name}:token" for name in HEADER] if kind == "inter" else list(HEADER)
    header = [*header, "more"] if chance.random() < 0.1 else header
    rows = [[*row, "m"][: len(header)] for row in rows]
    lines = [mark.join(row) for row in [header, *rows]]
    text = "\n".join(lines) + chance.choice(["\n", ""])
    match chance.randrange(24):
        case 0:
            text = text.replace("\n", "\r\n")
        case 1:
            text = "\ufeff" + text
        case 2:
            text = text.replace("u1", '"u1')
        case 3:
            text = text.replace("u2", '"u2"')
        case 4:
            text += "\n\n"
        case 5:
            text += mark.join(["u9", "i9"])
        case 6:
            return f"l.{'inter' if kind == 'inter' else 'csv'}", text.encode("latin-1", "replace")
        case 7:
            text = text.replace("item_id", "thing_id")
        case 8:
            text = text.replace("u5", "u\0")
        case 9:
            text = text.replace("\n", f"{mark}\n")
    ending = {"csv": "csv", "tsv": "tsv", "semicolon": "txt", "inter": "inter"}[kind]
    return f"{chance.choice('abc')}.{ending}", text.encode()


def as_parquet(chance: random.Random, rows: list[list[str]], form: str) -> bytes:
    """The rows in columns of types that somebody's writer might have chosen."""
    table = pa.table({name: pa.array([row[n] for row in rows], pa.string()) for n, name in enumerate(HEADER)})
    match chance.randrange(9):
        case 0 if form in ("s", "ms"):
            table = table.set_column(2, "timestamp", table["timestamp"].cast(pa.int64()))
        case 1 if form == "s":
            seconds = table["timestamp"].cast(pa.int64()).cast(pa.timestamp("s"))
            table = table.set_column(2, "timestamp", seconds.cast(pa.timestamp("us", "UTC")))
        case 2:
            table = table.set_column(0, "user_id", table["user_id"].dictionary_encode())
        case 3:
            table = table.set_column(0, "user_id", pa.array([7.0, None, float("nan"), 2.5][: len(rows)], pa.float64()))
        case 4:
            table = table.append_column("more", pa.array([[1]] * len(rows), pa.list_(pa.int64())))
        case 5:
            table = table.rename_columns(["user_id", "thing_id", *HEADER[2:]])
        case 6:
            table = table.set_column(3, "rating", pa.array([True, False, None, True][: len(rows)], pa.bool_()))
        case 7:
            table = table.set_column(1, "item_id", table["item_id"].cast(pa.binary()))
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression=chance.choice(["none", "snappy", "zstd"]))
    data = buffer.getvalue().to_pybytes()
    return data if chance.random() < 0.9 else data[: len(data) // 2]


def ingested(workspace: Workspace, folder, monkeypatch, many: int, **options):
    """Everything that an ingest leaves and says, with so many small files as make a crowd."""
    monkeypatch.setattr(ingesting, "_MANY", many)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    try:
        report = ingest(workspace, files, now=NOW, tolerant=True, **options)
    except ImsrError as error:
        return error.message
    files = [dataclasses.asdict(file) | {"refused": file.refused.replace("together", "")} for file in report.files]
    batch = [pq.read_table(path).to_pylist() for path in sorted(workspace.root.glob("quarantine/*.parquet"))]
    rows = [dataclasses.asdict(row) for row in report.span_versions]
    return {
        "files": files,
        "reasons": report.reasons,
        "spans": rows,
        "events": events(workspace),
        "quarantine": batch,
        "warnings": report.warnings,
    }


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("seed", range(6))
def test_together_is_as_one_by_one(tmp_path, monkeypatch, settings, seed):
    chance = random.Random(f"{settings} {seed}")
    folder = tmp_path / "files"
    for number in range(40):
        name, data = a_file(chance)
        path = folder / f"{number:02d}" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    found = [
        ingested(make_workspace(tmp_path / f"w{many}", SETTINGS[settings]), folder, monkeypatch, many)
        for many in (1, 1000)
    ]
    for what, together in found[0].items():
        assert together == found[1][what]


def test_what_is_plain_is_read_together(tmp_path, monkeypatch):
    """Not one of these files is read by itself; the others are."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02d}.csv").write_text(f"user_id,item_id,timestamp\nu{number},i,{1_704_067_200 + number}\n")
        table = pa.table({"user_id": [f"p{number}"], "item_id": ["i"], "timestamp": [1_704_067_200 + number]})
        pq.write_table(table, folder / f"{number:02d}.parquet")
    (folder / "quoted.csv").write_text('user_id,item_id,timestamp\n"u",i,1704067200\n')
    alone = []
    from pipelines.lake.intake import Intake

    load = Intake.load
    monkeypatch.setattr(
        Intake, "load", lambda self, n, file, *more: alone.append(file.name) or load(self, n, file, *more)
    )
    workspace = make_workspace(tmp_path / "w")
    report = ingest(workspace, [folder], now=NOW)
    assert (report.kept, alone) == (61, ["quoted.csv"])
    assert {row["source"] for row in span_rows(workspace, "2024-01")} == {path.name for path in folder.iterdir()}


def test_a_file_that_changes_between_finding_and_reading_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.csv").write_text(f"user_id,item_id,timestamp\nu{number},i,1704067200\n")
    load_small = ingesting._load_small

    def changed(*arguments):
        (folder / "3.csv").write_text("user_id,item_id,timestamp\nother,i,1704067200\n")
        return load_small(*arguments)

    monkeypatch.setattr(ingesting, "_load_small", changed)
    with pytest.raises(ImsrError, match=r"3\.csv: changed while it was read"):
        ingest(make_workspace(tmp_path / "w"), [folder], now=NOW)
