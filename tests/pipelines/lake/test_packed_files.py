"""Packed files of text: read like plain ones, refused when they are damaged or are not what their name says."""

import bz2
import gzip
import lzma
from contextlib import suppress

import duckdb
import pyarrow as pa
import pytest

from pipelines.care.landing_files import find_user, without_user
from pipelines.lake.event_files import no_data
from pipelines.lake.packing import open_unpacked, packing_of
from pipelines.lake.readers import Budget, EventFile, ReadError, read_file
from pipelines.settings.source import SourceSettings

ROWS = "".join(f"u{n},i{n},{1704067200 + n}\n" for n in range(3000))
TEXT = ("user_id,item_id,timestamp\n" + ROWS).encode()


def zstd(data):
    return pa.compress(data, codec="zstd", asbytes=True)


PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstd, ".xz": lzma.compress}


def read(path, source=None, **options):
    link = path.with_name(f"link to {path.name}")
    link.symlink_to(path)
    with duckdb.connect() as connection:
        read_file(connection, EventFile(path, link), source or SourceSettings(), "raw", **options)
        return connection.execute("SELECT user_id, item_id, timestamp FROM raw ORDER BY row_number").fetchall()


def written(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("ending", PACK)
def test_a_packed_file_gives_the_rows_of_a_plain_one(tmp_path, ending):
    wanted = read(written(tmp_path / "e.csv", TEXT))
    assert read(written(tmp_path / f"one.csv{ending}", PACK[ending](TEXT))) == wanted
    two = PACK[ending](TEXT[:1000]) + PACK[ending](TEXT[1000:])
    assert read(written(tmp_path / f"two.csv{ending}", two)) == wanted
    lines = b'{"user_id": "u", "item_id": "i", "timestamp": 1704067200}\n'
    assert read(written(tmp_path / f"e.jsonl{ending.upper()}", PACK[ending](lines))) == [("u", "i", "1704067200")]
    latin = TEXT.replace(b"u7,", "ü7,".encode("latin-1"))
    other = read(written(tmp_path / f"l.csv{ending}", PACK[ending](latin)), SourceSettings(encoding="latin-1"))
    assert ("ü7", "i7", "1704067207") in other


@pytest.mark.parametrize("size", [9, 512, 3 << 20])
@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz"])
def test_zeros_behind_the_end_are_padding(tmp_path, ending, size):
    wanted = read(written(tmp_path / "e.csv", TEXT))
    assert read(written(tmp_path / f"e.csv{ending}", PACK[ending](TEXT) + bytes(size))) == wanted
    two = PACK[ending](TEXT[:1000]) + bytes(size) + PACK[ending](TEXT[1000:])
    with suppress(ReadError):  # or all of it, never the first part alone
        assert read(written(tmp_path / f"two.csv{ending}", two)) == wanted


def test_zeros_behind_the_end_of_what_has_no_padding_are_said(tmp_path):
    with pytest.raises(ReadError, match=r"e\.csv\.zst"):
        read(written(tmp_path / "e.csv.zst", zstd(TEXT) + bytes(512)))


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("how", ["cut off", "garbage behind", "half a second stream", "not packed", "flipped"])
def test_a_damaged_packed_file_is_refused_as_a_whole(tmp_path, ending, how):
    if (ending, how) == (".zst", "flipped"):
        pytest.skip("a checksum is optional in Zstandard, and Arrow writes none")
    packed = PACK[ending](TEXT)
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0x55
    data = {
        "cut off": packed[:-7],
        "garbage behind": packed + b"garbage that is long enough to be seen",
        "half a second stream": packed + packed[: len(packed) // 2],
        "not packed": TEXT,
        "flipped": bytes(flipped),
    }
    with pytest.raises(ReadError, match=r"e\.csv") as caught:
        read(written(tmp_path / f"e.csv{ending}", data[how]))
    assert caught.value.hint
    assert "link" not in caught.value.message


@pytest.mark.parametrize("ending", PACK)
def test_a_small_file_that_unpacks_to_more_than_the_budget(tmp_path, ending):
    path = written(tmp_path / f"e.csv{ending}", PACK[ending](TEXT + b"u,i,1704067200\n" * 400_000))
    with pytest.raises(ReadError, match="unpacks to more than"):
        read(path, budget=Budget(10_000_000, 1 << 20))


@pytest.mark.parametrize("ending", PACK)
def test_a_packed_file_with_the_name_of_a_plain_one_says_what_it_is(tmp_path, ending):
    with pytest.raises(ReadError, match="packed by") as caught:
        read(written(tmp_path / "e.csv", PACK[ending](TEXT)))
    assert caught.value.hint == f"name it e.csv{ending}"


def test_a_column_whose_name_begins_as_other_files_do_is_text(tmp_path):
    data = b"PAR1,user_id,item_id,timestamp\nx,u,i,1704067200\n"
    assert read(written(tmp_path / "e.csv", data)) == [("u", "i", "1704067200")]


@pytest.mark.parametrize("ending", PACK)
def test_a_user_is_taken_out_of_a_packed_file_of_the_landing_folder(tmp_path, ending):
    path = written(tmp_path / f"e.csv{ending}", PACK[ending](TEXT))
    assert no_data(path) is None
    assert [file.rows for file in find_user([path], SourceSettings(), "u7")] == [1]
    out = tmp_path / f"out.csv{ending}"
    without_user(path, SourceSettings(), "u7", out)
    with open_unpacked(out, packing_of(out)) as stream:
        assert stream.read() == TEXT.replace(b"u7,i7,1704067207\n", b"")
