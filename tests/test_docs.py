"""The documentation is true: generated parts are up to date, everything is mentioned, code parses, links resolve."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def _render() -> ModuleType:
    spec = importlib.util.spec_from_file_location("acclimate_docs_render", ROOT / "docs" / "render.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


render = _render()
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_generated_parts_are_up_to_date() -> None:
    assert [page_id(page) for page in render.stale()] == [], "bring them up to date with: make docs"


def test_every_method_says_when_to_use_it() -> None:
    """A line of the page to choose by without advice is a docstring without it."""
    rows = [line.split(" | ") for line in render.choosing().splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    assert [row[0] for row in rows if len(row[1]) < 10] == []


def test_every_command_and_option_is_in_the_commands_page() -> None:
    """Also where the generated part were cut out of the page: the marker must be there."""
    page = TEXT[ROOT / "docs" / "cli.md"]
    found = dict(render.visible_commands())
    assert len(found) >= 13
    missing = [f"## {name}\n" for name in found if f"## {name}\n" not in page]
    missing += [
        f"{name} {option}"
        for name, command in found.items()
        for parameter in render.visible_parameters(command)
        if parameter.param_type_name == "option"
        for option in parameter.opts
        if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", page)
    ]
    assert missing == []


def test_every_option_says_what_it_is() -> None:
    silent = [
        f"{name} {parameter.name}"
        for name, command in render.visible_commands()
        for parameter in render.visible_parameters(command)
        if not parameter.help and parameter.name != "help"
    ]
    assert silent == []


def test_every_strategy_is_explained_and_placed_in_the_objective() -> None:
    from acclimate.strategies import BASELINES, STRATEGIES

    names = [*STRATEGIES, "auto"]
    strategies, transfer = TEXT[ROOT / "docs" / "strategies.md"], TEXT[ROOT / "docs" / "transfer.md"]
    assert [name for name in [*names, *BASELINES] if f"| `{name}` |" not in strategies] == []
    assert [name for name in STRATEGIES if f"`{name}`" not in transfer] == []
    assert [name for name in names if f"`{name}`" not in TEXT[ROOT / "README.md"]] == []


def test_every_metric_model_and_data_set_is_mentioned() -> None:
    from acclimate.catalogue.datasets import DATASETS
    from acclimate.catalogue.models import MODELS
    from acclimate.metrics.tables import METRICS

    numbers, models = TEXT[ROOT / "docs" / "numbers.md"], TEXT[ROOT / "docs" / "models.md"]
    assert [name for known in METRICS.values() for name in known if f"`{name}`" not in numbers] == []
    assert [name for name in [*MODELS, *DATASETS] if f"| `{name}` |" not in models] == []


def test_every_finding_of_the_gate_is_explained() -> None:
    """Kinds are the constant first arguments of `finding(...)` in the data layer."""
    page, kinds = TEXT[ROOT / "docs" / "data.md"], set()
    for path in (ROOT / "src" / "acclimate" / "data").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "finding"
            if called and isinstance(node.args[0], ast.Constant):
                kinds.add(node.args[0].value)
    assert len(kinds) >= 15
    assert sorted(kind for kind in kinds if f"`{kind}`" not in page) == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_python_parses(page: Path) -> None:
    for language, code in FENCE.findall(TEXT[page]):
        assert language in ("python", "sh", "text", "json"), (
            f"a block of {page_id(page)} names no language: {code[:60]}"
        )
        if language == "python":
            ast.parse(code)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_shown_are_understood(page: Path) -> None:
    """Every `acclimate ...` line in a shell block has a known command and known options."""
    import typer.main

    from acclimate.cli.main import app

    group: Any = typer.main.get_command(app)
    for language, code in FENCE.findall(TEXT[page]):
        lines = code.replace("\\\n", " ").splitlines() if language == "sh" else []
        for line in lines:
            words = shlex.split(line, comments=True)
            if not words or words[0] != "acclimate":
                continue
            command: Any = group
            for word in words[1:]:
                if not getattr(command, "commands", None):
                    break
                assert word in command.commands, line
                command = command.commands[word]
            options = {option for parameter in command.params for option in parameter.opts}
            assert [word for word in words if word.startswith("-") and word.partition("=")[0] not in options] == [], (
                line
            )


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", TEXT[page])
    local = [link for link in links if not re.match(r"\w+:", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_readme_opens_with_the_two_commands() -> None:
    top = TEXT[ROOT / "README.md"].splitlines()[:6]
    assert [line.split("#")[0].strip() for line in top if line.startswith("make")] == ["make demo", "make test"]


def test_every_page_is_in_the_index() -> None:
    index = TEXT[ROOT / "docs" / "index.md"]
    pages = [page.name for page in (ROOT / "docs").glob("*.md") if page.name != "index.md"]
    assert [name for name in pages if f"]({name})" not in index] == []


def test_the_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        name
        for text in TEXT.values()
        for name in re.findall(r"`make (\w+)`|^make (\w+)", text, re.MULTILINE)
        for name in name
        if name
    }
    assert named <= targets
    assert {"demo", "test", "lint", "docs", "bench", "real", "clean"} <= targets
