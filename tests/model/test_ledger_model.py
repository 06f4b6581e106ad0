"""Random events, random commands, random deaths, against a model of the ledger that fits on two screens.

Whatever was done before, `run` must come through and leave nothing due, and what the live model learnt must be what
was taken in: events are decoded again from the sequences that its lineage names.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deaths import dies
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ledger_model import DUE, PUBLISHED, REJECTED, Event, LedgerModel
from what_is_stored import events_of, learnt_events, mentions

from pipelines.care.doctor import Severity, examine
from pipelines.care.forget import ForgetError, forget
from pipelines.interests.promotion import promote, rollback
from pipelines.interests.version import LINE, Version
from pipelines.lake.ingest import ingest
from pipelines.lake.span_files import content_of
from pipelines.nights.backfill import Which, begin, finish, plan_backfill
from pipelines.nights.night import run_span
from pipelines.nights.plan import PlanError, PlannedRun, due
from pipelines.nights.restate import mark_stale
from pipelines.versions.ancestry import chain_of_versions, learnt_spans
from pipelines.versions.lineage import VersionError
from pipelines.versions.rebuilding import head_of_learning
from pipelines.workspace.failpoints import FailPoint
from pipelines.workspace.layout import Workspace
from pipelines.workspace.seal import verify_folder
from pipelines.workspace.states import LEARNT
from pipelines.workspace.writer import Writer, writing

PRETRAIN, LOOKBACK = 2, 2
SETTINGS = f"""
[source]
time_unit = "iso8601"
[spans]
unit = "day"
pretrain = {PRETRAIN}
[ingest]
buckets = 2
lookback_spans = {LOOKBACK}
[model]
dim = 2
initial_interests = 1
max_interests = 2
history = 3
[detector]
new_interests = 1
[training]
base_epochs = 1
epochs = 1
negatives = 2
[gate]
enabled = false
"""

FIRST = datetime(2024, 3, 1, tzinfo=UTC)
DAYS = [(FIRST + timedelta(days=n)).date().isoformat() for n in range(7)]
#: Told apart from everything else that is written anywhere.
USERS = [f"visitor-{name}-zq" for name in ("ada", "bob", "cyd", "dan")]
ITEMS = [f"thing-{n}" for n in range(5)]

users = st.sampled_from(USERS)
days = st.sampled_from(DAYS[:5])
rows = st.tuples(
    st.sampled_from([*USERS, *USERS, ""]),
    st.sampled_from(ITEMS),
    st.builds("{}T0{}:00:00+00:00".format, st.sampled_from(DAYS), st.integers(0, 2)),
)
batches = st.lists(rows, min_size=1, max_size=8).map(tuple)

BEFORE_COMMIT = [point for point in FailPoint if point.startswith(("ingest.", "publish.")) and "after" not in point]
INGEST_POINTS = [*BEFORE_COMMIT, FailPoint.INGEST_AFTER_COMMIT, FailPoint.LEASE_TAKEN]
STEPS = ("sequences.", "evaluate.", "train.", "promote.", "publish.", "catalog.", "lease.")
RUN_POINTS = [point for point in FailPoint if point.startswith(STEPS)]
FORGET_POINTS = [point for point in FailPoint if point.startswith(("forget.", "rewrite.", "catalog.", "lease."))]
deaths = st.sampled_from(["kill", "raise"])


class Machine(RuleBasedStateMachine):
    """Commands on a workspace, and the same on the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="imsr-model-"))
        self.workspace = Workspace.create(self.folder / "workspace", SETTINGS)
        self.model = LedgerModel(PRETRAIN, LOOKBACK, DAYS[2])
        self.log: list[tuple[str, str | None]] = []
        self.files = 0
        self.receipts: set[str] = set()  # users who were ever forgotten

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @property
    def now(self) -> datetime:
        return datetime.fromisoformat(f"{self.model.today}T00:00:00+00:00") + timedelta(hours=20)

    # --- commands

    @initialize(batch=st.lists(st.tuples(users, st.sampled_from(ITEMS), st.just("")), min_size=4, max_size=10))
    def first_days(self, batch: list[Event]) -> None:
        times = [f"{DAYS[n % 3]}T05:00:00+00:00" for n in range(len(batch))]
        self.ingest(tuple((user, item, time) for (user, item, _), time in zip(batch, times, strict=True)))

    @rule(batch=batches)
    def ingest(self, batch: tuple[Event, ...]) -> None:
        ingest(self.workspace, [self._file(batch)], now=self.now)
        self.model.ingest(batch)

    @rule(batch=batches, point=st.sampled_from(INGEST_POINTS), nth=st.integers(1, 2), how=deaths)
    def ingest_dies(self, batch: tuple[Event, ...], point: FailPoint, nth: int, how: str) -> None:
        path = self._file(batch)
        died = dies(lambda: ingest(self.workspace, [path], now=self.now), point, nth, how)
        if not died or point == FailPoint.INGEST_AFTER_COMMIT:
            self.model.ingest(batch)
        self.model.forgotten -= {user for user, *_ in batch}  # what a dead run leaves behind may have them, too

    @rule()
    def tomorrow(self) -> None:
        self.model.today = DAYS[min(DAYS.index(self.model.today) + 1, len(DAYS) - 1)]

    @rule()
    def run(self) -> None:
        expected = self.model.runs()
        assert [run.spans for run in due(self.workspace, now=self.now)] == expected
        self._learn()
        self._published(expected)
        assert due(self.workspace, now=self.now) == []

    @rule(point=st.sampled_from(RUN_POINTS), nth=st.integers(1, 3), how=deaths)
    def run_dies(self, point: FailPoint, nth: int, how: str) -> None:
        expected = self.model.runs()
        dies(self._learn, point, nth, how)
        states = self._states()
        done = [all(states[span] == PUBLISHED for span in run) for run in expected]
        assert done == sorted(done, reverse=True), "a later span was published before an earlier one"
        for run in expected:  # spans after the first that is due were set back by nobody, and count as due
            self.model.state |= dict.fromkeys(run, DUE)
        self._published(expected[: done.index(False)] if False in done else expected)
        self.model.state |= {span: states[span] for run in expected for span in run if states[span] == REJECTED}

    @rule(first=st.none() | days, last=st.none() | days, which=st.sampled_from(Which))
    def backfill(self, first: str | None, last: str | None, which: Which) -> None:
        states, begun = self._raw_states(), self.model.begun
        learnt = [s for s in sorted(states) if (first or "") <= s <= (last or "~") and states[s] in LEARNT]
        before = dict(self.model.state)
        resumed = begun == (first, last)
        if which is Which.ALL and learnt and not resumed and (first or "") <= (last or "~"):
            self.model.restate(learnt[0])
        chosen, restated = self.model.within(first, last), before != self.model.state or bool(learnt)
        wrong = bool(chosen) and self.model.runs().index(chosen[0]) > 0
        failed = {span for run in chosen for span in run if states[span] == "failed"}
        wrong |= which is Which.MISSING and bool(failed)
        if wrong or not states or (first or "") > (last or "~"):
            self.model.state = before
            with pytest.raises(PlanError):
                plan_backfill(self.workspace, first=first, last=last, which=which, now=self.now)
            return
        with writing(self.workspace, "backfill", now=self.now) as writer:
            plan = plan_backfill(self.workspace, first=first, last=last, which=which, now=self.now)
            assert [run.spans for run in plan.runs] == chosen
            assert (plan.restatement is not None) == (which is Which.ALL and bool(learnt) and not resumed and restated)
            begin(writer, plan)
            self._run_all(list(plan.runs), writer)
            finish(writer, plan)
        self._published(chosen)

    @rule(span=days)
    def restate(self, span: str) -> None:
        with writing(self.workspace, "restate", now=self.now) as writer:
            if self._raw_states().get(span) in LEARNT:
                mark_stale(writer, span)
                self.model.restate(span)
            else:
                with pytest.raises(PlanError):
                    mark_stale(writer, span)

    @rule()
    def roll_back(self) -> None:
        with self.workspace.ledger.snapshot() as view:
            current, moves = view.pointer(LINE), view.promotions(LINE)
            chain = chain_of_versions(view, current)
            # a chain that was begun anew goes back to the version that it replaced
            replaced = [move.previous for move in moves if current and move.version_id == current]
            target = chain[1].version_id if len(chain) > 1 else next(iter(replaced), None)
            learnt = learnt_spans(chain_of_versions(view, target))
        with writing(self.workspace, "rollback", now=self.now) as writer:
            if target is None:
                with pytest.raises(VersionError):
                    rollback(writer)
                return
            move = rollback(writer)
        assert move is not None
        assert (move.version_id, move.previous) == (target, current)
        self._went_live(learnt)

    @precondition(lambda self: self.log)
    @rule(which=st.integers(0, 99))
    def promote(self, which: int) -> None:
        with self.workspace.ledger.snapshot() as view:
            versions, current = view.versions(LINE), view.pointer(LINE)
            chosen = versions[which % len(versions)]
            learnt = learnt_spans(chain_of_versions(view, chosen.version_id))
        with writing(self.workspace, "promote", now=self.now) as writer:
            move = promote(writer, chosen.version_id, "by hand")
        assert (move is None) == (chosen.version_id == current)
        if move is not None:
            self._went_live(learnt)

    @rule(user=users, retrain=st.booleans())
    def forget(self, user: str, retrain: bool) -> None:
        learnt = [span for span, state in self._raw_states().items() if state in LEARNT]
        if not self.model.knows(user):
            if user in self.receipts:
                assert forget(self.workspace, user, now=self.now).is_of(user)
                self.model.forgotten.add(user)
            else:
                with pytest.raises(ForgetError):
                    forget(self.workspace, user, now=self.now)
            return
        receipt = forget(self.workspace, user, now=self.now, retrain=retrain)
        assert receipt.is_of(user)
        self.receipts.add(user)
        self.model.forget(user, learnt if retrain else ())

    @rule(user=users, point=st.sampled_from(FORGET_POINTS), nth=st.integers(1, 3), how=deaths)
    def forget_dies_and_is_finished(self, user: str, point: FailPoint, nth: int, how: str) -> None:
        if not self.model.knows(user):
            return
        dies(lambda: forget(self.workspace, user, now=self.now), point, nth, how)
        forget(self.workspace, user, now=self.now)
        self.receipts.add(user)
        self.model.forget(user)

    # --- what must always hold

    @invariant()
    def the_ledger_says_what_the_model_says(self) -> None:
        assert self._states() == self.model.state
        with self.workspace.ledger.snapshot() as view:
            current, batches = view.current_span_versions(), view.batches()
        assert {row.span_id: row.data_version for row in current} == self.model.data_version
        assert [(b.read, b.kept, b.duplicate, b.quarantined) for b in batches] == self.model.batches
        assert all(b.read == b.kept + b.duplicate + b.quarantined for b in batches)
        for row in current:
            folder = self.workspace.resolve(row.path)
            verify_folder(folder)
            found = [event for path in folder.glob("*.parquet") for event in events_of(path)]
            assert len(found) == len(set(found)) == row.rows
            assert set(found) == self.model.events[row.span_id]
            assert content_of(folder).fingerprint == row.fingerprint
        for batch, (*_, refused) in zip(batches, self.model.batches, strict=True):
            assert (batch.quarantine_path is not None) == (refused > 0)

    @invariant()
    def the_log_of_promotions_only_grows_and_leads_to_the_pointer(self) -> None:
        with self.workspace.ledger.snapshot() as view:
            moves, pointer = view.promotions(LINE), view.pointer(LINE)
            versions = {row.version_id: row for row in view.versions(LINE)}
        log = [(move.version_id, move.previous) for move in moves]
        assert log[: len(self.log)] == self.log
        self.log = log
        by_nights = [move for move in moves if move.reason.startswith("learnt span")]
        assert all(
            move.previous is None or versions[move.version_id].span_id >= versions[move.previous].span_id
            for move in by_nights
        ), "a night moved the live version back in time"
        assert [move.previous for move in moves] == [None, *(move.version_id for move in moves)][: len(moves)]
        assert pointer == (moves[-1].version_id if moves else None)
        assert all(row.parent is None or row.parent in versions for row in versions.values())
        self.model.named = {s for row in versions.values() for s in (row.span_id, *row.summary["spans"])}

    @invariant()
    def the_version_that_is_learnt_from_has_learnt_what_counts_as_published(self) -> None:
        """That is the one that is live, or the head of a chain that is built aside."""
        published = {span for span, state in self.model.state.items() if state == PUBLISHED}
        with self.workspace.ledger.snapshot() as view:
            head, pointer = head_of_learning(view), view.pointer(LINE)
        if pointer is None:
            assert not published
            assert head is None
            return
        verify_folder(Version.open(self.workspace).folder)
        version = Version.open(self.workspace, head)
        verify_folder(version.folder)
        with self.workspace.ledger.snapshot() as view:
            chain = chain_of_versions(view, version.row.version_id)
        order = [row.span_id for row in reversed(chain)]
        assert order == sorted(set(order)), "a version rests on one of the same or a later span"
        assert published <= learnt_spans(chain)
        learnt = learnt_events(version)
        for span in published:
            assert learnt[span] == self.model.events[span]

    @invariant()
    def nothing_of_a_forgotten_user_is_left(self) -> None:
        for user in self.model.forgotten:
            for path in self.workspace.root.rglob("*"):
                assert path.is_dir() or not mentions(path, user), f"{path} has {user}"

    @invariant()
    def the_doctor_finds_nothing_lost(self) -> None:
        assert [finding for finding in examine(self.workspace) if finding.severity == Severity.ERROR] == []

    # --- the ways there

    def _file(self, batch: tuple[Event, ...]) -> Path:
        self.files += 1
        path = self.folder / f"{self.files}.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("user_id", "item_id", "timestamp"), *batch])
        return path

    def _learn(self) -> None:
        with writing(self.workspace, "run", now=self.now) as writer:
            self._run_all(due(self.workspace, now=self.now), writer)

    def _run_all(self, runs: list[PlannedRun], writer: Writer) -> None:
        for run in runs:
            run_span(writer, run)

    def _published(self, runs: list[tuple[str, ...]]) -> None:
        self.model.state |= {span: PUBLISHED for run in runs for span in run}

    def _went_live(self, learnt: set[str]) -> None:
        """Spans that it has learnt count as such, unless their data, or how ids are numbered, have changed since."""
        self.model.live(learnt)
        states = self._states()
        assert all(states[span] in (PUBLISHED, DUE) for span in learnt)
        self.model.state |= {span: states[span] for span in learnt}

    def _raw_states(self) -> dict[str, str]:
        with self.workspace.ledger.snapshot() as view:
            return {row.span_id: row.state for row in view.spans()}

    def _states(self) -> dict[str, str]:
        return {span: str(s) if s in (PUBLISHED, REJECTED) else DUE for span, s in self._raw_states().items()}


#: A failure is shown as it was found: shrinking takes hours.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
CONFIG = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, phases=PHASES)


@pytest.mark.usefixtures("without_beam")
def test_any_commands_in_any_order() -> None:
    config = settings(CONFIG, max_examples=4, stateful_step_count=8, derandomize=True, database=None)
    run_state_machine_as_test(Machine, settings=config)


@pytest.mark.slow
@pytest.mark.usefixtures("without_beam")
def test_many_more_commands() -> None:
    config = settings(CONFIG, max_examples=150, stateful_step_count=30)
    run_state_machine_as_test(Machine, settings=config)
