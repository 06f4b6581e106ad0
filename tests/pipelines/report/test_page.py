"""The report of a version: complete, self-contained, and safe to open whatever the ids are."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from html.parser import HTMLParser

import duckdb
import pytest
from small_world import NASTY_USER, NOW, VERSIONS, tree

from imsr_core.errors import ConfigError
from pipelines.care.forget import forget
from pipelines.interests.recommend import UnknownUserError
from pipelines.lake.ingest import ingest
from pipelines.report.matrix import span_matrix
from pipelines.report.page import write_report
from pipelines.versions.lineage import VersionError

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self._within = ""

    def handle_starttag(self, tag, attrs):
        self._within = tag
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_data(self, data):
        if self._within == "h2" and data.strip():
            self.headings.append(data)


@pytest.fixture(scope="module")
def reported(learnt, tmp_path_factory):
    root = tmp_path_factory.mktemp("report") / "<b>w&1"
    shutil.copytree(learnt.root, root)
    return type(learnt).open(root)


def read(path) -> tuple[Page, str]:
    text, page = path.read_text(encoding="utf-8"), Page()
    page.feed(text)
    return page, text


def test_a_report_says_what_there_is_to_say(reported):
    page, text = read(write_report(reported, user_id="u1"))
    wanted = [
        "Score, HR@10",
        "Interests a user",
        "How many interests",
        "Born and trimmed",
        "Drift",
        "The gate",
        "Promotions",
    ]
    assert [heading for heading in page.headings if heading in wanted] == wanted
    assert "The interests of user u1" in page.headings
    assert "Who is served how well" in page.headings
    for word in ("User u1 has ", "interests a user</span>", f"What {VERSIONS[-1]} was compared on"):
        assert word in text
    assert text.count("serves, too few events to judge") == len(VERSIONS)  # a handful of hidden events judges nothing
    assert "users it had never seen; they get popular items" in text
    assert "recommended before they happened" in text
    assert VERSIONS[-1] in text


def test_a_report_fetches_nothing_and_runs_nothing(reported):
    page, text = read(write_report(reported, user_id=NASTY_USER))
    assert page.links
    assert all(link.startswith("#") for link in page.links)  # the list of contents
    assert "script" not in page.tags
    assert "b" not in page.tags  # the folder's name is text
    assert not re.search(r"url\(|@import|https?://", text)


def test_views_of_an_earlier_release_are_written_anew(learnt, copy_of):
    workspace = copy_of(learnt)
    text = workspace.views_file.read_text()
    older = re.sub(
        r"CREATE OR REPLACE VIEW (span_metrics|forgetting) AS.*?;\n", "", text.partition("COMMENT ON")[0], flags=re.S
    )
    workspace.views_file.write_text("-- state of an earlier release\n" + older.partition("\n")[2])
    assert "Who is served how well" in read(write_report(workspace))[0].headings


def test_an_earlier_version_has_its_own_report(reported):
    path = write_report(reported, VERSIONS[1])
    assert path.name == f"{VERSIONS[1]}.html"
    assert VERSIONS[2] not in path.read_text(encoding="utf-8").split("<h2>Promotions")[0]


def test_a_report_elsewhere_writes_nothing_to_the_workspace(reported, copy_of, tmp_path):
    workspace = copy_of(reported)
    before, out = tree(workspace.root), tmp_path / "elsewhere.html"
    assert write_report(workspace, out=out) == out
    assert tree(workspace.root) == before
    assert out.read_text(encoding="utf-8").startswith("<!")
    with pytest.raises(ConfigError, match="is a folder"):
        write_report(workspace, out=tmp_path)


def test_the_same_version_gives_the_same_page(reported):
    assert write_report(reported).read_bytes() == write_report(reported).read_bytes()


def test_the_share_that_was_refused_stands_beside_each_ingest(learnt, copy_of, tmp_path):
    workspace, log = copy_of(learnt), tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\n,i,2024-01-01\n,j,2024-01-01\nu,,2024-01-01\n")
    batch = ingest(workspace, [log], now=NOW).batch_id
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", read(write_report(workspace))[1])
    at = cells.index(batch)
    assert cells[at + 3 : at + 9] == ["3", "0", "0", "3", "100.0 %", "yes"]
    assert cells[at + 9 + 7 : at + 9 + 9] == ["0.0 %", ""]


def test_what_earlier_spans_have_lost_is_a_difference_of_shares_and_not_a_share():
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE versions AS SELECT 's2.1' AS version_id, NULL::VARCHAR AS parent")
        connection.execute("CREATE TABLE spans AS SELECT 's1' AS span_id, TIMESTAMP '2024-03-01' AS start_time")
        connection.execute(
            "CREATE TABLE span_metrics AS "
            "SELECT 's2.1' AS version_id, 's2' AS version_span, 's1' AS span_id, .5 AS value"
        )
        connection.execute(
            "CREATE TABLE forgetting AS SELECT 's2.1' AS version_id, .1618 AS forgetting, -.1569 AS backward_transfer"
        )
        (section,) = span_matrix(connection, "s2.1", "hr@10")
    assert "have lost 16.2 percentage points on average; backward transfer -15.7 points." in section.says


def test_what_is_not_there_is_refused(reported):
    with pytest.raises(VersionError):
        write_report(reported, "nothing")
    with pytest.raises(UnknownUserError):
        write_report(reported, user_id="nobody")


def in_a_browser(page: str, width: int, asked: str, tmp_path) -> int:
    """What an expression in JavaScript says of the page in a window of that width."""
    probe = tmp_path / "probe.html"
    script = f"<script>addEventListener('load', () => {{ document.title = 'found ' + ({asked}) }})</script>"
    probe.write_text(page.replace("</body>", f"{script}</body>"), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},1000", "--dump-dom"]
    dom = subprocess.run([*command, probe.as_uri()], capture_output=True, text=True, timeout=120, check=True).stdout
    return int(re.search(r"<title>found (-?\d+)", dom)[1])


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [400, 1400])
def test_in_a_browser_nothing_is_wider_than_the_window(reported, tmp_path, width):
    page = write_report(reported).read_text(encoding="utf-8")
    assert in_a_browser(page, width, "document.documentElement.scrollWidth - innerWidth", tmp_path) <= 0


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_on_paper_every_column_is_there_where_nobody_can_scroll(reported, tmp_path):
    page = write_report(reported).read_text(encoding="utf-8").replace("@media print", "@media all")
    cut = "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth).length"
    assert in_a_browser(page, 700, cut, tmp_path) == 0


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_name_of_one_long_word_pushes_no_figure_out_of_the_window(reported, tmp_path):
    page = write_report(reported).read_text(encoding="utf-8")
    page = page.replace("of these: things new to the user", f"country={'x' * 200}")
    cut = "[...document.querySelectorAll('#who .scroll')].filter(each => each.scrollWidth > each.clientWidth).length"
    assert in_a_browser(page, 1200, cut, tmp_path) == 0


@pytest.mark.parametrize("user", ["u1", NASTY_USER])
def test_a_forgotten_user_is_in_no_report(learnt, copy_of, user):
    workspace = copy_of(learnt)
    with_user, without = write_report(workspace, user_id=user), write_report(workspace, VERSIONS[0], user_id="u2")
    forget(workspace, user, now=NOW)
    assert not with_user.exists()
    assert without.exists()
    assert user not in html.unescape(write_report(workspace, user_id="u2").read_text(encoding="utf-8"))
