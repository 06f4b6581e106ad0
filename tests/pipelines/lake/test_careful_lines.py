"""No line is swallowed by a quote: records and physical lines are reconciled."""

import csv
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ingest_cases import make_workspace, quarantine, run

from pipelines.lake.careful_lines import MAX_LINE_BYTES, Layout, records

LAYOUT = Layout(5, ",", '"', time=2)
texts = st.text("ab\",\n '", max_size=12)
rows = st.lists(st.tuples(texts, texts, st.just("2024-01-01"), texts, texts), min_size=1, max_size=8)
STRAY = 'user_id,item_id,timestamp,title\nu1,i1,1704067200,"Heroes\nu2,i2,1704067201,Low\nu3,i3,1704067202,Lodger\n'


@given(rows, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
@example([(",", "a,,\n", "2024-01-01", "a,,\n", "")], csv.QUOTE_MINIMAL)  # has all columns line by line, and no time
def test_what_a_writer_of_csv_wrote_comes_back(rows, quoting):
    out = io.StringIO(newline="")
    csv.writer(out, quoting=quoting, lineterminator="\n").writerows(rows)
    found = list(records(out.getvalue().encode().split(b"\n")[:-1], LAYOUT))
    assert [tuple(record.fields or ()) for record in found] == rows


@given(st.lists(st.text('a",1', max_size=14), max_size=12))
def test_every_line_belongs_to_one_record(lines):
    found = list(records([line.encode() for line in lines], LAYOUT))
    covered = [n for record in found for n in range(record.line, record.line + record.lines)]
    assert len(covered) == len(set(covered))
    assert {n for n, line in enumerate(lines, 1) if line} <= set(covered)
    assert all((record.fields is None) == bool(record.complaint) for record in found)
    assert all(record.fields is None or len(record.fields) == 5 for record in found)


@given(rows, st.integers(0, 7), st.sampled_from([3, 4]), st.integers(0, 2))
def test_a_stray_quote_costs_no_other_record(rows, place, column, later):
    """A quote opens in the text of one record; perhaps another record closes one."""
    plain = [[f"u{n}", f"i{n}", "2024-01-01", "a b", "c"] for n in range(len(rows) + later)]
    place %= len(plain)
    plain[place][column] = '"' + plain[place][column]
    if place + later < len(plain) and later:
        plain[place + later][column] += '"'
    found = list(records([",".join(row).encode() for row in plain], LAYOUT))
    assert [record.fields for record in found] == plain


@pytest.mark.parametrize(
    "end", ['u4,i4,1704067203,Blackstar"\nu5,i5,1704067204,Hours\n', "", 'u4,i4,1704067203,"Hours\n']
)
@pytest.mark.parametrize("name", ["log.csv", "log.tsv"])
def test_events_around_a_stray_quote_are_kept(tmp_path, name, end):
    workspace = make_workspace(tmp_path / "w")
    text = (STRAY + end).replace(",", "\t" if name.endswith("tsv") else ",")
    (tmp_path / name).write_text(text)
    report = run(workspace, tmp_path / name)
    assert (report.read, report.kept) == (text.count("\n") - 1,) * 2


def test_a_field_of_several_lines_is_one_field_and_a_broken_one_costs_its_line(tmp_path):
    workspace = make_workspace(tmp_path / "w")
    text = 'user_id,item_id,timestamp,note\nu1,i1,2024-01-01,"one,\ntwo, ""three"", four\n"\n'
    text += 'u2,i2,2024-01-02,"a"b\nu3,"i3\n'
    (tmp_path / "log.csv").write_text(text + "u4,i4,2024-01-04,x\n")
    report = run(workspace, tmp_path / "log.csv")
    assert (report.read, report.kept, report.quarantined) == (4, 2, 2)
    assert [(row["row_number"], row["detail"][:33]) for row in quarantine(workspace)] == [
        (5, "text after a closing quote: u2,i2"),
        (6, "a quote opens on line 6 and does "),
    ]


def test_half_a_million_lines_after_one_quote(tmp_path):
    workspace = make_workspace(tmp_path / "w")
    lines = [f"u{n % 999},i{n % 99},{1_704_067_200 + n},{'' if n != 7 else chr(34)}t{n}" for n in range(60_000)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,timestamp,title", *lines]))
    report = run(workspace, tmp_path / "log.csv")
    assert (report.read, report.kept, report.quarantined) == (60_000, 60_000, 0)


def test_a_record_of_many_megabytes_is_one_row(tmp_path):
    workspace = make_workspace(tmp_path / "w")
    long = "x" * 3_000_000  # more than the engine takes
    (tmp_path / "log.csv").write_text(
        f"user_id,item_id,timestamp,title\nu1,i1,2024-01-01,{long}\n{long},i2,2024-01-01,t\nu3,i3,2024-01-01,t\n{long}\n"
    )
    report = run(workspace, tmp_path / "log.csv")
    assert (report.read, report.kept) == (4, 2)
    assert report.reasons == {"id_too_long": 1, "malformed_row": 1}
    assert len(quarantine(workspace)[1]["detail"]) < 2_000


def test_a_line_beyond_all_bounds_is_said():
    (record,) = records([b"x" * MAX_LINE_BYTES], LAYOUT)
    assert "a line of 67,108,864 bytes or more" in record.complaint
