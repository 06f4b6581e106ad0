"""Text files as spreadsheets, databases and old machines write them: each gives the right rows, or says what is wrong.

A case is a file, and either (users kept, reasons of the other rows) or the words of an error. Nothing else may happen.
"""

import bz2
import gzip
import io
import lzma
import zipfile

import pytest
from ingest_cases import NOW, events, lake, make_workspace, quarantine, run

from imsr_core.errors import ImsrError
from pipelines.lake.ingest import ingest

HEADER = "user_id,item_id,timestamp\n"
ROWS = "u1,i1,2024-01-01\nu2,i2,2024-01-02\n"
PLAIN = HEADER + ROWS
TITLED = "user_id,item_id,timestamp,title\nu1,i1,2024-01-01,x\nu2,i2,2024-01-02,{}"
BOTH = ["u1", "u2"]
UTF16 = 'encoding = "utf-16"'


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, PLAIN)
    return buffer.getvalue()


def semicolons(text: str) -> str:
    return text.replace(",", ";")


#: What it is -> (name, content, [source], what comes of it).
CASES = {
    # quotes
    "a stray quote in the last line": ("a.csv", TITLED.format('"open\n'), "", (BOTH, [])),
    "a stray quote in the last line, which has no end": ("a.csv", TITLED.format('"open'), "", (BOTH, [])),
    "a stray quote in the last line's id": ("a.csv", PLAIN + 'u3,"i3,2024-01-03', "", ([*BOTH, "u3"], [])),
    "an open quote and too few columns at the end": ("a.csv", PLAIN + 'u3,"i3', "", (BOTH, ["malformed_row"])),
    "quotes escaped by a backslash": ("a.csv", TITLED.format('"say \\"hi\\" x"\n'), "", (["u1"], ["malformed_row"])),
    "quotes escaped by a backslash, as it is said": (
        "a.csv",
        TITLED.format('"say \\"hi, \\\\\\" x"\n') + 'u\\3,"i ""3""",2024-01-03,"C:\\dir\\\\"\n',
        'escape = "backslash"',
        ([*BOTH, "u\\3"], []),
    ),
    "quotes of another kind": ("a.csv", HEADER + "'u1','i1','2024-01-01'\n", "", 'set quote = "\'"'),
    "quotes between tabs": ("a.tsv", 'user_id\titem_id\ttimestamp\n"u"\t"i"\t"2024-01-01"\n', "", "set quote = '\"'"),
    "text after a closing quote": ("a.csv", TITLED.format('"a" b\n'), "", (["u1"], ["malformed_row"])),
    # what spreadsheets do
    "sep= above the header": ("a.csv", "sep=;\n" + semicolons(PLAIN), "", (BOTH, [])),
    "sep= of a tab, quoted": ("a.csv", '"sep=\t"\n' + PLAIN.replace(",", "\t"), "", (BOTH, [])),
    "sep= after a mark, of Windows": (
        "a.csv",
        "\ufeffsep=;\r\n" + semicolons(PLAIN).replace("\n", "\r\n"),
        "",
        (BOTH, []),
    ),
    "sep= and no header": (
        "a.csv",
        "sep=;\n" + semicolons(ROWS),
        'columns = ["user_id", "item_id", "timestamp"]',
        (BOTH, []),
    ),
    "empty columns and rows at the edge": (
        "a.csv",
        "user_id,item_id,timestamp,,\n" + ROWS.replace("\n", ",,\n") + ",,,,\n",
        "",
        (BOTH, ["missing_user_id"]),
    ),
    "trailing delimiters": ("a.csv", HEADER + ROWS.replace("\n", ",\n"), "", (BOTH, [])),
    "the end of an old DOS file": ("a.csv", PLAIN + "\x1a", "", (BOTH, ["malformed_row"])),
    "a column of row numbers": ("a.csv", ",user_id,item_id,timestamp\n0,u1,i1,2024-01-01\n", "", (["u1"], [])),
    # lines
    "empty lines above the header": ("a.csv", "\n \n" + PLAIN, "", (BOTH, [])),
    "empty lines between": ("a.csv", PLAIN.replace("\n", "\n\n"), "", (BOTH, [])),
    "lines that end in LF CR": ("a.csv", PLAIN.replace("\n", "\n\r"), "", (BOTH, [])),
    "lines that end in CR CR LF": ("a.csv", PLAIN.replace("\n", "\r\r\n"), "", (BOTH, [])),
    "lines that end in CR": ("a.csv", PLAIN.replace("\n", "\r"), "", (BOTH, [])),
    "rows that end in CR after a header in LF": (
        "a.csv",
        HEADER + ROWS.replace("\n", "\r") + "u3,i,2024-01-03\n",
        "",
        ([*BOTH, "u3"], []),
    ),
    "separators of lines that are none here": ("a.csv", TITLED.format("x\u2028y\x85z\x0b\n"), "", (BOTH, [])),
    "the header again in the middle": (
        "a.csv",
        PLAIN + HEADER + "u3,i3,2024-01-03\n",
        "",
        ([*BOTH, "u3"], ["unparsable_timestamp"]),
    ),
    "a count at the end": ("a.csv", PLAIN + "(2 rows)\n", "", (BOTH, ["malformed_row"])),
    "a row too short": ("a.csv", PLAIN + "u3,i3\n", "", (BOTH, ["malformed_row"])),
    "a NUL in an id": ("a.csv", PLAIN + "u\0,i,2024-01-03\n", "", (BOTH, ["id_contains_nul"])),
    # headers
    "a header and no row": ("a.csv", HEADER, "", ([], [])),
    "no line at all": ("a.csv", "\n\n", "", "the file is empty, it has not even a header"),
    "a header in capitals": ("a.csv", HEADER.upper() + ROWS, "", "did you mean 'USER_ID'?"),
    "a header with spaces": ("a.csv", " user_id ,item_id ,timestamp\n" + ROWS, "", "did you mean ' user_id '?"),
    "comments above the header": ("a.csv", "# made on Monday,\n#\n\n# by us\n" + PLAIN, "", (BOTH, [])),
    "a comment above another header": ("a.csv", "# made on Monday\nuid,item_id,timestamp\n", "", "no column 'user_id'"),
    "a header that is written as a comment": ("a.csv", "#" + PLAIN, "", "did you mean '#user_id'?"),
    "rows of other columns above the header": ("a.csv", "uid,t\nu1,2\n" + PLAIN, "", "line 3 is the header, it seems"),
    "a title above the header": ("a.csv", "Report\n\n" + PLAIN.replace(",", ";"), "", "line 3 is the header, it seems"),
    "two columns of one name": ("a.csv", "user_id," + PLAIN, "", "two columns are called 'user_id'"),
    # encodings
    "UTF-16 with a mark": ("a.csv", PLAIN.encode("utf-16"), UTF16, (BOTH, [])),
    "UTF-16 that is not said": ("a.csv", PLAIN.encode("utf-16"), "", 'encoding = "utf-16"'),
    "UTF-16 without a mark": ("a.csv", PLAIN.encode("utf-16-le"), "", "it has zero bytes, as UTF-16"),
    "UTF-32": ("a.csv", PLAIN.encode("utf-32"), "", 'encoding = "utf-32"'),
    "UTF-8 where UTF-16 is said": ("a.csv", PLAIN, UTF16, "not utf-16"),
    "Latin-1 that is not said": (
        "a.csv",
        (PLAIN + "Zoë,i,2024-01-03\n").encode("latin-1"),
        "",
        (BOTH, ["malformed_row"]),
    ),
    "a mark, and quotes around the names": ("a.csv", '\ufeff"user_id","item_id","timestamp"\n' + ROWS, "", (BOTH, [])),
    # packed
    "gzip of nothing": ("a.csv.gz", gzip.compress(b""), "", "the file is empty"),
    "no byte of gzip": ("a.csv.gz", b"", "", "the file is empty"),
    "gzip without its end": ("a.csv.gz", gzip.compress(PLAIN.encode())[:-4], "", "cannot be read as csv"),
    "bzip2 without its end": ("a.csv.bz2", bz2.compress(PLAIN.encode())[:-4], "", "cannot be read as csv"),
    "xz without its end": ("a.csv.xz", lzma.compress(PLAIN.encode())[:-4], "", "cannot be read as csv"),
    "two gzip files in one": (
        "a.csv.gz",
        gzip.compress(PLAIN.encode()) + gzip.compress(b"u3,i,2024-01-03\n"),
        "",
        ([*BOTH, "u3"], []),
    ),
    "a ZIP archive": ("a.zip", zipped("a.csv"), "", "unpack it"),
    "a packed TAR archive": ("a.tar.gz", b"\x1f\x8b", "", "unpack it"),
    "a ZIP archive of a CSV file": ("a.csv.zip", zipped("a.csv"), "", "unpack it"),
    "a ZIP archive that is called CSV": ("a.csv", zipped("a.csv"), "", "it is a ZIP archive"),
    # JSON
    "two objects in one line": (
        "a.jsonl",
        '{"user_id":"u1","item_id":"i","timestamp":"2024-01-01"}\n' * 2 + '{"user_id":"u2"}{"user_id":"u3"}\n{bad\n',
        "",
        (["u1"], ["malformed_row"] * 2),
    ),
    "a list in every line": ("a.jsonl", '[{"user_id":"u1"}]\n[{"user_id":"u2"}]\n', "", "cannot be read as json"),
    "a list of no object": ("a.json", "[1, 2]", "", "no line of it is a JSON object"),
    "a list and a comma too many": ("a.json", '[{"user_id":"u1"},\n]', "", "cannot be read as json"),
    "half a surrogate": (
        "a.jsonl",
        '{"user_id":"\\ud83d","item_id":"i","timestamp":"2024-01-01"}\n{"user_id":"u1","item_id":"i","timestamp":"2024-01-01"}\n',
        "",
        (["u1"], ["malformed_row"]),
    ),
    "a key in capitals": (
        "a.jsonl",
        '{"User_ID":"u1","item_id":"i","timestamp":"2024-01-01"}\n',
        "",
        "did you mean 'User_ID'?",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_gives_its_rows_or_says_what_is_wrong(tmp_path, case):
    name, content, source, expected = CASES[case]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    workspace = make_workspace(tmp_path / "w", f"[source]\n{source}\n")
    if isinstance(expected, str):
        with pytest.raises(ImsrError) as caught:
            run(workspace, tmp_path / name)
        assert expected in str(caught.value)
        assert lake(workspace) == {}
        return
    users, reasons = expected
    report = run(workspace, tmp_path / name)
    assert report.read == report.kept + report.duplicate + report.quarantined
    assert [event[0] for event in events(workspace)] == users
    assert [row["reason"] for row in quarantine(workspace)] == reasons


def test_columns_in_another_order_in_the_next_file_of_one_name(tmp_path):
    workspace = make_workspace(tmp_path / "w")
    for folder, content in (("a", PLAIN), ("b", "timestamp,user_id,item_id\n2024-01-03,u3,i3\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "log.csv").write_text(content)
    run(workspace, tmp_path / "a" / "log.csv", tmp_path / "b" / "log.csv")
    assert [event[0] for event in events(workspace)] == [*BOTH, "u3"]


def test_a_folder_that_is_called_like_a_file(tmp_path):
    (tmp_path / "x.csv").mkdir()
    workspace = make_workspace(tmp_path / "w")
    with pytest.raises(ImsrError, match="no event files in this folder"):
        ingest(workspace, [tmp_path / "x.csv"], now=NOW)
    (tmp_path / "x.csv" / "part-0.csv").write_text(PLAIN)
    assert run(workspace, tmp_path / "x.csv").kept == 2
