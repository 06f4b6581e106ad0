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

#: The rooms of `pipelines`, as floors from the ground up: a room imports only from rooms on floors below its own.
FLOORS = (
    {"settings"},
    {"workspace"},
    {"lake"},
    {"sequences"},
    {"versions"},
    {"interests", "warehouse"},
    {"tasks", "nights", "bench", "insight", "serving"},
    {"alerts", "care", "report", "stream"},
)
#: The same for `imsr_core`; "" is what lies in the package itself.
CORE_FLOORS = ({"", "extractors", "score"}, {"encoders", "strategies"}, {"lifelong"}, {"testing"})
#: What a package may import besides the standard library and itself.
ALLOWED = {
    "imsr_core": {"torch", "numpy", "safetensors"},
    "pipelines": {
        "imsr_core", "torch", "numpy", "safetensors", "pyarrow", "duckdb", "apache_beam", "dask", "distributed",
        "matplotlib", "jinja2", "markupsafe", "confluent_kafka", "fastavro", "psutil",
        "apprise", "faiss",
    },
    "flows": {
        "imsr_core", "pipelines", "sample_data", "prefect", "typer", "rich", "click", "cronsim", "httpx",
        "fastapi", "starlette", "uvicorn", "prometheus_client", "pydantic",
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
    if "testing" in path.parts:
        foreign -= {"pytest"}
    assert foreign <= ALLOWED[package], f"{name_of(path)} imports {sorted(foreign - ALLOWED[package])}"


def modules_imported(path: Path) -> set[str]:
    """Modules of this project that a file imports, also within functions; `from room import module` counts as one."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found & MODULES.keys()


def module_of(path: Path) -> str:
    """The name by which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}
GRAPH = {name: modules_imported(path) - {name} for name, path in MODULES.items()}


def room_of(module: str) -> str:
    """The room of a module; "" if it lies in none."""
    name, *_ = module.partition(".")[2].partition(".")
    return name if (ROOT / module.split(".")[0] / name).is_dir() else ""


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One way round through a graph that leads back to where it began, or nothing."""
    done: set[str] = set()

    def walk(at: str, way: list[str]) -> list[str]:
        if at in way:
            return [*way[way.index(at) :], at]
        for there in () if at in done else sorted(graph[at]):
            if found := walk(there, [*way, at]):
                return found
        done.add(at)
        return []

    return next((found for start in sorted(graph) if (found := walk(start, []))), [])


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert not circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})


def test_no_modules_import_each_other_in_a_circle():
    assert not circle(GRAPH)


@pytest.mark.parametrize(("package", "floors"), [("pipelines", FLOORS), ("imsr_core", CORE_FLOORS)])
def test_rooms_stand_on_the_floors_below_them(package, floors):
    floor = {room: number for number, rooms in enumerate(floors) for room in rooms}
    inside = {name: others for name, others in GRAPH.items() if name.startswith(f"{package}.")}
    imports = [(name, other) for name, others in inside.items() for other in sorted(others & inside.keys())]
    together = {frozenset(rooms) for rooms in floors if "" in rooms}
    sideways = {(a, b) for rooms in together for a in rooms for b in rooms}
    upwards = [
        f"{name} imports {other}"
        for name, other in imports
        if (here := room_of(name)) != (there := room_of(other)) and (here, there) not in sideways
        if floor[here] <= floor[there]
    ]
    assert not upwards


@pytest.mark.parametrize("room", sorted(set().union(*FLOORS)))
def test_a_room_says_what_it_is_and_which_of_its_files_to_begin_with(room):
    folder = ROOT / "pipelines" / room
    said = ast.get_docstring(tree_of(folder / "__init__.py")) or ""
    named = re.findall(r"`([a-z_.]+)`", said)
    assert named
    assert not [name for name in named if not (folder / name).exists() and not (folder / f"{name}.py").exists()]


def test_every_room_has_a_floor():
    rooms = {path.parent.name for path in (ROOT / "pipelines").glob("*/__init__.py")}
    assert rooms == set().union(*FLOORS)
    assert not [path for path in (ROOT / "pipelines").glob("*.py") if path.name != "__init__.py"]


def test_the_docs_show_every_room_on_its_floor():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    shown: list[set[str]] = []
    for number, room in re.findall(r"^\|( \d)? \| `(\w+)/` \|", text, re.M):
        if number:
            shown.append(set())
            assert int(number) == len(FLOORS) + 1 - len(shown)
        shown[-1].add(room)
    assert shown[::-1] == list(FLOORS)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^ {6}(\w+)/ ", readme, re.M)) == set().union(*FLOORS)


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
    """A method that a base class documents, one line that its name says, or a test."""
    if not isinstance(owner, ast.ClassDef) or not isinstance(node, ast.FunctionDef):
        return False
    return bool(owner.bases) or len(node.body) == 1 or node.name.startswith("test_")


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
    extras = project["optional-dependencies"]
    optional = _names(extras["bench"] + extras["dask"] + extras["kafka"])
    optional |= {"faiss"} if extras["ann"] else set()  # what faiss-cpu brings
    used = set().union(*(imported(path) for path in FILES)) & set().union(*ALLOWED.values())
    # click comes with typer, distributed with dask[distributed], markupsafe with jinja2, starlette with fastapi
    assert used - {*PACKAGES, "sample_data", "click", "distributed", "markupsafe", "starlette"} <= needed | optional
    assert needed - used <= {"sqlalchemy"}  # pinned for Prefect


def _names(requirements: list[str]) -> set[str]:
    found = (re.match(r"[A-Za-z0-9_-]+", requirement) for requirement in requirements)
    return {name.group().lower().replace("-", "_") for name in found if name}


def test_duckdb_is_opened_in_one_place():
    opens = [name_of(path) for path in FILES if "duckdb.connect(" in path.read_text(encoding="utf-8")]
    assert opens == ["pipelines/workspace/engine.py"]
