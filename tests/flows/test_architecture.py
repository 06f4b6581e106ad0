"""The shape of the code: who may import whom, what is documented, how long a file gets."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("imsr_core", "pipelines", "flows")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

#: What a package may import besides the standard library and itself.
ALLOWED = {
    "imsr_core": {"torch", "numpy", "safetensors"},
    "pipelines": {
        "imsr_core", "torch", "numpy", "safetensors", "pyarrow", "duckdb", "apache_beam", "dask", "distributed",
        "matplotlib",
    },
    "flows": {
        "imsr_core", "pipelines", "sample_data", "prefect", "typer", "rich", "click",
        "torch", "numpy", "pyarrow", "duckdb",
    },
}  # fmt: skip


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: imports are absolute"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    foreign = imported(path) - set(sys.stdlib_module_names) - {package}
    assert foreign <= ALLOWED[package], f"{name_of(path)} imports {sorted(foreign - ALLOWED[package])}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_runs_code_from_data(path):
    names = imported(path)
    assert not names & {"pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}, f"{name_of(path)}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            loads = isinstance(owner, ast.Name) and (owner.id, node.func.attr) == ("torch", "load")
            assert not loads, f"{name_of(path)}:{node.lineno}: torch.load"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_module_and_every_public_definition_is_documented(path):
    tree = tree_of(path)
    missing = [] if ast.get_docstring(tree) or not tree.body else ["the module"]
    for owner in ast.walk(tree):
        if not isinstance(owner, ast.Module | ast.ClassDef) or (
            isinstance(owner, ast.ClassDef) and owner.name.startswith("_")
        ):
            continue
        for node in owner.body:
            public = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if public and not node.name.startswith("_") and not ast.get_docstring(node) and not _overrides(owner, node):
                missing.append(f"{node.name} (line {node.lineno})")
    assert not missing, f"{name_of(path)}: no docstring: {', '.join(missing)}"


def _overrides(owner: ast.AST, node: ast.AST) -> bool:
    """A method that a base class documents, or one line that its name says."""
    if not isinstance(owner, ast.ClassDef) or not isinstance(node, ast.FunctionDef):
        return False
    return bool(owner.bases) or len(node.body) == 1


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
            assert body <= 60, f"{name_of(path)}: {node.name} has {body} lines"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_names_say_what_a_file_is_about(path):
    assert path.stem not in {"utils", "util", "helpers", "helper", "common", "misc", "base", "tools"}


def test_every_dependency_is_declared_and_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = _names(project["dependencies"])
    optional = _names(project["optional-dependencies"]["bench"] + project["optional-dependencies"]["dask"])
    used = set().union(*(imported(path) for path in FILES)) & set().union(*ALLOWED.values())
    # click comes with typer, distributed with dask[distributed]
    assert used - {*PACKAGES, "sample_data", "click", "distributed"} <= needed | optional
    assert needed - used <= {"fastapi", "sqlalchemy"}  # pinned for Prefect


def _names(requirements: list[str]) -> set[str]:
    found = (re.match(r"[A-Za-z0-9_-]+", requirement) for requirement in requirements)
    return {name.group().lower().replace("-", "_") for name in found if name}
