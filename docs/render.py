"""Writes the parts of docs/ that repeat what the code says: commands, strategies, metrics, models, data sets.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`. `python docs/render.py` brings all of them up to
date, `python docs/render.py --check` only tells which are not. tests/test_docs.py does the same check.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
WIDTH = 110


def visible_commands() -> Iterator[tuple[str, Any]]:
    """Every command that help shows, by its full name, in the order of help."""
    import typer.main

    from acclimate.cli.main import app

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        if not getattr(command, "commands", None):
            yield name, command
            return
        if command.invoke_without_command and name != "acclimate":  # `acclimate` alone shows its help
            yield name, command
        for part, below in command.commands.items():
            if not below.hidden:
                yield from walk(f"{name} {part}", below)

    yield from walk("acclimate", typer.main.get_command(app))


def visible_parameters(command: Any) -> list[Any]:
    """Its arguments, then its options, as help shows them."""
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    return sorted(shown, key=lambda parameter: parameter.param_type_name != "argument")


def commands() -> str:
    """The help of every command as one text block each, the same whichever release of typer is installed."""
    return "\n".join(f"## {name}\n\n```text\n{_help(name, command)}\n```\n" for name, command in visible_commands())


def _help(name: str, command: Any) -> str:
    parameters = visible_parameters(command)
    arguments = [parameter.metavar for parameter in parameters if parameter.param_type_name == "argument"]
    lines = [" ".join([name, *arguments, "[OPTIONS]"]), "", *textwrap.wrap(command.help or "", WIDTH), ""]
    labels = {id(parameter): _label(parameter) for parameter in parameters}
    left = min(34, max((len(label) for label in labels.values()), default=0))
    for parameter in parameters:
        text = textwrap.wrap(f"{parameter.help or ''}{_default(parameter)}", WIDTH - left - 4) or [""]
        label = labels[id(parameter)]
        if len(label) > left:
            lines.append(f"  {label}")
            label = ""
        lines += [
            f"  {first:<{left}}  {rest}".rstrip() for first, rest in zip([label] + [""] * len(text), text, strict=False)
        ]
    return "\n".join(lines).rstrip()


def _label(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar)
    names = ", ".join(parameter.opts)
    return names if getattr(parameter, "is_flag", False) else f"{names} {parameter.metavar or 'TEXT'}"


def _default(parameter: Any) -> str:
    if parameter.param_type_name == "option" and parameter.required:
        return " [required]"
    plain = isinstance(parameter.default, (str, int, float)) and not isinstance(parameter.default, bool)
    return f" [default: {parameter.default}]" if plain else ""


def strategies() -> str:
    """A table of names, then what each kind says of itself, with its settings."""
    from acclimate.cli import methods
    from acclimate.strategies import EVERY

    rows = ["| `--strategy` | is |", "|---|---|"]
    rows += [
        f"| `{name}` | {what if name == 'auto' else _coded(what)} |" for name, what in methods.strategies().items()
    ]
    kinds = {type(strategy): methods.fields(type(strategy)()) for strategy in EVERY.values()}
    for kind, settings in kinds.items():
        rows += ["", f"### {kind.__name__}", "", "```text", inspect.cleandoc(kind.__doc__ or ""), "```", ""]
        rows += [f"Settings: {', '.join(f'`{name}={value!r}`' for name, value in settings.items()) or 'none'}."]
    return "\n".join(rows)


def shallow() -> str:
    """What every map and reweighter of features says of itself."""
    from acclimate.shallow import SHALLOW

    return _said(SHALLOW)


def alignments() -> str:
    """What every alignment loss says of itself."""
    from acclimate.align import ALIGNMENTS

    return _said(ALIGNMENTS)


def pretraining() -> str:
    """What every pretraining says of itself."""
    from acclimate.strategies.pretrain import PRETRAINING

    return _said(PRETRAINING)


def holds() -> str:
    """What every tie to the pretrained network says of itself."""
    from acclimate.hold import HOLDS

    return _said(HOLDS)


def choosing() -> str:
    """When to use what, and what to prefer, by what each method says of itself; the page a reader chooses by."""
    from acclimate import validate
    from acclimate.align import ALIGNMENTS
    from acclimate.hold import HOLDS
    from acclimate.shallow import SHALLOW
    from acclimate.strategies import ADAPTATIONS, BASELINES, FEW_LABELS, OVER_DOMAINS, STRATEGIES
    from acclimate.strategies.pretrain import PRETRAINING
    from acclimate.strategies.source_weights import KINDS
    from acclimate.testtime import ADAPTERS

    groups: list[tuple[str, dict[str, Any]]] = [
        ("Strategies without target rows (`--strategy`)", {**BASELINES, **STRATEGIES}),
        ("Strategies that adapt to `--target-data`", {**ADAPTATIONS, **KINDS}),
        ("Strategies that learn from `--target-labels`", FEW_LABELS),
        ("Strategies for several sources (`--domain-column`)", OVER_DOMAINS),
        ("Before a strategy tunes (`--pretrain`)", PRETRAINING),
        ("Ties to the pretrained network while a strategy tunes (`--hold`)", HOLDS),
        ("Adapting to the very rows that are judged (`predict --adapt`, `evaluate --adapt`)", ADAPTERS),
        ("Losses that bring source and target together (`acclimate.align`)", ALIGNMENTS),
        ("Maps and reweighters of features (`acclimate.shallow`)", SHALLOW),
        (
            "Scores of models without a label of the target (`acclimate.validate`)",
            {name: getattr(validate, name) for name in validate.VALIDATORS},
        ),
    ]
    rows = []
    for title, kinds in groups:
        rows += [f"## {title}", "", "| | use when | prefer another |", "|---|---|---|"]
        told: dict[tuple[str, str], list[str]] = {}
        for name, kind in kinds.items():
            said = kind if isinstance(kind, type) or inspect.isfunction(kind) else type(kind)
            told.setdefault(_advice(inspect.getdoc(said) or ""), []).append(name)
        rows += [
            f"| {', '.join(f'`{n}`' for n in names)} | {use} | {prefer} |" for (use, prefer), names in told.items()
        ]
        rows.append("")
    return "\n".join(rows)


def _advice(text: str) -> tuple[str, str]:
    """The sentences after "Use when" and those from "Prefer" on, of one docstring.

    >>> _advice("A map.\\n\\nUse when: it fits.\\nPrefer `b` if not.\\n\\n>>> 1")
    ('it fits.', 'Prefer `b` if not.')
    """
    flat = " ".join(text.split(">>> ")[0].split())
    found = re.search(r"Use when:? (.*?)(?= Prefer |$)(.*)", flat)
    use, prefer = (found[1], found[2].strip()) if found else ("", "")
    return use.replace("|", "\\|"), prefer.replace("|", "\\|")


def testtime() -> str:
    """What every adapter says of itself, with its settings."""
    from acclimate.cli import methods
    from acclimate.testtime import ADAPTERS

    rows = []
    for name, adapter in ADAPTERS.items():
        settings = ", ".join(f"`{key}={value!r}`" for key, value in methods.fields(adapter).items())
        rows += [_said({name: type(adapter)}), f"Settings: {settings}.", ""]
    return "\n".join(rows)


def _said(kinds: Any) -> str:
    rows = []
    for name, kind in kinds.items():
        text = inspect.cleandoc(kind.__doc__ or "").split("\n>>> ")[0].strip()
        rows += [f"### {name}", "", "```text", text, "```", ""]
    return "\n".join(rows)


def _coded(what: str) -> str:
    code, _, rest = what.partition(")")
    return f"`{code})`{rest}"


def metrics() -> str:
    """A table of the metrics of each task."""
    from acclimate.cli import methods

    rows = ["| task | more is better | less is better |", "|---|---|---|"]
    for task, known in methods.metrics().items():
        sides = [", ".join(f"`{name}`" for name, up in known.items() if up is side) for side in (True, False)]
        rows.append(f"| {task} | {sides[0]} | {sides[1]} |")
    return "\n".join(rows)


def reasons() -> str:
    """A table of the reasons for which the gate drops a row."""
    from acclimate.data.account import REASONS

    return "\n".join(
        ["| reason | what it is |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in REASONS.items())]
    )


def models() -> str:
    """The catalogue of pretrained models."""
    from acclimate.catalogue.models import MODELS

    rows = ["| name | for | parameters | download | licence | package | notes |", "|---|---|---|---|---|---|---|"]
    for name, entry in MODELS.items():
        size = f"{entry.parameters:g} M | {entry.size_mb:g} MB"
        rows.append(f"| `{name}` | {entry.modality} | {size} | {entry.licence} | {_package(entry)} | {entry.notes} |")
    return "\n".join(rows)


def datasets() -> str:
    """The catalogue of data sets."""
    from acclimate.catalogue.datasets import DATASETS

    rows = ["| name | task | download | licence | package | notes |", "|---|---|---|---|---|---|"]
    for name, entry in DATASETS.items():
        size = f"{entry.size_mb:g} MB" if entry.size_mb else "none"
        rows.append(f"| `{name}` | {entry.task} | {size} | {entry.licence} | {_package(entry)} | {entry.notes} |")
    return "\n".join(rows)


def _package(entry: Any) -> str:
    files = entry.files
    return ", ".join(dict.fromkeys(f"{file.package} {file.version}" for file in files)) or str(entry.package)


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "strategies": strategies,
    "shallow": shallow,
    "alignments": alignments,
    "pretraining": pretraining,
    "holds": holds,
    "choosing": choosing,
    "testtime": testtime,
    "metrics": metrics,
    "reasons": reasons,
    "models": models,
    "datasets": datasets,
}


def rendered(text: str) -> str:
    """A page with every generated part as it should be now."""
    return PART.sub(lambda found: found[1] + "\n" + PARTS[found[2]]().strip() + "\n\n" + found[3], text)


def stale() -> dict[Path, str]:
    """Pages that are not up to date -> what they should hold."""
    pages = {page: page.read_text(encoding="utf-8") for page in sorted(DOCS.rglob("*.md"))}
    return {page: new for page, text in pages.items() if (new := rendered(text)) != text}


def main() -> None:
    """Bring the pages up to date, or with --check say which are not and fail."""
    pages = stale()
    for page, text in pages.items():
        if "--check" not in sys.argv:
            page.write_text(text, encoding="utf-8")
        print(f"docs/{page.relative_to(DOCS)} {'is not up to date: make docs' if '--check' in sys.argv else 'updated'}")
    if pages and "--check" in sys.argv:
        sys.exit(1)


if __name__ == "__main__":
    main()
