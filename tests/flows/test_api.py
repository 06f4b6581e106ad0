"""The lists over HTTP, as a product asks for them."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from small_world import NASTY_USER, VERSIONS
from typer.testing import CliRunner

from flows.api import application
from flows.cli import app
from pipelines.serving.live import Live
from pipelines.serving.model import ServedModel
from pipelines.versions.lineage import VersionError


@pytest.fixture(scope="module")
def client(learnt):
    return TestClient(application(Live.open(learnt)))


def test_a_users_list_names_its_version(client):
    answer = client.get("/users/u1/recommendations", params={"n": 3}).json()
    assert answer["version"] == VERSIONS[-1]
    assert [row["rank"] for row in answer["items"]] == [1, 2, 3]
    assert all(row["reason"] for row in answer["items"])


def test_a_page_for_people_asks_the_service_and_nobody_else(client):
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "http" not in answer.text
    assert "recommendations" in answer.text


def test_new_leaves_out_what_the_user_had(client):
    had = {row["item_id"] for row in client.get("/users/u1/recommendations", params={"n": 60}).json()["items"]}
    new = {row["item_id"] for row in client.get("/users/u1/recommendations?n=60&new=true").json()["items"]}
    assert new < had


def test_ids_may_be_anything(client):
    answer = client.get(f"/users/{quote(NASTY_USER, safe='')}/recommendations")
    assert answer.json()["user_id"] == NASTY_USER


def test_ids_may_be_addresses(client):
    address = quote("https://news.example/a/b?c#d", safe="")
    answer = client.get(f"/users/{address}/recommendations", params={"n": 1}).json()
    assert (answer["user_id"], answer["items"][0]["reason"]) == ("https://news.example/a/b?c#d", "popular")
    for path in (f"/users/{address}/interests", f"/items/{address}/similar"):
        assert "does not know" in client.get(path).json()["detail"]


@pytest.mark.parametrize("user", ["two\nlines", "\n", "an end\n", "a/b", "a/recommendations", "u1/interests"])
def test_ids_may_have_lines_and_slashes(client, user):
    asked = quote(user, safe="")
    assert client.get(f"/users/{asked}/recommendations").json()["user_id"] == user
    assert repr(user) in client.get(f"/users/{asked}/interests").json()["detail"]  # nobody is called so
    assert repr(user) in client.get(f"/items/{asked}/similar").json()["detail"]
    assert "{user_id}/recommendations" in client.get("/metrics").text


def test_a_whole_number_is_the_id_that_is_written_so_as_in_python(client):
    assert client.post("/recommendations", json={"items": ["i1", 7], "n": 2, "names": True}).json()["known_items"] == 1
    assert client.post("/recommendations", json={"items": [7]}).status_code == 404
    assert client.post("/recommendations", json={"items": [True, "i1"]}).status_code == 422
    assert client.post("/recommendations", json={"items": [1.5, "i1"]}).status_code == 422


def test_a_session_and_similar_items(client):
    answer = client.post("/recommendations", json={"items": ["i1", "never seen"], "n": 2}).json()
    assert (answer["known_items"], len(answer["items"])) == (1, 2)
    assert len(client.get("/items/i1/similar", params={"n": 4}).json()["items"]) == 4


def test_names_are_said_where_they_are_wanted(client):
    plain = client.get("/users/u1/recommendations", params={"n": 3}).json()["items"]
    named = client.get("/users/u1/recommendations", params={"n": 3, "names": True}).json()["items"]
    assert [row["name"] for row in named] == [row["item_id"] for row in plain]  # there is no table about items
    assert all(row["why"] and row["interest"] for row in named)
    assert "name" not in plain[0]
    assert client.get("/items/i1/similar?n=2&names=true").json()["name"] == "i1"
    session = client.post("/recommendations", json={"items": ["i1"], "n": 2, "names": True}).json()
    assert all(row["name"] == row["item_id"] for row in session["items"])
    assert "i11" in {row["item_id"] for row in client.get("/items", params={"q": "i1"}).json()["items"]}


def test_a_users_interests_are_told(client):
    told = client.get("/users/u1/interests").json()
    assert told["says"].startswith("User u1 has ")
    assert all(each["label"] and each["items"] for each in told["interests"])
    assert client.get("/users/nobody/interests").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("get", "/items/never-seen/similar", None, 404),
        ("post", "/recommendations", {"items": ["never seen"]}, 404),
        ("post", "/recommendations", {"items": []}, 422),
        ("post", "/recommendations", {"items": ["i1"], "what": 1}, 422),
        ("get", "/users/u1/recommendations?n=0", None, 422),
        ("get", "/users/u1/recommendations?n=100000", None, 422),
        ("get", "/items", None, 422),
        ("get", "/items?q=%20", None, 400),
        ("get", "/nothing", None, 404),
    ],
)
def test_what_cannot_be_answered_is_said(client, method, path, body, status):
    answer = client.request(method, path, json=body)
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_health_versions_and_metrics(client):
    assert client.get("/health").json() == {"status": "ok", "version": VERSIONS[-1], "problem": None}
    assert client.get("/versions/current").json()["version"] == VERSIONS[-1]
    client.get("/users/u1/recommendations")
    text = client.get("/metrics").text
    assert 'imsr_requests_total{route="/users/{user_id}/recommendations",status="200"}' in text
    assert "imsr_version_stuck 0.0" in text


@pytest.mark.parametrize(("error", "status"), [(VersionError("it was pruned"), 503), (RuntimeError("a bug"), 500)])
def test_what_is_not_the_askers_fault_is_said_and_counted(learnt, monkeypatch, error, status):
    def fail(*_, **__):
        raise error

    client = TestClient(application(Live.open(learnt)), raise_server_exceptions=False)
    monkeypatch.setattr(ServedModel, "recommend", fail)
    assert client.get("/users/u1/recommendations").status_code == status
    text = client.get("/metrics").text
    assert f'imsr_requests_total{{route="/users/{{user_id}}/recommendations",status="{status}"}} 1.0' in text


def test_with_a_key_only_health_is_open(learnt):
    client = TestClient(application(Live.open(learnt), key="secret"))
    assert client.get("/health").status_code == 200
    for path in (
        "/users/u1/recommendations",
        "/users/u1/interests",
        "/items/i1/similar",
        "/items?q=i",
        "/versions/current",
        "/metrics",
    ):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"X-API-Key": "wrong"}).status_code == 401
        assert client.get(path, headers={"X-API-Key": "secret"}).status_code == 200


def test_listening_elsewhere_wants_a_key(learnt, monkeypatch):
    monkeypatch.delenv("IMSR_API_KEY", raising=False)
    result = CliRunner().invoke(app, ["api", "-w", str(learnt.root), "--host", "0.0.0.0"])
    assert result.exit_code == 1
    assert "IMSR_API_KEY" in result.exception.hint


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"items": ["i1"], "n": NaN}', 422),
        (b'{"items": ["\\ud800"]}', 400),
        (b'{"items": ["i1"], "\\ud800": 1}', 422),
        (b'{"items": [NaN]}', 422),
        (b"[" * 100_000, 400),
    ],
)
def test_what_no_json_could_answer_is_refused_in_words(client, body, status):
    answer = client.post("/recommendations", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_what_was_wrong_is_not_sent_back(client):
    answer = client.post("/recommendations", json={"items": ["i1"] * 10_001})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "items"]
    assert len(answer.content) < 300


@pytest.mark.parametrize("path", ["/", "/health", "/users/u1/recommendations", "/items?q=i1", "/metrics"])
def test_head_is_answered_where_get_is(client, path):
    assert client.head(path).status_code == 200
    assert client.head("/recommendations").status_code == 405  # only POST is
