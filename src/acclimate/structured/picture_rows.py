"""What detection and segmentation share: which pictures are to be looked at, and what they are told apart by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from acclimate.data import pictures
from acclimate.data.account import why
from acclimate.data.columns import guess
from acclimate.data.kinds import KINDS
from acclimate.data.read import read
from acclimate.data.rows import Table
from acclimate.errors import UserError
from acclimate.structured.base import Asked, New

SIDE_INSTEAD = "its pictures keep their shape, so give their longer side, --set side=PIXELS (in steps of 32)"
_TABLES = (".csv", ".tsv", ".jsonl", ".parquet", ".json", ".txt", ".yaml", ".yml")


def new_pictures(source: Any, asked: Asked, annotated: Callable[[], tuple[Sequence[Any], Table]]) -> New:
    """Pictures to answer: a folder of them, a table that names them, or what the task itself can read (`annotated`
    gives rows with a `picture` each)."""
    rows, table = _annotated(source, annotated)
    if rows is None:
        table = read(source, may_be_empty=True)
        columns = guess(table, asked.columns, "classify").columns
        if columns.file is None:
            raise UserError(
                f"{table.source} has no column of pictures; name it with --file-column (its columns: "
                f"{', '.join(table.columns)})"
            )
        seen = KINDS["image"].read(table, columns, asked.progress)
        return New(table, seen.inputs, tuple(why(r or "") for r in seen.reasons))
    assert table is not None
    problems = ["missing_file" if p is None else pictures.look(p).problem for p in rows]
    inputs = tuple(None if problem else p for p, problem in zip(rows, problems, strict=True))
    files = {name: cells for name, cells in table.columns.items() if name == "file"}  # what is predicted stands beside
    return New(replace(table, columns=files), inputs, tuple(map(why, problems)))


def _annotated(
    source: Any, annotated: Callable[[], tuple[Sequence[Any], Table]]
) -> tuple[list[Any] | None, Table | None]:
    """The pictures of a source that the task reads with its answers; None where it is pictures alone."""
    if isinstance(source, (str, Path)) and Path(source).expanduser().is_dir():
        try:
            rows, table = annotated()
        except UserError:
            return None, None
        if table.facts.get("format") == "folder" and rows:
            return [row.picture for row in rows], table
        return None, None
    if isinstance(source, (str, Path)) and Path(source).suffix.lower() in (".json", ".txt", ".yaml", ".yml"):
        rows, table = annotated()
        return [row.picture for row in rows], table
    return None, None


def paths_given(inputs: Any) -> list[Any] | None:
    """A single picture by its path; None for tables and folders."""
    if isinstance(inputs, (str, Path)):
        path = Path(inputs).expanduser()
        return [str(path)] if path.is_file() and path.suffix.lower() not in _TABLES else None
    return None


def keys_of(inputs: Sequence[Any]) -> list[str]:
    """Equal for pictures of equal bytes."""
    from acclimate.keys import key_of

    return [key_of(one, "image").hex() for one in inputs]
