"""A hint can be typed as it stands."""

import pytest

from flows.next_command import keep_workspace, named_workspace

SHOP = ["run", "-w", "shop"]


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (["run", "-w", "a b"], "a b"),
        (["run", "-wshop"], "shop"),
        (["-w"], None),
        (["run", "--workspace", "x"], "x"),
        (["run", "--workspace=x=y"], "x=y"),
        (["sql", "FROM x"], None),
    ],
)
def test_the_workspace_that_a_command_line_names(arguments, folder):
    assert named_workspace(arguments) == folder


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("run: imsr doctor", "run: imsr doctor -w shop"),
        ("imsr restate 2024-03", "imsr restate -w shop 2024-03"),
        ("imsr prune --damaged, then: imsr run", "imsr prune -w shop --damaged, then: imsr run -w shop"),
        ("imsr task add NAME", "imsr task add -w shop NAME"),
        ("the views: imsr sql --help", "the views: imsr sql --help"),
        ("run: imsr init", "run: imsr init"),
        ("imsr alerts test", "imsr alerts test -w shop"),
        ("imsr against each", "imsr against each"),
        ("what imsr runs", "what imsr runs"),
        ("`imsr ingest` reads", "`imsr ingest -w shop` reads"),
    ],
)
def test_it_stands_in_every_command_that_is_advised(said, wanted):
    assert keep_workspace(said, SHOP) == wanted
    assert keep_workspace(wanted, SHOP) == wanted
    assert keep_workspace(said, ["run"]) == said


def test_a_folder_with_a_space_is_quoted():
    assert keep_workspace("imsr run", ["run", "-w", "my shop"]) == "imsr run -w 'my shop'"
