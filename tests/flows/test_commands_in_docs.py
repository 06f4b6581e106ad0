"""What README and docs name is there: commands, their options, the settings of imsr.toml, files of the code."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from flows.cli import app
from flows.lazy import LazyCommand
from pipelines.settings.imsr_toml import Settings
from pipelines.settings.tasks import TaskSettings
from pipelines.warehouse.catalog import view_names
from pipelines.warehouse.dictionary import MACROS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Files that a reader is shown how to write.
EXAMPLES = {"imsr_core/strategies/averaged.py"}
#: `imsr`, a command, and what stands behind it up to the end of the line or of the code.
CALL = re.compile(r"\bimsr ([a-z][a-z-]*)((?: [^\s`|;&)]+)*)")
OPTION = re.compile(r"--?[a-z]")
SETTING = re.compile(r"`\[([a-z_]+)\] ([a-z_]+)(?:`| =)")


@cache
def command(name: str) -> Any:
    """A command of this name, loaded; None if there is none."""
    found = get_command(app).commands.get(name)
    return found.load() if isinstance(found, LazyCommand) else found


def options(of: Any) -> set[str]:
    """The options of a command, and those of `imsr` itself."""
    params = [*of.params, *get_command(app).params]
    return {"--help", *(name for each in params for name in (*each.opts, *each.secondary_opts))}


def unknown_in(text: str) -> list[str]:
    """Calls of ``text`` with an option that is not there."""
    wrong = []
    for call in CALL.finditer(text):
        found, words = command(call[1]), call[2].split()
        if found is None:  # prose: "imsr needs no GPU"; with an option it is meant to be a command
            wrong += [call[0]] if any(map(OPTION.match, words)) else []
            continue
        if words and words[0] in getattr(found, "commands", {}):
            found = found.commands[words[0]]
        asked = {word.split("=")[0].rstrip(".,:") for word in words if OPTION.match(word)}
        wrong += [call[0]] if asked - options(found) else []
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_tells_to_type_is_there(page):
    assert not unknown_in(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", ["`imsr run --hurry`", "`imsr task add --all-of-it`", "imsr hurry -w shop"])
def test_what_is_not_there_is_found(text):
    assert unknown_in(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_a_page_names_are_in_imsr_toml(page):
    sections = {field.name: getattr(Settings(), field.name) for field in fields(Settings)}
    known = {name: {each.name for each in fields(part)} for name, part in sections.items() if is_dataclass(part)}
    known["tasks"] = {field.name for field in fields(TaskSettings)}
    named = SETTING.findall(page.read_text(encoding="utf-8"))
    assert not [(section, key) for section, key in named if section in known and key not in known[section]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_the_code_that_a_page_names_are_there(page):
    there = {path.as_posix() for path in ROOT.rglob("*.py")}
    named = set(re.findall(r"`([\w/]+\.py)`", page.read_text(encoding="utf-8"))) - EXAMPLES
    assert not [name for name in named if not any(path.endswith(f"/{name}") for path in there)]


def test_the_help_of_sql_names_every_view_and_macro():
    named = set(re.findall(r"\w+", command("sql").help))
    inner = {"version_chain", "interest_count_stretches"}  # what other views are made of
    assert {*view_names(), *MACROS} - inner <= named
