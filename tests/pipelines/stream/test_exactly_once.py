import time
from datetime import timedelta

import pytest
from ingest_cases import quarantine
from stream_world import NOW, TOML, Log, LogSource, batch_ingested, fingerprints, make_events, spread

from pipelines.stream.buffer import MessageBuffer
from pipelines.stream.group import own_group
from pipelines.stream.messages import MessageFeed
from pipelines.stream.watermark import stream_state
from pipelines.workspace.failpoints import VARIABLE, InjectedFailure
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import writing

EVENTS = make_events(240)


@pytest.fixture
def workspace(tmp_path):
    return Workspace.create(tmp_path / "w", TOML)


@pytest.fixture
def wanted(tmp_path):
    return fingerprints(batch_ingested(tmp_path / "batch", EVENTS))


@pytest.fixture
def log():
    made = Log(3)
    made.send(spread(EVENTS, 3))
    return made


def state(workspace):
    with workspace.ledger.snapshot() as view:
        return stream_state(view, LogSource.name)


def write(feed, workspace, now=NOW):
    assert feed.wait(20)
    with writing(workspace, "test", now=now) as writer:
        return feed.write(writer)


def drain(feed, workspace):
    while not feed.is_exhausted():
        if feed.wait(0.05):
            with writing(workspace, "test", now=NOW) as writer:
                feed.write(writer)


def test_messages_give_the_rows_of_a_batch_ingest(workspace, log, wanted):
    feed = MessageFeed(workspace, LogSource(log, 0, 1, 2, at_once=7), NOW)
    drain(feed, workspace)
    feed.close()
    assert fingerprints(workspace) == wanted
    assert state(workspace).positions == {str(n): len(log.partitions[n]) for n in range(3)}
    assert state(workspace).lag == 0


@pytest.mark.parametrize(
    "point", ["ingest.staged", "ingest.renamed_one:2", "ingest.before_commit", "ingest.after_commit"]
)
def test_a_batch_that_fails_anywhere_is_written_once(workspace, log, wanted, monkeypatch, point):
    feed = MessageFeed(workspace, LogSource(log, 0, 1, 2), NOW)
    monkeypatch.setenv(VARIABLE, f"{point if ':' in point else point + ':1'}:raise")
    with pytest.raises(InjectedFailure):
        write(feed, workspace)
    monkeypatch.delenv(VARIABLE)
    drain(feed, workspace)  # the same batch, and then the others
    feed.close()
    assert fingerprints(workspace) == wanted
    with workspace.ledger.snapshot() as view:
        assert sum(batch.kept for batch in view.batches()) == len(EVENTS)
        assert sum(batch.duplicate for batch in view.batches()) == 0


def test_a_consumer_that_died_is_followed_by_one_that_begins_where_the_ledger_says(workspace, log, wanted):
    first = MessageFeed(workspace, LogSource(log, 0, 1, 2, at_once=20), NOW)
    write(first, workspace)
    first.close()
    second = MessageFeed(workspace, LogSource(log, 0, 1, 2), NOW)
    drain(second, workspace)
    second.close()
    assert fingerprints(workspace) == wanted
    with workspace.ledger.snapshot() as view:
        assert sum(batch.read for batch in view.batches()) == len(EVENTS)  # nothing was even read twice


def test_what_another_consumer_wrote_meanwhile_is_left_out(workspace, log, wanted):
    slow = MessageFeed(workspace, LogSource(log, 0, 1, 2), NOW)
    assert slow.wait(20)
    taken = slow._buffer.take()  # it has read, and is suspended before it gets the lease
    slow._taken = taken
    fast = MessageFeed(workspace, LogSource(log, 0, 1, 2), NOW)
    drain(fast, workspace)
    with writing(workspace, "test", now=NOW) as writer:
        assert slow.write(writer).report is None
    slow.close()
    fast.close()
    assert fingerprints(workspace) == wanted


def test_a_partition_that_moves_to_another_consumer_is_read_on_there(workspace, log, wanted):
    sources = LogSource(log, 0, 1, 2, at_once=10), LogSource(log, at_once=10)
    one, two = (MessageFeed(workspace, source, NOW) for source in sources)
    write(one, workspace)
    sources[0].assign(0)
    sources[1].assign(1, 2)
    for _ in range(2):
        drain(one, workspace)
        drain(two, workspace)
        time.sleep(0.3)  # a poll, so that both have what they were assigned
    drain(one, workspace)
    drain(two, workspace)
    one.close()
    two.close()
    assert fingerprints(workspace) == wanted
    with workspace.ledger.snapshot() as view:
        assert sum(batch.read for batch in view.batches()) == len(EVENTS)


def test_a_message_that_cannot_be_read_is_in_quarantine_and_the_others_go_on(workspace, log, wanted):
    log.send([(1, b"{"), (2, None), (0, {"user_id": "u0", "item_id": "i1", "timestamp": "soon"})])
    feed = MessageFeed(workspace, LogSource(log, 0, 1, 2), NOW)
    drain(feed, workspace)
    feed.close()
    places = {(row["source"], row["row_number"], row["reason"]) for row in quarantine(workspace)}
    ends = [len(log.partitions[n]) - 1 for n in range(3)]
    assert places == {
        ("clicks/0", ends[0], "unparsable_timestamp"),
        ("clicks/1", ends[1], "malformed_row"),
        ("clicks/2", ends[2], "malformed_row"),
    }
    assert fingerprints(workspace) == wanted


def test_a_first_batch_of_nothing_but_rubbish(workspace):
    log = Log(1)
    log.send([(0, b"?"), (0, b"")])
    feed = MessageFeed(workspace, LogSource(log, 0), NOW)
    drain(feed, workspace)
    log.send([(0, EVENTS[0])])
    time.sleep(0.3)
    drain(feed, workspace)
    feed.close()
    assert len(quarantine(workspace)) == 2
    assert list(fingerprints(workspace)) == ["2024-03-01"]


def test_a_time_unit_is_decided_once(workspace):
    log = Log(1)
    log.send([(0, {"user_id": "a", "item_id": "b", "timestamp": 1_709_300_000 + n}) for n in range(3)])
    feed = MessageFeed(workspace, LogSource(log, 0), NOW)
    drain(feed, workspace)
    assert state(workspace).partitions["0"].time_unit == "s"
    log.send([(0, {"user_id": "a", "item_id": "b", "timestamp": "2024-03-01"})])  # alone it would be read as ISO 8601
    time.sleep(0.3)
    drain(feed, workspace)
    feed.close()
    assert [row["reason"] for row in quarantine(workspace)] == ["unparsable_timestamp"]


def test_with_too_much_in_memory_it_holds_and_goes_on_after_the_write(tmp_path):
    log = Log(1)
    filler = "x" * 100_000
    log.send([(0, EVENTS[n] | {"note": filler}) for n in range(40)])
    workspace = Workspace.create(tmp_path / "w", TOML + "buffer_mb = 1\n")
    source = LogSource(log, 0, at_once=5)
    feed = MessageFeed(workspace, source, NOW)
    deadline = time.monotonic() + 20
    while not source.held and time.monotonic() < deadline:
        time.sleep(0.01)
    assert source.held == [True]
    drain(feed, workspace)
    assert source.held[:2] == [True, False]
    feed.close()
    with workspace.ledger.snapshot() as view:
        assert sum(row.rows for row in view.current_span_versions()) == 40


def test_where_a_new_stream_begins(tmp_path, log):
    workspace = Workspace.create(tmp_path / "w", TOML + 'start = "latest"\n')
    feed = MessageFeed(workspace, LogSource(log, 0, 1, 2), NOW)
    assert not feed.wait(0.5)
    log.send([(0, EVENTS[0])])
    write(feed, workspace)
    feed.close()
    with workspace.ledger.snapshot() as view:
        assert sum(batch.read for batch in view.batches()) == 1


def test_the_broker_hears_of_positions_that_are_in_the_ledger(workspace, log):
    source = LogSource(log, 0, 1, 2)
    feed = MessageFeed(workspace, source, NOW)
    drain(feed, workspace)
    assert source.settled == {}
    feed.settle()
    feed.close()
    assert source.settled == state(workspace).positions


def test_a_workspace_has_a_group_of_its_own(workspace, tmp_path):
    other = Workspace.create(tmp_path / "other" / "w", TOML)
    assert own_group(workspace) == own_group(workspace) != own_group(other)
    assert own_group(workspace).startswith("imsr-w-")


def test_the_clock_of_a_batch_is_that_of_its_writing(workspace, log):
    feed = MessageFeed(workspace, LogSource(log, 0, 1, 2), NOW)
    assert feed.wait(20)
    write(feed, workspace, NOW + timedelta(seconds=9))
    feed.close()
    assert {each.active_us for each in state(workspace).partitions.values()} >= {(int(NOW.timestamp()) + 9) * 10**6}


def test_a_broker_that_takes_no_position_is_left_all_the_same(log):
    class Deaf(LogSource):
        left = False

        def settle(self, positions):
            raise OSError("the broker is gone")

        def close(self):
            self.left = True

    source = Deaf(log, 0)
    buffer = MessageBuffer(source, max_batch=1, max_delay=1.0, max_bytes=1)
    buffer.settle({"0": 1})
    with pytest.raises(OSError, match="the broker is gone"):
        buffer.close()
    assert source.left
