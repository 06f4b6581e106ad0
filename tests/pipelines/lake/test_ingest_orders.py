"""Whatever the order, the batches and the rows of a log: the same lake, and every row is accounted for."""

import random
import shutil

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_cases import FULL, FULL_HEADER, events, lake, make_workspace, quarantine, run, write_csv


def test_order_of_rows_files_and_batches_does_not_matter(tmp_path):
    rng = random.Random(2)
    rows = [
        (f"u{rng.randrange(20)}", f"i{rng.randrange(9)}", 1_704_067_200 + 60_000 * rng.randrange(99))
        for _ in range(400)
    ]
    lakes = []
    for n, parts in enumerate(([rows], [rows[::-1]], [rows[200:], rows[:200]], rng.sample(rows, 400), None)):
        workspace = make_workspace(tmp_path / f"w{n}")
        parts = [rows[:9], rows[5:300], rows[280:]] if parts is None else parts
        parts = [parts] if isinstance(parts[0], tuple) else parts
        files = [write_csv(tmp_path / f"{n}-{k}.csv", part) for k, part in enumerate(parts)]
        if n == 4:  # night after night, with overlaps
            for file in files:
                run(workspace, file)
        else:
            run(workspace, *files)
        lakes.append(lake(workspace))
    assert all(content == lakes[0] for content in lakes)


ids = st.sampled_from(["u1", "u2", "", "'; DROP TABLE good;--", "../../x", "🦊", "a\nb", "007", "7"])
times = st.sampled_from(["2024-01-01", "2024-02-03T04:05", "never", "", "1950-01-01", "2050-01-01"])
GOOD = ("good", "good", "2024-04-04", "", "", "")  # a file without one readable time is refused
log_rows = st.lists(st.tuples(ids, ids, times, st.sampled_from(["", "x"]), st.sampled_from(["", "1", "?"]), ids))


@given(st.lists(log_rows, min_size=1, max_size=3))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_add_up_and_nothing_is_lost(tmp_path, logs):
    """Against a plain Python model of the rules."""
    root = tmp_path / "w"
    shutil.rmtree(root, ignore_errors=True)
    workspace = make_workspace(root, FULL)
    files = [
        write_csv(tmp_path / f"{n}.csv", [*log, ("n", "n", "never", n, "", ""), GOOD], FULL_HEADER)
        for n, log in enumerate(logs)
    ]
    report = run(workspace, *files)
    seen, kept, bad = set(), [], 0
    for log in logs:
        for user, item, time, kind, _value, event in [*log, ("", "", "", "", "", ""), GOOD]:
            if not user or not item or not time.startswith("2024"):
                bad += 1
                continue
            key = (time[:7], event) if event else (user, item, time, kind)
            kept += [] if key in seen else [(user, item)]
            seen.add(key)
    read = sum(map(len, logs)) + 2 * len(logs)
    assert (report.read, report.kept, report.quarantined) == (read, len(kept), bad)
    assert report.duplicate == read - len(kept) - bad
    for file in report.files:
        assert file.read == file.kept + file.duplicate + file.quarantined
    assert sorted(row[:2] for row in events(workspace)) == sorted(kept)
    assert len(quarantine(workspace)) == bad
