import os
import threading
import time
from datetime import timedelta

import pytest
from ingest_cases import quarantine
from stream_world import NOW, TOML, Log, LogSource, batch_ingested, fingerprints, make_events, spread, us

from imsr_core.errors import ImsrError
from pipelines.lake.spans import from_us
from pipelines.stream import folder
from pipelines.stream.closing import closing_of
from pipelines.stream.folder import FolderFeed
from pipelines.stream.messages import MessageFeed
from pipelines.stream.service import Service
from pipelines.stream.watermark import Partition, StreamState, stream_state
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import SpanState
from pipelines.workspace.writer import writing

DAYS = ["2024-03-01", "2024-03-02", "2024-03-03"]


@pytest.fixture
def workspace(tmp_path):
    return Workspace.create(tmp_path / "w", TOML)


class Learner:
    """Marks spans as published, which is all that the service can see of learning."""

    def __init__(self, workspace, fails=0):
        self.workspace, self.fails, self.learnt = workspace, fails, []

    def __call__(self, runs, writer):
        for run in runs:
            with writer.transaction() as tx:
                if self.fails:
                    self.fails -= 1
                    tx.set_span_state(run.span_id, SpanState.FAILED, at=NOW, error="diverged")
                    raise ImsrError("diverged")
                self.learnt.append(run.span_id)
                for span_id in run.spans:
                    tx.set_span_state(span_id, SpanState.PUBLISHED, at=NOW)


def serve(workspace, log, learner=None, now=NOW, source=None, **options):
    said = []
    feed = MessageFeed(workspace, source or LogSource(log, *range(len(log.partitions))), now)
    service = Service(workspace, feed, lambda: writing(workspace, "test", now=NOW), learner, said.append, lambda: now)
    try:
        service.serve(drain=True, **options)
    finally:
        feed.close()
    return said


def closing(workspace, partitions, now=NOW):
    with workspace.ledger.snapshot() as view:
        return closing_of(view, workspace.settings, StreamState("s", partitions), now)


def test_a_span_is_over_when_the_watermark_has_passed_its_end_and_the_lateness(tmp_path):
    workspace = batch_ingested(tmp_path / "w", make_events(60))
    now_us = us(3)
    for newest, wanted in ((us(2, 0.99), []), (us(2, 1), DAYS[:1]), (us(3, 1), DAYS[:2])):
        found = closing(workspace, {"0": Partition(9, 9, now_us, newest)}, from_us(now_us))
        assert [run.span_id for run in found.runs] == wanted
        assert found.opened == bool(wanted)


def test_what_it_waits_for_is_said_in_words(tmp_path):
    workspace = batch_ingested(tmp_path / "w", make_events(60))
    fast, slow = Partition(9, 9, us(3), us(3)), Partition(4, 1204, us(3), us(2))
    assert closing(workspace, {"0": fast, "1": slow}, from_us(us(3))).waits_for == (
        "an event of 2024-03-02 01:00:00 or later in partition 1, 1,200 messages behind; then 2024-03-01 is over"
    )
    assert closing(workspace, {"0": Partition(0, 0, us(3))}, from_us(us(3))).waits_for == "a first event in partition 0"
    assert "all are idle" in closing(workspace, {"0": fast}).waits_for


def test_spans_are_learnt_as_they_close_and_not_before(workspace):
    log, learner = Log(2), Learner(workspace)
    events = make_events(90)
    log.send(spread(events[:45], 2))  # to the middle of the second day
    serve(workspace, log, learner)
    assert learner.learnt == DAYS[:1]
    log.send(spread(events[45:], 2))
    serve(workspace, log, learner)
    assert learner.learnt == DAYS[:2]


def test_one_partition_that_lags_holds_the_night_and_an_idle_one_does_not(workspace):
    log, learner = Log(2), Learner(workspace)
    log.send((0, event) for event in make_events(90))
    log.send([(1, make_events(90)[0])])
    serve(workspace, log, learner, source=LogSource(log, 0))  # another consumer has partition 1, and is slow
    assert learner.learnt == []
    serve(workspace, log, learner)
    assert learner.learnt == []  # partition 1 delivered just now, of the first day
    serve(workspace, log, learner, now=NOW + timedelta(minutes=6))
    assert learner.learnt == DAYS[:2]


def test_late_events_restate_a_span_when_the_next_one_closes(workspace):
    log, learner = Log(1), Learner(workspace)
    events = make_events(90)
    log.send((0, event) for event in events[:45])
    serve(workspace, log, learner)
    log.send([(0, {"user_id": "late", "item_id": "i1", "timestamp": "2024-03-01T05:00:00"})])
    serve(workspace, log, learner)
    with workspace.ledger.snapshot() as view:
        assert view.span(DAYS[0]).state == SpanState.STALE
    assert learner.learnt == DAYS[:1]  # one straggler alone starts nothing
    log.send((0, event) for event in events[45:])
    serve(workspace, log, learner)
    assert learner.learnt == [DAYS[0], DAYS[0], DAYS[1]]


def test_a_span_that_cannot_be_learnt_stops_neither_the_intake_nor_the_others_for_ever(workspace):
    log, learner = Log(1), Learner(workspace, fails=1)
    events = make_events(90)
    log.send((0, event) for event in events[:45])
    said = serve(workspace, log, learner)
    assert any("not learnt: diverged" in line for line in said)
    assert learner.learnt == []
    log.send((0, event) for event in events[45:])
    serve(workspace, log, learner)
    assert learner.learnt == DAYS[:2]


def test_interim_versions_of_an_open_span_go_and_those_of_a_learnt_one_stay(tmp_path):
    workspace = Workspace.create(tmp_path / "w", TOML + 'keep_interim = "0s"\n')
    log, learner = Log(1), Learner(workspace)
    events = make_events(90)
    for start in range(0, 45, 5):
        log.send((0, event) for event in events[start : start + 5])
        serve(workspace, log)
    with workspace.ledger.snapshot() as view:
        rows = {span: [v.data_version for v in view.span_versions(span)] for span in DAYS[:2]}
    assert all(len(versions) == 1 for versions in rows.values())
    assert rows[DAYS[0]][0] > 1
    folders = sorted(path.parent.name for path in workspace.root.glob("lake/span=*/v=*"))
    assert folders == [f"span={day}" for day in DAYS[:2]]
    assert fingerprints(workspace) == fingerprints(batch_ingested(tmp_path / "batch", events[:45]))
    serve(workspace, log, learner)
    log.send([(0, {"user_id": "late", "item_id": "i1", "timestamp": "2024-03-01T05:00:00"})])
    serve(workspace, log)
    with workspace.ledger.snapshot() as view:
        assert len(view.span_versions(DAYS[0])) == 2


def test_interim_versions_stay_for_those_who_read_them(workspace):
    log = Log(1)
    for event in make_events(90)[:3]:
        log.send([(0, event)])
        serve(workspace, log)
    with workspace.ledger.snapshot() as view:
        assert len(view.span_versions(DAYS[0])) == 3


def test_it_waits_for_the_lease_and_ends_between_batches(workspace):
    log = Log(1)
    log.send((0, event) for event in make_events(9))
    feed = MessageFeed(workspace, LogSource(log, 0), NOW)
    said = []
    waits = threading.Event()

    def say(text):
        said.append(text)
        waits.set()

    service = Service(workspace, feed, lambda: writing(workspace, "stream", now=NOW), None, say, lambda: NOW)
    with writing(workspace, "a long night", now=NOW):
        thread = threading.Thread(target=service.serve)
        thread.start()
        assert waits.wait(60)
        service.stop.set()
        thread.join(60)
    assert not thread.is_alive()
    feed.close()
    assert "a long night" in said[0]
    with workspace.ledger.snapshot() as view:
        assert view.batches() == []  # what was not written is still with the broker


def folder_feed(workspace, folder, said):
    return FolderFeed(workspace, folder, said.append, NOW)


def old(path, text):
    """A file that was complete long ago."""
    path.write_text(text)
    os.utime(path, (1e9, 1e9))


def test_a_file_from_a_clock_that_is_ahead_is_complete_when_it_no_longer_changes(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "SETTLED", 0.2)
    place, ahead = tmp_path / "in" / "a.csv", time.time() + 1e6
    place.parent.mkdir()
    feed = folder_feed(workspace, place.parent, [])
    for rows in (1, 2):
        place.write_text("user_id,item_id,timestamp\n" + "u,i,2024-01-01\n" * rows)
        os.utime(place, (ahead, ahead))
        assert not feed.wait(0.0)
    time.sleep(0.2)
    assert feed.wait(0.0)


def test_a_folder_is_a_stream_of_files(workspace, tmp_path):
    folder, said, learner = tmp_path / "in", [], Learner(workspace)
    folder.mkdir()
    events = make_events(90)

    def land(name, rows):
        old(folder / name, "user_id,item_id,timestamp\n" + "".join(",".join(row.values()) + "\n" for row in rows))

    land("a.csv", events[:50])
    land(".hidden.csv", events)
    old(folder / "b.csv", "no,such,columns\n1,2,3\n")
    feed = folder_feed(workspace, folder, said)
    service = Service(workspace, feed, lambda: writing(workspace, "test", now=NOW), learner, said.append, lambda: NOW)
    service.serve(drain=True)
    assert learner.learnt == DAYS[:1]
    assert any("b.csv" in line for line in said)
    land("b.csv", events[50:])  # mended
    service.serve(drain=True)
    service.serve(drain=True)
    assert learner.learnt == DAYS[:2]
    assert fingerprints(workspace) == fingerprints(batch_ingested(tmp_path / "batch", events))
    again = folder_feed(workspace, folder, said)
    Service(workspace, again, lambda: writing(workspace, "test", now=NOW), None, said.append, lambda: NOW).serve(
        drain=True
    )
    with workspace.ledger.snapshot() as view:
        assert sum(batch.read for batch in view.batches()) == 90
        assert stream_state(view, feed.name).lag == 0
    assert quarantine(workspace) == []


def test_a_file_that_is_gone_is_not_kept_in_mind(workspace, tmp_path):
    place = tmp_path / "in" / "a.csv"
    place.parent.mkdir()
    feed = folder_feed(workspace, place.parent, [])
    taken = []
    for _ in range(2):  # who empties the folder now and then may use a name again
        old(place, "user_id,item_id,timestamp\nu,i,2024-01-01\n")
        assert feed.wait(0.0)
        with writing(workspace, "test", now=NOW) as writer:
            taken.append(feed.write(writer).messages)
        place.unlink()
        assert feed.is_exhausted()
        assert feed._known == {}
    assert taken == [1, 0]  # it has the content of the one before
