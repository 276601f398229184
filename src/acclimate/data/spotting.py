"""What kind of input a table holds, and in which column: told by what was named, the cells and their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from acclimate.data.folders import KINDS as ENDINGS
from acclimate.data.labels import is_blank
from acclimate.data.rows import Columns, Table
from acclimate.errors import UserError

_SAMPLE = 200
_MOST = 0.8  # of the cells of a column of files end as such files do


def spotted(table: Table, columns: Columns) -> tuple[Columns, list[str]]:
    """The columns with the kind, and with the file column where inputs are files; sentences on what was found."""
    if columns.file is not None and columns.text:
        raise UserError(
            f"inputs are read from files ({columns.file!r}) or from text ({columns.text[0]!r}); name one of the two"
        )
    free = [columns.file] if columns.file is not None else [] if columns.text else list(table.columns)
    free = [name for name in free if name not in (columns.label, *columns.drop)]
    kinds = [columns.kind] if columns.kind in ENDINGS else [] if columns.kind else list(ENDINGS)
    by_folder = table.facts.get("kind")
    if by_folder in kinds and columns.file in (None, "file") and "file" in table.columns:
        return _with(columns, str(by_folder), "file"), [f"{by_folder}s: the files of a folder"]
    for kind in kinds:
        for name in free:
            if _holds(kind, table.columns[name]):
                why = "as named" if columns.file is not None else "by the names of its files"
                return _with(columns, kind, name), [f"{kind}s from column {name!r}, {why}"]
    if columns.file is not None or columns.kind in ENDINGS:
        what = columns.kind or " or ".join(ENDINGS)
        where = f"column {columns.file!r}" if columns.file is not None else f"no column of {table.source}"
        held = "does not hold" if columns.file is not None else "holds"
        raise UserError(
            f"{where} {held} {what} files; name the column that does with --file-column (columns: "
            f"{', '.join(list(table.columns)[:20])})"
        )
    return _with(columns, columns.kind or "text", None), []


def _with(columns: Columns, kind: str, file: str | None) -> Columns:
    from dataclasses import replace

    return replace(columns, kind=kind, file=file)


def _holds(kind: str, cells: Sequence[object]) -> bool:
    """Whether most cells are files of this kind by their ending, or what Python holds of such."""
    some = [c for c in cells[: 50 * _SAMPLE] if not (c is None or (isinstance(c, str) and is_blank(c)))][:_SAMPLE]
    return bool(some) and sum(_is(kind, c) for c in some) >= _MOST * len(some)


def _is(kind: str, cell: object) -> bool:
    if isinstance(cell, (str, PurePath)):
        return PurePath(cell).suffix.lower() in ENDINGS[kind] and "\n" not in str(cell)
    if isinstance(cell, dict) and {"bytes", "path"} & cell.keys():
        named = str(cell.get("path") or "")
        return not named or _is(kind, named)
    return kind == "image" and (type(cell).__module__.startswith("PIL.") or getattr(cell, "ndim", 0) in (2, 3))
