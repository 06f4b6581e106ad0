"""The settings of docs/datasets.md read files of the layouts that they are for. All values are invented."""

import gzip
import re
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from ingest_cases import NOW, events, make_workspace, run, span_rows

from pipelines.lake.item_metadata import item_table
from pipelines.workspace.writer import writing

PAGE = Path(__file__).parents[3] / "docs" / "datasets.md"
SECTIONS = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
SETTINGS = {name: re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1] for name, text in SECTIONS}

#: Data set -> the name of a file, its content, the events in it (user, item, time), the rows that are left out.
LAYOUTS = {
    "MovieLens 100K": ("u.data", b"196\t242\t3\t881250949\n", [("196", "242", "1997-12-04T15:55:49")], 0),
    "MovieLens 1M": ("ratings.dat", b"1::1193::5::978300760\n", [("1", "1193", "2000-12-31T22:12:40")], 0),
    "MovieLens 25M": (
        "ratings.csv",
        b"userId,movieId,rating,timestamp\n1,296,5.0,1147880044\n1,306,3.5,1147868817\n",
        [("1", "296", "2006-05-17T15:34:04")],
        1,
    ),
    "Amazon 2014": (
        "ratings_Beauty.csv",
        b"A39HTATAQ9V7YF,0205616461,5.0,1369699200\n",
        [("A39HTATAQ9V7YF", "0205616461", "2013-05-28T00:00:00")],
        0,
    ),
    "Amazon 2018": (
        "All_Beauty.json.gz",
        gzip.compress(
            b'{"overall": 5.0, "verified": true, "reviewTime": "09 1, 2016", "reviewerID": "A3CIUOJXQ5VDQ2", '
            b'"asin": "B0000530HU", "style": {"Size:": " 7.0 oz"}, "unixReviewTime": 1472688000}\n'
        ),
        [("A3CIUOJXQ5VDQ2", "B0000530HU", "2016-09-01T00:00:00")],
        0,
    ),
    "Amazon 2023": (
        "All_Beauty.csv",
        b"user_id,parent_asin,rating,timestamp\nAGKHLEW2SOWHN,B00YQ6X8EO,5.0,1588687728923\n",
        [("AGKHLEW2SOWHN", "B00YQ6X8EO", "2020-05-05T14:08:48.923000")],
        0,
    ),
    "Yelp": (
        "yelp_academic_dataset_review.json",
        b'{"review_id":"KU_O","user_id":"mh_-","business_id":"XQfw","stars":3.0,"text":"If, \\"you\\"\\n decide",'
        b'"date":"2018-07-07 22:09:11"}\n',
        [("mh_-", "XQfw", "2018-07-07T22:09:11")],
        0,
    ),
    "Taobao": (
        "UserBehavior.csv",
        b"1,2268318,2520377,pv,1511544070\n1,2333346,2520771,buy,1511561733\n",
        [("1", "2268318", "2017-11-24T17:21:10")],
        1,
    ),
    "Gowalla": (
        "loc-gowalla_totalCheckins.txt",
        b"0\t2010-10-19T23:55:27Z\t30.2359091167\t-97.7951395833\t22847\n",
        [("0", "22847", "2010-10-19T23:55:27")],
        0,
    ),
    "Foursquare TSMC": (
        "dataset_TSMC2014_NYC.txt",
        "470\t49bbd6c0f964\t4bf58dd8\tCaf\xe9\t40.7\t-74.0\t-240\tTue Apr 03 18:00:09 +0000 2012\n".encode("latin-1"),
        [("470", "49bbd6c0f964", "2012-04-03T18:00:09")],
        0,
    ),
    "LastFM-1K": (
        "userid-timestamp-artid-artname-traid-traname.tsv",
        b'user_000001\t2009-05-04T13:54:10Z\ta7f7df4a\t"Weird Al" Yankovic\t\tEat It\n'
        b'user_000002\t2009-05-04T13:52:04Z\ta7f7df4a\t"Weird\t\tA\n',
        [
            ("user_000001", '"Weird Al" Yankovic', "2009-05-04T13:54:10"),
            ("user_000002", '"Weird', "2009-05-04T13:52:04"),
        ],
        0,
    ),
    "Yoochoose": (
        "yoochoose-clicks.dat",
        b"1,2014-04-07T10:51:09.277Z,214536502,0\n",
        [("1", "214536502", "2014-04-07T10:51:09.277000")],
        0,
    ),
    "Diginetica": (
        "train-item-views.csv",
        b"sessionId;userId;itemId;timeframe;eventdate\n1;NA;81766;526309;2016-05-09\n",
        [("1", "81766", "2016-05-09T00:00:00")],
        0,
    ),
    "RetailRocket": (
        "events.csv",
        b"timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n",
        [("257597", "355908", "2015-06-02T05:02:12.117000")],
        0,
    ),
    "REES46": (
        "2019-Oct.csv",
        b"event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
        b"2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde\n",
        [("541312140", "44600062", "2019-10-01T00:00:00")],
        0,
    ),
    "MIND": (
        "behaviors.tsv",
        b"1\tU13740\t11/11/2019 9:05:58 PM\tN55189 N42782\tN55689-1 N35729-0\n",
        [("U13740", "N55689", "2019-11-11T21:05:58")],
        1,
    ),
    "OTTO": (
        "otto-recsys-train.jsonl",
        b'{"session":0,"events":[{"aid":1517085,"ts":1659304800025,"type":"clicks"},'
        b'{"aid":1563459,"ts":1659304904511,"type":"carts"}]}\n',
        [("0", "1517085", "2022-07-31T22:00:00.025000"), ("0", "1563459", "2022-07-31T22:01:44.511000")],
        0,
    ),
    "H&M": (
        "transactions_train.csv",
        b"t_dat,customer_id,article_id,price,sales_channel_id\n2018-09-20,000058a1,0663713001,0.0508,2\n",
        [("000058a1", "0663713001", "2018-09-20T00:00:00")],
        0,
    ),
    "Tmall": (
        "ijcai2016_taobao.csv",
        b"use_ID,sel_ID,ite_ID,cat_ID,act_ID,time\n34300,1,2,3,0,20151031\n",
        [("34300", "2", "2015-10-31T00:00:00")],
        0,
    ),
}


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "Instacart"])
def test_the_settings_of_the_page_read_a_file_of_the_layout(tmp_path, name):
    file, content, expected, left_out = LAYOUTS[name]
    workspace = make_workspace(tmp_path / "w", SETTINGS[name])
    (tmp_path / file).write_bytes(content)
    report = run(workspace, tmp_path / file)
    assert (report.kept, report.quarantined, report.files[0].left_out) == (len(expected), 0, left_out)
    assert events(workspace) == sorted((user, item, f"{time}+00:00") for user, item, time in expected)


def test_types_have_weights_where_events_have_no_value(tmp_path):
    workspace = make_workspace(tmp_path / "w", SETTINGS["OTTO"])
    (tmp_path / "otto.jsonl").write_bytes(LAYOUTS["OTTO"][1])
    run(workspace, tmp_path / "otto.jsonl")
    assert {(row["event_type"], row["value"]) for row in span_rows(workspace, "2022-07")} == {
        ("clicks", 1),
        ("carts", 3),
    }


def test_the_films_have_names_as_the_page_says(tmp_path):
    page = dict(SECTIONS)["MovieLens 1M"]
    workspace = make_workspace(tmp_path / "w", "".join(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)))
    lines = "1::Toy Story (1995)::Animation|Children's|Comedy\n73::Misérables, Les (1995)::Drama|Musical\n"
    (workspace.root / "movies.dat").write_bytes(lines.encode("latin-1"))
    with writing(workspace, "test", now=NOW) as writer:
        kept = item_table(workspace.settings).keep(writer)
    table = pq.read_table(workspace.resolve(kept.path))
    assert table["title"].to_pylist() == ["Toy Story (1995)", "Misérables, Les (1995)"]


def test_instacart_is_joined_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    orders = "order_id,user_id,eval_set,order_number,order_dow,order_hour_of_day,days_since_prior_order\n"
    Path("orders.csv").write_text(f"{orders}10,1,prior,1,2,08,\n11,1,prior,2,3,07,15.0\n12,2,prior,1,3,07,\n")
    products = "order_id,product_id,add_to_cart_order,reordered\n10,196,1,0\n10,14084,2,0\n11,196,1,1\n12,5,1,0\n"
    Path("order_products__prior.csv").write_text(products)
    duckdb.connect().execute(re.search(r"```sql\n(.*?)```", dict(SECTIONS)["Instacart"], re.DOTALL)[1])
    workspace = make_workspace(tmp_path / "w", SETTINGS["Instacart"])
    assert run(workspace, tmp_path / "instacart.parquet").kept == 4
    assert events(workspace)[:2] == [
        ("1", "14084", "2017-01-01T00:00:00+00:00"),
        ("1", "196", "2017-01-01T00:00:00+00:00"),
    ]
    assert ("1", "196", "2017-01-16T00:00:00+00:00") in events(workspace)


def test_every_data_set_of_the_page_is_tried():
    assert {*LAYOUTS, "Instacart"} == set(SETTINGS)
    assert len(SETTINGS) >= 20
