"""The order of docs/design: imports point up the list only, there is no cycle, and no file outgrows its noun."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "acclimate"

# Simplest first. Names on one line stand side by side: none of them may import another one of the line.
LAYERS = [
    ["errors"],
    ["settings", "progress", "threads", "files", "interrupt", "keys", "ranks", "oom", "usage"],
    ["run"],
    ["data"],
    ["catalogue"],
    ["metrics"],
    ["align", "shallow", "hold"],
    ["backbones"],
    ["tasks"],
    ["features", "plain"],
    ["model"],
    ["transferability", "shift"],
    ["validate"],
    ["train"],
    ["strategies", "testtime"],
    ["evaluate"],
    ["structured"],
    ["advise"],
    ["report"],
    ["export"],
    ["serve"],
    ["api"],
    ["demo"],
    ["cli"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
LONGEST = 400
ENTRANCES = {"__init__", "__main__"}  # they load what they offer by name and stand outside the order


def modules() -> dict[str, Path]:
    """Dotted name below `acclimate` -> file."""
    found = {}
    for path in sorted(SRC.rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path
    return found


def imported(source: str, package: list[str]) -> set[str]:
    """Modules below `acclimate` that a source imports, anywhere in it; only those for type checkers are left out.

    `package` is the dotted package the source lies in, for relative imports.
    """
    names: set[str] = set()
    for node in _running(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            names.update(f"{start}.{alias.name}" for alias in node.names)
    return {name.removeprefix("acclimate.") for name in names if name.startswith("acclimate.")}


def _running(tree: ast.AST) -> list[ast.AST]:
    found: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            found += [part for other in node.orelse for part in [other, *_running(other)]]
        else:
            found += [node, *_running(node)]
    return found


def edges() -> dict[str, set[str]]:
    """Module -> modules that it imports, each by the name of its file."""
    known = modules()
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        package = ["acclimate", *path.relative_to(SRC).parts[:-1]]
        graph[name] = set()
        for target in imported(path.read_text(encoding="utf-8"), package):
            while target and target not in known:  # a name inside a module stands for the module
                target = target.rpartition(".")[0]
            if target and target != name:
                graph[name].add(target)
    return graph


def test_every_module_has_a_place() -> None:
    tops = {name.split(".")[0] for name in modules()} - ENTRANCES
    assert sorted(tops - RANK.keys()) == []


def test_imports_point_up_the_list() -> None:
    wrong = []
    for name, targets in edges().items():
        top = name.split(".")[0]
        if top not in RANK:  # an entrance, or named by the test above
            continue
        for target in targets:
            other = target.split(".")[0]
            if other != top and RANK.get(other, len(LAYERS)) >= RANK[top]:
                wrong.append(f"{name} imports {target}")
    assert sorted(wrong) == []


def test_there_is_no_cycle() -> None:
    graph = edges()
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*way, name))
            done.add(name)

    for name in graph:
        if name not in ENTRANCES:
            visit(name, ())


@pytest.mark.parametrize("name", sorted(modules()))
def test_no_file_is_too_long(name: str) -> None:
    lines = len(modules()[name].read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{name} has {lines} lines: does it hold two nouns?"


def test_no_public_function_shares_the_name_of_a_module_beside_it() -> None:
    known = modules()
    clashes = []
    for name, path in known.items():
        if path.name != "__init__.py":
            continue
        inside = f"{name}." if name != "__init__" else ""
        beside = {other.removeprefix(inside).split(".")[0] for other in known if other.startswith(inside)}
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if name == "__init__":
            functions = {"fit", "load", "compare", "inspect"}
        clashes += [f"{name}: {clash}" for clash in sorted(functions & beside)]
    assert clashes == []


def test_the_reader_of_imports_sees_all_kinds() -> None:
    source = """
from __future__ import annotations
import acclimate.train.loop
from acclimate import api, errors
from .rows import Table
from ..metrics import intervals
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from acclimate.cli import main
def late():
    if True:
        from acclimate.report.html import render_html
"""
    assert imported(source, ["acclimate", "data"]) == {
        "train.loop",
        "api",
        "errors",
        "data.rows.Table",
        "metrics.intervals",
        "report.html.render_html",
    }
