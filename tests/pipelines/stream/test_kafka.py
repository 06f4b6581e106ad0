"""`imsr stream` against a real broker: its own protocol, its own groups, real kills."""

import os
import signal
import subprocess
import sys
import time

import pytest
from ingest_cases import quarantine
from kafka_broker import running_broker
from stream_world import NOW, TOML, batch_ingested, fingerprints, make_events, spread

from imsr_core.errors import ConfigError
from pipelines.stream.kafka import KafkaPlace, KafkaSource, read_client_file
from pipelines.stream.messages import MessageFeed
from pipelines.stream.source import Bounds, StreamError
from pipelines.stream.watermark import stream_state
from pipelines.workspace.failpoints import VARIABLE
from pipelines.workspace.layout import Workspace
from pipelines.workspace.lease import LeaseHeld
from pipelines.workspace.writer import writing

EVENTS = make_events(600)
SECONDS = 120.0
SETTINGS = TOML.replace('max_delay = "0s"', 'max_delay = "1s"\nmax_batch = 100')


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with running_broker(tmp_path_factory.mktemp("broker")) as started:
        yield started


@pytest.fixture
def topic(broker, request):
    name = f"clicks-{request.node.name.partition('[')[0][-40:].strip('-_')}-{time.time_ns() % 10**6}"
    broker.create(name, 3)
    return name


@pytest.fixture
def workspace(tmp_path):
    return Workspace.create(tmp_path / "w", SETTINGS)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    return fingerprints(batch_ingested(tmp_path_factory.mktemp("batch") / "w", EVENTS))


def feed_of(broker, topic, workspace, **options):
    client = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "500", "reconnect.backoff.max.ms": "500"}
    source = KafkaSource(KafkaPlace.parse(broker.url(topic)), f"group-{topic}", client)
    return MessageFeed(workspace, source, NOW, **options)


def write_some(feed, workspace, seconds=1.0):
    if feed.wait(seconds):
        try:
            with writing(workspace, "test", now=NOW) as writer:
                feed.write(writer)
        except LeaseHeld:
            return
        feed.settle()


def until(done, *feeds, workspace):
    """Write with these, in turn, until ``done()``."""
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, "it does not come to an end"
        for feed in feeds:
            write_some(feed, workspace, 0.2)


def taken(workspace, topic):
    with workspace.ledger.snapshot() as view:
        return sum(stream_state(view, f"kafka:{topic}").positions.values())


def read(workspace):
    with workspace.ledger.snapshot() as view:
        return sum(batch.read for batch in view.batches())


def test_messages_of_a_topic_give_the_rows_of_a_batch_ingest(broker, topic, workspace, wanted):
    broker.send(topic, [*spread(EVENTS, 3), (1, "broken"), (2, None)])
    feed = feed_of(broker, topic, workspace)
    until(feed.is_exhausted, feed, workspace=workspace)
    feed.close()
    assert fingerprints(workspace) == wanted
    # which partition is read first is the broker's affair
    assert sorted((row["source"], row["row_number"]) for row in quarantine(workspace)) == [
        (f"{topic}/1", 210),
        (f"{topic}/2", 180),
    ]


def test_two_consumers_of_one_group_and_a_rebalance_in_the_middle(broker, topic, workspace, wanted):
    events = spread(EVENTS, 3)
    broker.send(topic, events[:200])
    one = feed_of(broker, topic, workspace)
    until(lambda: taken(workspace, topic) > 0, one, workspace=workspace)
    two = feed_of(broker, topic, workspace)
    until(lambda: one.bounds() and two.bounds(), one, two, workspace=workspace)
    assert not one.bounds().keys() & two.bounds().keys()
    broker.send(topic, events[200:])
    until(lambda: taken(workspace, topic) >= 400, one, two, workspace=workspace)
    one.close()  # its partitions move once more
    until(lambda: taken(workspace, topic) == len(EVENTS), two, workspace=workspace)
    two.close()
    assert fingerprints(workspace) == wanted
    with workspace.ledger.snapshot() as view:
        assert sum(batch.kept for batch in view.batches()) == read(workspace) == len(EVENTS)


def test_a_broker_that_restarts(broker, topic, workspace, wanted):
    broker.send(topic, spread(EVENTS, 3)[:300])
    feed = feed_of(broker, topic, workspace)
    until(lambda: taken(workspace, topic) > 0, feed, workspace=workspace)
    broker.suspend()  # nobody answers; what comes back has the same log
    try:
        for _ in range(3):
            write_some(feed, workspace, 0.5)
    finally:
        broker.resume()
    broker.send(topic, spread(EVENTS, 3)[300:])
    until(lambda: taken(workspace, topic) == len(EVENTS), feed, workspace=workspace)
    feed.close()
    assert fingerprints(workspace) == wanted
    assert read(workspace) == len(EVENTS)


def test_two_consumers_and_a_broker_that_restarts_meanwhile(broker, topic, workspace, wanted):
    """Both lose their session, come back to a group that is made anew, and are handed what either one has written."""
    events = spread(EVENTS, 3)
    broker.send(topic, events[:300])
    feeds = [feed_of(broker, topic, workspace), feed_of(broker, topic, workspace)]
    until(lambda: taken(workspace, topic) > 0, *feeds, workspace=workspace)
    broker.suspend()
    try:
        for feed in feeds:
            write_some(feed, workspace, 0.5)
    finally:
        broker.resume()
    broker.send(topic, events[300:])
    until(lambda: taken(workspace, topic) == len(EVENTS), *feeds, workspace=workspace)
    for feed in feeds:
        feed.close()
    assert fingerprints(workspace) == wanted
    with workspace.ledger.snapshot() as view:
        assert sum(batch.kept for batch in view.batches()) == read(workspace) == len(EVENTS)


def test_a_restart_between_two_runs(broker, topic, workspace, wanted, monkeypatch):
    # a broker with a disk has its topics back with their ids, this one makes them again
    monkeypatch.setattr(KafkaSource, "_topic_id", lambda self: "the same")
    broker.send(topic, spread(EVENTS, 3)[:300])
    feed = feed_of(broker, topic, workspace)
    until(feed.is_exhausted, feed, workspace=workspace)
    feed.close()
    broker.restart()
    broker.send(topic, spread(EVENTS, 3)[300:])
    feed = feed_of(broker, topic, workspace)
    until(feed.is_exhausted, feed, workspace=workspace)
    feed.close()
    assert fingerprints(workspace) == wanted
    assert read(workspace) == len(EVENTS)


def test_messages_that_are_gone_are_an_error_and_no_jump(broker, topic, workspace, monkeypatch):
    broker.send(topic, spread(EVENTS, 3)[:30])
    feed = feed_of(broker, topic, workspace)
    until(feed.is_exhausted, feed, workspace=workspace)
    feed.close()
    monkeypatch.setattr(KafkaSource, "_ask_bounds", lambda self, partition: Bounds(50, 60))  # after its retention
    feed = feed_of(broker, topic, workspace)
    with pytest.raises(StreamError, match=r"gone before they were read: it is to go on at \d+, and begins at 50"):
        until(feed.is_exhausted, feed, workspace=workspace)
    feed.close()
    with workspace.ledger.snapshot() as view:
        assert sum(stream_state(view, f"kafka:{topic}").positions.values()) == 30
    feed_of(broker, topic, workspace, skip_lost=True).close()
    with workspace.ledger.snapshot() as view:
        assert set(stream_state(view, f"kafka:{topic}").positions.values()) == {50}


def test_a_topic_that_was_made_anew_is_an_error_however_much_it_holds(broker, topic, workspace):
    """Its offsets start over: beyond the old position lie messages, and before it as many that nobody has read."""
    events = spread(EVENTS, 3)
    broker.send(topic, events[:30])
    feed = feed_of(broker, topic, workspace)
    until(feed.is_exhausted, feed, workspace=workspace)
    feed.close()
    broker.make_anew(topic)
    broker.send(topic, events[30:150])
    for _ in range(2):  # it is said as long as nobody has answered
        with pytest.raises(StreamError, match="was made anew since it was read"):
            feed_of(broker, topic, workspace)
    assert read(workspace) == 30
    for options in ({"skip_lost": True}, {}):  # and once somebody has, it is read like any other
        feed = feed_of(broker, topic, workspace, **options)
        until(feed.is_exhausted, feed, workspace=workspace)
        feed.close()
        assert read(workspace) == 150


def test_a_topic_that_is_made_anew_while_it_is_read(broker, topic, workspace, monkeypatch):
    broker.send(topic, spread(EVENTS, 3)[:30])
    feed = feed_of(broker, topic, workspace)
    monkeypatch.setattr(KafkaSource, "_topic_id", lambda self: "another")  # when it is given its partitions
    with pytest.raises(StreamError, match="was made anew since it was read"):
        until(feed.is_exhausted, feed, workspace=workspace)
    feed.close()
    assert read(workspace) == 0


def test_what_is_not_there_is_said(broker, workspace):
    source = KafkaSource(KafkaPlace.parse(broker.url("no-such-topic")), "g", {})
    with pytest.raises(StreamError, match="no-such-topic"):
        MessageFeed(workspace, source, NOW)
    source.close()


def test_places_and_client_files(tmp_path):
    assert KafkaPlace.parse("kafka://one:1,two/clicks.eu") == KafkaPlace("one:1,two:9092", "clicks.eu")
    for wrong in ("kafka://host", "kafka:///topic", "kafka://host/a/b", "http://host/topic"):
        with pytest.raises(ConfigError):
            KafkaPlace.parse(wrong)
    path = tmp_path / "client.properties"
    path.write_text("# private\nsasl.username = me\nsasl.password=a=b\n\n")
    assert read_client_file(path) == {"sasl.username": "me", "sasl.password": "a=b"}
    for wrong in ("enable.auto.commit=true", "nonsense"):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match="line 1"):
            read_client_file(path)


def command(workspace, url, *more, fail=""):
    script = [sys.executable, "-c", "from flows.cli import main; main()", "stream", "-w", str(workspace.root)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", VARIABLE: fail}
    with (workspace.root.parent / "log").open("ab") as log:
        return subprocess.Popen([*script, "--from", url, "--no-learn", *more], env=environment, stdout=log, stderr=log)


def log_of(workspace):
    return (workspace.root.parent / "log").read_text()


@pytest.mark.slow
def test_killed_at_every_point_of_a_batch(broker, topic, workspace, wanted):
    broker.send(topic, spread(EVENTS, 3))
    points = ["ingest.staged", "ingest.renamed_one", "ingest.before_commit", "ingest.after_commit", "stream.written"]
    for point in [*points, "stream.tidied", "catalog.staged"]:
        process = command(workspace, broker.url(topic), "--drain", fail=point)
        process.wait(SECONDS)
        assert process.returncode in (-signal.SIGKILL, 0), log_of(workspace)
    process = command(workspace, broker.url(topic), "--drain")
    assert process.wait(SECONDS) == 0, log_of(workspace)
    assert fingerprints(workspace) == wanted
    assert read(workspace) == len(EVENTS)


@pytest.mark.slow
def test_sigterm_finishes_the_batch(broker, topic, workspace, wanted):
    broker.send(topic, spread(EVENTS, 3)[:300])
    process = command(workspace, broker.url(topic))
    deadline = time.monotonic() + SECONDS
    while taken(workspace, topic) == 0:
        assert time.monotonic() < deadline, log_of(workspace)
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0, log_of(workspace)
    assert "every batch is whole" in log_of(workspace)
    broker.send(topic, spread(EVENTS, 3)[300:])
    assert command(workspace, broker.url(topic), "--drain").wait(SECONDS) == 0, log_of(workspace)
    assert fingerprints(workspace) == wanted
