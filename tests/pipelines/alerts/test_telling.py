"""Messages against a receiver on this machine: told once, tried again when nobody took it, and no secret anywhere."""

from __future__ import annotations

import json
import shutil

import pytest
from receiver import SECRET, receiving
from small_world import NOW

from imsr_core.errors import ConfigError
from pipelines.alerts.receivers import deliver, scrubbed
from pipelines.alerts.telling import NOTE, read_note, tell, try_receivers
from pipelines.alerts.troubles import Trouble
from pipelines.settings.imsr_toml import load_settings
from pipelines.workspace.layout import Workspace

FAILED = Trouble("failed", "span d1 failed: the disk is gone", "imsr run", "failed d1")
STALE = Trouble("stale", "nothing was learnt since d1", "imsr status", "stale d1")


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture
def receiver():
    with receiving() as made:
        yield made


def told_by(folder, *urls, more=""):
    if folder.exists():
        shutil.rmtree(folder)
    return Workspace.create(folder, f"[alerts]\nurls = {json.dumps(urls)}\n{more}")


def test_a_trouble_is_told_once_with_what_to_type(tmp_path, receiver):
    workspace = told_by(tmp_path / "shop", receiver.url)
    told = tell(workspace, [FAILED], now=NOW)
    assert [each.problem for each in told.deliveries] == [""]
    (message,) = receiver.messages
    assert message["title"] == "imsr shop: failed"
    assert message["message"] == f"{FAILED.text}\n  -> {FAILED.hint}"
    assert message["type"] == "failure"
    assert not tell(workspace, [FAILED], now=NOW).troubles
    assert tell(workspace, [FAILED, STALE], now=NOW).troubles == (STALE,)
    assert len(receiver.messages) == 2
    tell(workspace, [], now=NOW)
    assert tell(workspace, [FAILED], now=NOW).troubles == (FAILED,)  # it was well in between


def test_a_receiver_that_fails_is_noted_without_its_secrets_and_tried_again(tmp_path, receiver):
    workspace = told_by(tmp_path / "shop", receiver.url)
    receiver.status = 500
    told = tell(workspace, [FAILED], now=NOW)
    (problem,) = told.problems
    assert problem.startswith("receiver 1 (json): ")
    assert "500" in problem
    assert SECRET not in (workspace.root / NOTE).read_text()
    assert read_note(workspace).problems == (problem,)
    receiver.status = 200
    assert tell(workspace, [FAILED], now=NOW).troubles == (FAILED,)
    assert read_note(workspace).problems == ()


def test_one_receiver_of_two_is_enough(tmp_path, receiver):
    workspace = told_by(tmp_path / "shop", "json://127.0.0.1:1/gone", receiver.url)
    assert [bool(each.problem) for each in tell(workspace, [FAILED], now=NOW).deliveries] == [True, False]
    assert not tell(workspace, [FAILED], now=NOW).troubles


def test_only_what_is_asked_for_is_told(tmp_path, receiver):
    workspace = told_by(tmp_path / "shop", receiver.url, more='on = ["rejected", "stale"]\n')
    assert tell(workspace, [FAILED, STALE], now=NOW).troubles == (STALE,)


def test_nobody_to_tell_tells_nobody(tmp_path):
    workspace = Workspace.create(tmp_path / "shop")
    assert tell(workspace, [FAILED], now=NOW).deliveries == ()


def test_a_receiver_from_the_environment(tmp_path, receiver, monkeypatch):
    workspace = told_by(tmp_path / "shop", "env:WHERE_TO")
    (missing,) = try_receivers(workspace, now=NOW)
    assert (missing.receiver, missing.problem) == ("receiver 1 (WHERE_TO)", "the variable WHERE_TO is not set")
    monkeypatch.setenv("WHERE_TO", receiver.url)
    (taken,) = try_receivers(workspace, now=NOW)
    assert (taken.receiver, taken.problem) == ("receiver 1 (json)", "")
    assert receiver.messages[0]["title"] == "imsr shop: a test"
    assert receiver.messages[0]["type"] == "info"


@pytest.mark.parametrize("url", [f"nothing://{SECRET}", SECRET, f"slack://{SECRET}", "", f"json://{SECRET}:nope/"])
def test_what_is_no_receiver_is_a_problem_and_not_shown(url):
    (delivery,) = deliver([url], "title", "body")
    assert delivery.problem
    assert SECRET not in str(delivery)


def test_a_damaged_note_tells_again(tmp_path, receiver):
    workspace = told_by(tmp_path / "shop", receiver.url)
    tell(workspace, [FAILED], now=NOW)
    for text in ("{", "[]", '{"at": 1}'):
        (workspace.root / NOTE).write_text(text)
        assert tell(workspace, [FAILED], now=NOW).troubles == (FAILED,)


@pytest.mark.parametrize(
    "line",
    [f'urls = "json://{SECRET}"', f'urls = [["{SECRET}"]]', f'urls = {{a = "{SECRET}"}}', f'url = ["{SECRET}"]'],
)
def test_settings_that_cannot_be_show_no_secret(line):
    with pytest.raises(ConfigError) as caught:
        load_settings(text=f"[alerts]\n{line}\n")
    assert SECRET not in f"{caught.value} {caught.value.hint}"


def test_a_kind_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="some of failed, rejected"):
        load_settings(text='[alerts]\non = ["tired"]\n')


def test_scrubbing_takes_every_part_of_a_url_also_where_it_is_quoted():
    url = "slack://T1ABCD/B2EFGH/c3ijkl?to=%23secret%20room"
    text = "POST https://hooks.slack.com/T1ABCD/B2EFGH/c3ijkl to #secret room failed: 404"
    assert not [part for part in ("T1ABCD", "B2EFGH", "c3ijkl", "secret room") if part in scrubbed(text, url)]
    assert scrubbed(text, url).endswith("failed: 404")
