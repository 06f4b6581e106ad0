"""Sequences in a workspace: once, in order, restated when the data is, and whole after a kill -9."""

import json
import os
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lake_logs import contents, oracle, written

from pipelines.lake.ingest import ingest
from pipelines.sequences.beam_runner import RunnerOptions
from pipelines.sequences.build import SequencesError, sequence_span
from pipelines.sequences.chain import SequenceChainError, SequenceOrderError, chain_of, parent_folder, vocabulary_of
from pipelines.sequences.loader import load_history, load_sequences
from pipelines.workspace.failpoints import FailPoint, InjectedFailure
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import SpanRow, SpanState, SpanVersionRow, iso
from pipelines.workspace.publish import move_into_place, staging_folder
from pipelines.workspace.seal import seal, verify_folder

ROOT = Path(__file__).parents[3]
NOW = datetime(2024, 6, 1, tzinfo=UTC)
TOML = '[spans]\nunit = "month"\n[ingest]\nbuckets = 4\n[sequences]\nmax_events_per_user = 6\n'
JAN, FEB, MAR = "2024-01", "2024-02", "2024-03"


def events_of(month: int, seed: int, n: int = 150) -> list[str]:
    chance = random.Random(seed)
    start = datetime(2024, month, 1, tzinfo=UTC)
    times = [(start + timedelta(hours=chance.randrange(600))).isoformat() for _ in range(n)]
    return [f"u{chance.randrange(12 * month)},i{chance.randrange(9 * month)},{time}" for time in times]


def land(workspace: Workspace, name: str, lines: list[str], now: datetime = NOW) -> None:
    path = workspace.root / "landing" / name
    path.write_text("\n".join(["user_id,item_id,timestamp", *lines]) + "\n")
    ingest(workspace, [path], now=now)


def make(root: Path, months: int = 3) -> Workspace:
    workspace = Workspace.create(root, TOML)
    land(workspace, "log.csv", [line for m in range(1, months + 1) for line in events_of(m, m)])
    return workspace


def states(workspace: Workspace) -> dict[str, str]:
    with workspace.ledger.snapshot() as view:
        return {row.span_id: str(row.state) for row in view.spans()}


def span_files(workspace: Workspace, *span_ids: str) -> list[Path]:
    with workspace.ledger.snapshot() as view:
        folders = [workspace.resolve(view.span_version(span_id).path) for span_id in span_ids]
    return [file for folder in folders for file in sorted(folder.glob("bucket=*.parquet"))]


def test_a_span_from_the_real_ingest_equals_the_oracle(tmp_path):
    workspace = make(tmp_path)
    outcome = sequence_span(workspace, JAN, now=NOW)
    assert outcome.built
    assert written(outcome.folder) == oracle(span_files(workspace, JAN), 6)
    assert states(workspace) == {JAN: "sequenced", FEB: "ingested", MAR: "ingested"}
    assert outcome.row.events + outcome.row.truncated == 150
    assert outcome.row.truncated > 0
    verify_folder(outcome.folder)
    assert list(workspace.staging.iterdir()) == []


def test_spans_share_one_numbering(tmp_path):
    workspace = make(tmp_path)
    rows = [sequence_span(workspace, span_id, now=NOW).row for span_id in (JAN, FEB, MAR)]
    chain = chain_of(workspace, MAR, rows[-1].fingerprint)
    assert [link.span_id for link in chain] == [JAN, FEB, MAR]
    folders = [workspace.resolve(row.path) for row in rows]
    assert [parent_folder(workspace, folder) for folder in folders] == [None, *folders[:-1]]
    vocabulary = vocabulary_of(workspace, MAR, rows[-1].fingerprint).validate()
    assert vocabulary.n_users == sum(row.new_users for row in rows)
    whole = oracle(span_files(workspace, JAN, FEB, MAR), 10**9)
    assert load_history([link.folder for link in chain]).users.tolist() == [row[0] for row in whole]


def test_a_second_run_does_nothing_and_says_so(tmp_path):
    workspace = make(tmp_path)
    sequence_span(workspace, JAN, now=NOW)
    before = {p: p.stat().st_mtime_ns for p in workspace.root.joinpath("sequences").rglob("*")}
    again = sequence_span(workspace, JAN, now=NOW)
    assert not again.built
    assert "nothing to do" in str(again)
    assert {p: p.stat().st_mtime_ns for p in workspace.root.joinpath("sequences").rglob("*")} == before


@pytest.mark.slow
def test_workers_and_a_second_workspace_give_the_same_folder(tmp_path):
    one, two = make(tmp_path / "one", 1), make(tmp_path / "two", 1)
    first = sequence_span(one, JAN, now=NOW)
    second = sequence_span(two, JAN, now=NOW, options=RunnerOptions(mode="multi_processing", workers=2))
    assert first.row.fingerprint == second.row.fingerprint
    assert contents(first.folder) == contents(second.folder)


def test_spans_out_of_order_are_refused_with_the_list_of_what_is_missing(tmp_path):
    workspace = make(tmp_path)
    with pytest.raises(SequenceOrderError) as caught:
        sequence_span(workspace, MAR, now=NOW)
    assert caught.value.spans == [JAN, FEB]
    assert states(workspace)[MAR] == "ingested"


def test_a_restated_span_is_rebuilt_and_the_later_ones_must_follow(tmp_path):
    workspace = make(tmp_path)
    old = [sequence_span(workspace, span_id, now=NOW).row for span_id in (JAN, FEB, MAR)]
    land(workspace, "late.csv", ["newcomer,i1,2024-01-02T00:00:00Z"])
    assert states(workspace) == {JAN: "stale", FEB: "stale", MAR: "stale"}
    with pytest.raises(SequenceOrderError) as caught:
        sequence_span(workspace, MAR, now=NOW)
    assert caught.value.spans == [JAN, FEB]
    sequence_span(workspace, JAN, now=NOW)
    with pytest.raises(SequenceOrderError) as caught:
        sequence_span(workspace, MAR, now=NOW)
    assert caught.value.spans == [FEB]
    new = [sequence_span(workspace, span_id, now=NOW).row for span_id in (JAN, FEB, MAR)]
    assert all(a.fingerprint != b.fingerprint for a, b in zip(old, new, strict=True))
    assert [link.fingerprint for link in chain_of(workspace, MAR, old[-1].fingerprint)] == [
        row.fingerprint for row in old
    ]
    assert states(workspace) == dict.fromkeys((JAN, FEB, MAR), "sequenced")


def test_a_span_that_goes_back_to_older_data_gets_its_older_sequences_back(tmp_path):
    workspace = make(tmp_path, months=2)
    first = sequence_span(workspace, JAN, now=NOW)
    with workspace.ledger.snapshot() as view:
        span, version = view.span(JAN), view.span_version(JAN)
    land(workspace, "late.csv", ["newcomer,i1,2024-01-02T00:00:00Z"])
    sequence_span(workspace, JAN, now=NOW)
    with workspace.ledger.transaction() as tx:  # the restatement is taken back
        tx.put_span(SpanRow(JAN, span.start_us, span.end_us, version.data_version, SpanState.STALE))
    back = sequence_span(workspace, JAN, now=NOW)
    assert (back.built, back.folder) == (False, first.folder)
    assert states(workspace)[JAN] == "sequenced"
    february = sequence_span(workspace, FEB, now=NOW).row
    assert chain_of(workspace, FEB, february.fingerprint)[0].folder == first.folder


def test_an_empty_span_has_sequences_without_users_and_the_chain_goes_on(tmp_path):
    workspace = make(tmp_path, months=1)
    with workspace.ledger.snapshot() as view:
        end = view.span(JAN).end_us
    with staging_folder(workspace, "empty") as folder:
        seal(folder)
        move_into_place(folder, workspace.span_folder(FEB, 1))
    with workspace.ledger.transaction() as tx:
        tx.put_span(SpanRow(FEB, end, end + 1, 1, SpanState.INGESTED, None, iso(NOW)))
        tx.add_span_version(SpanVersionRow(FEB, 1, f"lake/span={FEB}/v=1", "0" * 64, 0, 0, 0, iso(NOW)))
    land(workspace, "march.csv", events_of(3, 3))
    rows = [sequence_span(workspace, span_id, now=NOW).row for span_id in (JAN, FEB, MAR)]
    assert (rows[1].users, rows[1].events, rows[1].new_users) == (0, 0, 0)
    assert len(load_sequences(workspace.resolve(rows[1].path))) == 0
    assert parent_folder(workspace, workspace.resolve(rows[2].path)) == workspace.resolve(rows[1].path)
    assert vocabulary_of(workspace, MAR, rows[2].fingerprint).n_users == rows[0].new_users + rows[2].new_users


def test_a_span_without_data_is_refused(tmp_path):
    with pytest.raises(SequencesError, match="'2031-07' has no data"):
        sequence_span(make(tmp_path), "2031-07", now=NOW)


def test_lost_sequences_are_reported_and_not_silently_rebuilt(tmp_path):
    workspace = make(tmp_path)
    outcome = sequence_span(workspace, JAN, now=NOW)
    (outcome.folder / "READY").unlink()
    with pytest.raises(SequencesError, match="published sequences are gone"):
        sequence_span(workspace, JAN, now=NOW)


def test_a_damaged_link_of_the_chain_is_named(tmp_path):
    workspace = make(tmp_path)
    outcome = sequence_span(workspace, JAN, now=NOW)
    manifest = outcome.folder / "sequences.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "span": "2020-01"}))
    with pytest.raises(SequenceChainError, match=r"sequences\.json"):
        sequence_span(workspace, FEB, now=NOW)


POINTS = ["sequences.bucket_written:2", "sequences.before_commit", "publish.sealed", "publish.renamed"]
STEP = """
import sys
from datetime import UTC, datetime
from pipelines.sequences.build import sequence_span
from pipelines.workspace.layout import Workspace
sequence_span(Workspace.open(sys.argv[1]), sys.argv[2], now=datetime(2024, 6, 1, tzinfo=UTC))
"""


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at_any_point_and_repeated_equals_an_unkilled_one(tmp_path, point):
    reference, killed = make(tmp_path / "reference", 2), make(tmp_path / "killed", 2)
    sequence_span(reference, JAN, now=NOW)
    sequence_span(killed, JAN, now=NOW)
    command = [sys.executable, "-c", STEP, str(killed.root), FEB]
    environment = {**os.environ, "IMSR_FAIL": point, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, env=environment, timeout=60).returncode == -signal.SIGKILL
    assert states(killed)[FEB] == "ingested"
    assert sequence_span(killed, FEB, now=NOW).built
    sequence_span(reference, FEB, now=NOW)
    for name in ("sequences", "staging"):
        assert contents(killed.root / name) == contents(reference.root / name)
    with killed.ledger.snapshot() as a, reference.ledger.snapshot() as b:
        assert a.sequences() == b.sequences()


def test_every_fail_point_of_sequences_is_tried():
    own = {str(point) for point in FailPoint if point.startswith("sequences.")}
    assert own <= {point.partition(":")[0] for point in POINTS}


def test_an_error_before_the_commit_publishes_nothing(tmp_path, monkeypatch):
    workspace = make(tmp_path, months=1)
    monkeypatch.setenv("IMSR_FAIL", "sequences.before_commit:1:raise")
    with pytest.raises(InjectedFailure):
        sequence_span(workspace, JAN, now=NOW)
    monkeypatch.delenv("IMSR_FAIL")
    with workspace.ledger.snapshot() as view:
        assert view.sequences() == []
    assert sequence_span(workspace, JAN, now=NOW).built
