"""What lies in landing/: data goes in, what is no data is left alone, what cannot be read is set aside."""

import errno
import gzip
import os

import duckdb
import pytest
from ingest_cases import NOW, ROWS, events, make_workspace, run, span_rows, write_csv

from pipelines.lake import ingest_plan, readers
from pipelines.lake.event_files import ReadError, find
from pipelines.lake.intake import Intake
from pipelines.lake.landing import RefusedFilesError, check_refused, ingest_landed, landed
from pipelines.lake.warnings import QuarantinedShareError, check_quarantined, share_of_rows
from pipelines.settings.imsr_toml import load_settings
from pipelines.workspace.writer import writing

JUNK = ("_SUCCESS", "README.md", "Thumbs.db", "log.csv.tmp", ".hidden.csv", "events.lock", "copy.csv~", "notes.pdf")


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path / "w")


def ingest_all(workspace, folder=None):
    with writing(workspace, "test", now=NOW) as writer:
        return ingest_landed(writer, folder)


def test_what_is_no_data_is_named_and_left_alone(workspace):
    landing = workspace.root / "landing"
    for name in JUNK:
        (landing / name).write_text("junk")
    (landing / "empty.csv").write_text("")
    (landing / "what.xyz").write_text("junk")
    (landing / "_tmp").mkdir()
    write_csv(landing / "_tmp" / "part.csv", ROWS)
    write_csv(landing / "good.csv", ROWS)
    report, found = ingest_all(workspace)
    assert (report.kept, report.refused) == (4, ())
    assert {path.name for path in found.ignored} == {*JUNK, "empty.csv", "what.xyz", "part.csv"}
    assert all((landing / name).exists() for name in JUNK)
    assert landed(workspace) == [landing / "good.csv"]
    assert ingest_all(workspace)[0].skipped == ("good.csv",)


def test_a_landing_folder_that_is_not_there_is_not_an_empty_one(workspace, tmp_path, monkeypatch):
    landing = workspace.root / "landing"
    write_csv(landing / "a.csv", ROWS)
    monkeypatch.setattr(os, "access", lambda path, mode: "landing" not in str(path))
    with pytest.raises(ReadError, match="may not be read"):
        ingest_all(workspace)
    monkeypatch.undo()
    landing.rename(tmp_path / "disk")
    landing.symlink_to(tmp_path / "disk")
    assert ingest_all(workspace)[0].kept == 4
    (tmp_path / "disk").rename(tmp_path / "unplugged")
    with pytest.raises(ReadError, match="which is not there") as caught:
        ingest_all(workspace)
    assert "mounted" in caught.value.hint


def test_a_folder_in_landing_that_may_not_be_read_is_named(workspace, monkeypatch):
    landing = workspace.root / "landing"
    write_csv(landing / "a.csv", ROWS)
    (landing / "secret").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: "secret" not in str(path))
    report, found = ingest_all(workspace)
    assert report.kept == 4
    assert found.ignored == {landing / "secret": "a folder that this user may not read"}


def test_a_name_that_is_no_text_costs_nothing(workspace):
    """A system allows any bytes in a name; a file from an old Windows has some that are no UTF-8."""
    good, bad = (workspace.root / "landing" / os.fsdecode(b"caf\xe9-" + name) for name in (b"1.csv", b"2.csv"))
    try:
        write_csv(good, [("u", "i", "2024-01-01")])
    except OSError:
        pytest.skip("this file system allows names of text only")
    bad.write_text("no,events\n1,2\n")
    report, _ = ingest_all(workspace)
    assert (report.kept, [file.name for file in report.refused]) == (1, ["caf\\xe9-2.csv"])
    assert [row["source"] for row in span_rows(workspace, "2024-01")] == ["caf\\xe9-1.csv"]
    assert ingest_all(workspace)[0].skipped == ("caf\\xe9-1.csv",)


def test_a_file_that_cannot_be_read_is_set_aside_and_the_others_go_in(workspace):
    landing = workspace.root / "landing"
    (landing / "deep").mkdir()
    write_csv(landing / "a.csv", [("x", "y", "z")], ("what", "is", "this"))
    (landing / "deep" / "b.parquet").write_text("no Parquet")
    write_csv(landing / "c.csv", [("u", "i", "soon")])
    write_csv(landing / "good.csv", ROWS)
    report, _ = ingest_all(workspace)
    assert [file.name for file in report.refused] == ["a.csv", "c.csv", "deep/b.parquet"]
    assert (report.kept, len(events(workspace))) == (4, 4)
    assert landed(workspace) == [landing / "good.csv"]
    refused = landing / "refused"
    assert (refused / "deep" / "b.parquet").exists()
    assert "no column 'user_id'" in (refused / "a.csv.reason.txt").read_text()
    assert "the first is 'soon'" in (refused / "c.csv.reason.txt").read_text()
    with pytest.raises(RefusedFilesError, match=r"a\.csv"):
        check_refused(report)
    report, found = ingest_all(workspace)
    assert (report.refused, report.skipped, found.ignored) == ((), ("good.csv",), {})
    write_csv(landing / "a.csv", [("x", "y", "z")], ("still", "is", "this"))
    assert [file.path for file in ingest_all(workspace)[0].refused] == [str(refused / "a-1.csv")]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE], ids=os.strerror)
@pytest.mark.parametrize(("room", "name"), [(ingest_plan, "file_sha256"), (readers, "read_delimited")])
def test_a_disk_that_does_not_answer_is_no_fault_of_the_file(workspace, monkeypatch, room, name, number):
    """It is neither set aside nor passed over: the next ingest takes it."""

    def fail(*_, **__):
        said = os.strerror(number)
        raise OSError(number, said) if room is ingest_plan else duckdb.IOException(f"IO Error: cannot read: {said}")

    path = write_csv(workspace.root / "landing" / "a.csv", ROWS)
    monkeypatch.setattr(room, name, fail)
    with pytest.raises((OSError, duckdb.IOException), match=os.strerror(number)):
        ingest_all(workspace)
    monkeypatch.undo()
    assert landed(workspace) == [path]
    assert ingest_all(workspace)[0].kept == 4


def test_a_landing_folder_of_only_broken_files_makes_no_batch(workspace, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "bad.json").write_text("[1, 2")
    report, _ = ingest_all(workspace, folder)
    assert (report.batch_id, len(report.refused)) == (None, 1)
    assert (folder / "refused" / "bad.json").exists()


@pytest.mark.parametrize(("name", "where"), [("ml.item", "[items] metadata"), ("ml.user", "[segments] users")])
def test_a_table_beside_the_events_is_told_where_it_belongs(tmp_path, name, where):
    (tmp_path / name).write_text("user_id:token\tage:token\n1\t24\n")
    with pytest.raises(ReadError, match="and no events") as refused:
        find([tmp_path / name])
    assert where in refused.value.hint
    assert find([tmp_path / name], format="csv").files


def test_folders_patterns_and_columns_that_only_the_path_names(tmp_path):
    workspace = make_workspace(tmp_path / "w", '[source]\ntimestamp = "dt"\nevent_type = "kind"\n')
    for day in ("2024-01-01", "2024-01-02"):
        folder = tmp_path / "log" / f"dt={day}" / "kind=a%2Fb"
        folder.mkdir(parents=True)
        write_csv(folder / "part-0.csv", [(f"u{day[-1]}", "i")], ("user_id", "item_id"))
    (tmp_path / "log" / "_SUCCESS").touch()
    report = run(workspace, tmp_path / "log")
    assert [file.name for file in report.files] == [f"dt=2024-01-0{n}/kind=a%2Fb/part-0.csv" for n in (1, 2)]
    assert events(workspace) == [("u1", "i", "2024-01-01T00:00:00+00:00"), ("u2", "i", "2024-01-02T00:00:00+00:00")]
    assert run(workspace, tmp_path / "log" / "*" / "**" / "*.csv").skipped
    with pytest.raises(ReadError, match="no file matches"):
        find([tmp_path / "*.parquet"])
    (tmp_path / "none").mkdir()
    with pytest.raises(ReadError, match="no event files"):
        find([tmp_path / "none"])


def test_too_many_rows_in_quarantine_fail_after_they_are_recorded(workspace, tmp_path):
    bad = [("", "i", "2024-01-01"), ("u", "", "2024-01-01"), ("u", "i", "2024-01-01")]
    report = run(workspace, write_csv(tmp_path / "log.csv", bad))
    assert (report.batch_id, report.kept, report.quarantined) == ("b000001", 1, 2)
    with pytest.raises(QuarantinedShareError, match="1 missing_item_id, 1 missing_user_id") as caught:
        check_quarantined(report, workspace.settings)
    assert "--replace" in str(caught.value)
    check_quarantined(report, load_settings(text="[ingest]\nmax_quarantined_share = 0.7"))


@pytest.mark.parametrize(
    ("content", "first", "to_set"),
    [
        ("user_id,item_id,timestamp\nZoë,café,2024-01-01\n".encode("latin-1"), "row 2: ", "set encoding under"),
        (b"user_id,item_id,timestamp\nu,i,2024-01-01\nv,i,9.9.24\nw,i,8.9.24\n", "row 2: v, i, 9.9.24", "time_format"),
        (b"user_id,item_id,timestamp\nu,i,2024-01-01\nNA,i,2024-01-02\n,i,2024-01-01\n", "row 2: ", "null_val"),
        (b"user_id,item_id,timestamp\nu,i,1900-01-01\n", "row 1: u, i, 1900", "min_year"),
    ],
)
def test_a_refused_ingest_shows_the_first_row_and_what_to_set(workspace, tmp_path, content, first, to_set):
    (tmp_path / "log.csv").write_bytes(content)
    report = run(workspace, tmp_path / "log.csv")
    with pytest.raises(QuarantinedShareError) as caught:
        check_quarantined(report, workspace.settings)
    assert f"log.csv, {first}" in str(caught.value)
    assert to_set in caught.value.hint


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_a_file_that_is_still_being_written_stays_for_the_next_ingest(workspace, monkeypatch, ending):
    landing = workspace.root / "landing"
    write_csv(landing / "good.csv", ROWS)
    whole = b"user_id,item_id,timestamp\nann,rye,2024-01-10\nbob,rye,2024-01-11\n"
    packed = gzip.compress(whole) if ending.endswith("gz") else whole
    growing = landing / f"growing.{ending}"
    growing.write_bytes(packed[:-5])
    read = Intake.load

    def load(intake, number, file, *rest):
        if file == growing:
            growing.write_bytes(packed[:-1])
        return read(intake, number, file, *rest)

    monkeypatch.setattr(Intake, "load", load)
    report, _ = ingest_all(workspace)
    assert (report.kept, report.refused, report.skipped) == (4, (), (f"growing.{ending}",))
    assert growing.exists()
    monkeypatch.undo()
    growing.write_bytes(packed)
    report, _ = ingest_all(workspace)
    assert (report.kept, report.refused) == (2, ())


def test_a_pattern_leaves_alone_what_is_plainly_no_data(tmp_path):
    for name, text in (("b.csv", "x"), ("a.csv", "x"), ("empty.csv", ""), ("README.md", "about"), ("_SUCCESS", "")):
        (tmp_path / name).write_text(text)
    found = find([tmp_path / "*", tmp_path / "empty.csv"])  # who is named one by one is meant
    assert [each.name for each in found.files] == ["a.csv", "b.csv", "empty.csv"]
    assert {path.name for path in found.ignored} == {"empty.csv", "README.md", "_SUCCESS"}


@pytest.mark.parametrize(("share", "read"), [(0.9, "90%"), (1.0, "100%"), (0.0129, "1.3%"), (0.0005, "0.05%")])
def test_a_limit_below_a_per_cent_is_not_shown_as_none(share, read):
    assert share_of_rows(share) == read
