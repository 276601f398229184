"""What can be told wrong without loading torch, which takes seconds: files, columns, and names of strategies.

Everything is checked again where it is used, by the same functions; here it is only told sooner.
"""

from __future__ import annotations

import ast
from pathlib import Path

import acclimate
from acclimate.data.columns import check, task_name
from acclimate.data.labels import STRUCTURED
from acclimate.data.read import read, there
from acclimate.data.rows import Columns
from acclimate.errors import unknown

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")  # what of the files of structured tasks is one for sure
SMALL = 2_000_000  # bytes of a file that is read once more, for the names of its columns: a tenth of a second at most


def files(*names: str | None) -> None:
    """Refuse data files that are not there."""
    for name in names:
        if name is not None:
            there(Path(name).expanduser(), name)


def columns(name: str, wanted: Columns, task: str | None) -> None:
    """Refuse columns that a small file does not have, and a task that there is not."""
    if task is not None and task_name(task) in STRUCTURED and Path(name).suffix.lower() not in TABLES:
        return  # CoNLL, boxes as JSON ...: read by the task itself
    if Path(name).expanduser().stat().st_size <= SMALL:
        check(read(name), wanted)


def strategy(name: str, task: str | None = None) -> None:
    """Refuse a strategy that there is not; tasks with structured answers have strategies of their own."""
    if task is not None and task_name(task) in STRUCTURED:
        return
    key = name.strip().lower().replace("-", "_")
    known, losses = keys("strategies", "EVERY"), keys("align", "ALIGNMENTS")
    if known and key not in ("auto", *known, *keys("strategies", "ALIASES")) and set(key.split("+")) - set(losses):
        raise unknown("strategy", name, ["auto", *known])


def keys(module: str, name: str) -> list[str]:
    """The keys of a dict literal, read from the source of `acclimate.MODULE`; none where there is no source."""
    path = Path(acclimate.__file__).parent.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.is_file():
        return []
    body = ast.parse(path.read_text(encoding="utf-8")).body
    homes = {a.name: str(n.module) for n in body if isinstance(n, ast.ImportFrom) for a in n.names}
    found: list[str] = []
    for node in body:
        if not (isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict)):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if [t.id for t in targets if isinstance(t, ast.Name)] != [name]:
            continue
        for key, part in zip(node.value.keys, node.value.values, strict=True):
            if key is not None:
                found.append(str(ast.literal_eval(key)))
            elif isinstance(part, ast.Name):  # **OTHERS, of this module or imported
                found += keys(homes.get(part.id, module).removeprefix("acclimate."), part.id)
    return found
