"""What kind of input a table holds, and in which column: told by what was named, the cells and their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from acclimate.data.column_types import held
from acclimate.data.file_cells import holds_files
from acclimate.data.folders import KINDS as ENDINGS
from acclimate.data.folders import PLURALS
from acclimate.data.labels import is_blank
from acclimate.data.molecules import available
from acclimate.data.rows import FILES, Columns, Table
from acclimate.data.series import Series
from acclimate.data.series_tables import listed
from acclimate.errors import UserError

_SAMPLE = 200
_NAMED = 30  # columns that are named
_MOST = 0.8  # of the cells of a column of molecules are spelled as such are
_SMILES = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9@+\-\[\]()\\/=#$:.%*~]+\Z")  # a letter, no space, no > of a reaction


def spotted(table: Table, columns: Columns) -> tuple[Columns, list[str]]:
    """The columns with the kind, and with the file column where inputs are files; sentences on what was found."""
    if columns.file is not None and columns.file in columns.text:
        raise UserError(f"column {columns.file!r} is named as one of files and as one of text; name one of the two")
    if columns.file is not None and columns.text:
        if columns.kind not in ("", "table"):
            raise UserError(
                f"inputs are read from files ({columns.file!r}) or from text ({columns.text[0]!r}) where they are "
                f"{columns.kind}; name one of the two, or --modality table, which reads both"
            )
        columns = replace(columns, kind="table")
    if columns.kind == "table":
        return columns, []
    free = [columns.file] if columns.file is not None else [] if columns.text else _without_part(table, columns)
    kinds = [columns.kind] if columns.kind in ENDINGS else [] if columns.kind else list(ENDINGS)
    if columns.file is None and "series" in kinds and not columns.text:
        lists = columns.features or listed(table, free, asked=bool(columns.kind))
        if lists:
            found = replace(columns, kind="series", features=lists, holds=("numbers",) * len(lists))
            return found, [f"series: a channel in each of {', '.join(lists)}"]
    by_folder = table.facts.get("kind")
    if by_folder == "audio" and columns.kind == "series":
        by_folder = "series"  # sounds are series of as many channels as they have, where the user says so
    if by_folder in kinds and columns.file in (None, "file") and "file" in table.columns:
        return _with(columns, str(by_folder), "file"), [f"{PLURALS[str(by_folder)]}: the files of a folder"]
    for kind in kinds:
        for name in free:
            if holds_files(kind, table.columns[name], asked=columns.kind == kind):
                why = "as named" if columns.file is not None else "by the names of its files"
                if kind == "series" and isinstance(next(iter(table.columns[name]), None), Series):
                    why = "as arrays"
                return _with(columns, kind, name), [f"{PLURALS[kind]} from column {name!r}, {why}"]
    if columns.file is not None or columns.kind in ENDINGS:
        what = columns.kind or " or ".join(ENDINGS)
        more = " or lists of numbers" if what == "series" else ""
        where = f"column {columns.file!r}" if columns.file is not None else f"no column of {table.source}"
        says = "does not hold" if columns.file is not None else "holds"
        raise UserError(
            f"{where} {says} {what} files{more}; name the column that does with --file-column (columns: "
            f"{', '.join(list(table.columns)[:20])})"
        )
    return _of_texts(table, columns)


def _of_texts(table: Table, columns: Columns) -> tuple[Columns, list[str]]:
    """Molecules where a column of text says so by its name and its cells, or the user does; else texts."""
    if columns.kind == "text" or len(columns.text) > 1:
        return _with(columns, columns.kind or "text", None), []
    free = columns.text or _without_part(table, columns)
    called = [name for name in free if "smiles" in name.casefold() or (columns.kind and columns.text)]
    called.sort(key=lambda name: name.casefold().strip() != "smiles")
    found = next((name for name in called if columns.kind or _are_smiles(table.columns[name])), None)
    if found is None:
        return _with(columns, columns.kind or "text", None), []
    kind = columns.kind or ("molecule" if available() else "smiles")
    why = f"molecules from column {found!r}" + ("" if columns.kind else ", by its name and its cells")
    return _with(replace(columns, text=(found,)), kind, None), [why]


def _without_part(table: Table, columns: Columns) -> list[str]:
    used = set(columns.used)
    return [name for name in table.columns if name not in used]


def _are_smiles(cells: Sequence[object]) -> bool:
    some = [str(c).strip() for c in cells[: 50 * _SAMPLE] if not is_blank(c)][:_SAMPLE]
    return bool(some) and sum(_SMILES.match(text) is not None for text in some) >= _MOST * len(some)


def as_table(
    table: Table, columns: Columns, free: Sequence[str], *, asked: bool, private: bool = False
) -> tuple[Columns, list[str]]:
    """Every column without another part is learned from; sentences on what they hold, and on what is left out.

    `private`: no sentence quotes a cell.
    """
    said = {**dict.fromkeys(columns.text, "text"), **_file_named(table, columns)}
    said |= dict(zip(columns.features, columns.holds, strict=True))
    names = [name for name in table.columns if name in (*said, *free)]
    if not names:
        raise UserError(f"no text column found in {table.source}, and no other beside the label to learn from")
    cells = zip(*(table.columns[name] for name in names), strict=True)
    rows = [row for row, problem in zip(cells, table.problems, strict=True) if not problem]
    found = held(rows, names, said, private=private)
    if all(column.kind == "none" for column in found):
        listed = "; ".join(f"{column.name!r} is {column.why}" for column in found[:5])
        raise UserError(f"no text column found in {table.source}, and no other to learn from ({listed})")
    why = "as asked" if asked else f"no column of {table.source} holds text (say --text-column NAME if one does)"
    reasons = [f"rows of a table with {len(names)} columns: {why}"]
    for kind, plural in _PLURALS.items():
        if mine := [column.name for column in found if column.kind == kind]:
            more = f" and {len(mine) - _NAMED:,} more" if len(mine) > _NAMED else ""
            reasons.append(f"{plural}: {', '.join(mine[:_NAMED])}{more}")
    told = [c for c in found if c.kind == "none" or (c.kind == "number" and c.why != "numbers")]
    reasons += [f"column {column.name!r}: {column.why}" for column in told]
    holds = tuple(column.text for column in found)
    return replace(columns, kind="table", text=(), file=None, features=tuple(names), holds=holds), reasons


def _file_named(table: Table, columns: Columns) -> dict[str, str]:
    """What the column that the user named as one of files holds: pictures or sounds."""
    if columns.file is None:
        return {}
    found = next((kind for kind in FILES if holds_files(kind, table.columns[columns.file])), None)
    if found is None:
        raise UserError(
            f"column {columns.file!r} does not hold {' or '.join(FILES)} files by their endings; name the column that "
            f"does with --file-column, or say --column-kind {columns.file}=image"
        )
    return {columns.file: found}


_PLURALS = {
    "number": "numbers", "category": "categories", "boolean": "yes or no", "date": "dates", "text": "free text",
    "image": "pictures", "audio": "sounds",
}  # fmt: skip


def _with(columns: Columns, kind: str, file: str | None) -> Columns:
    return replace(columns, kind=kind, file=file)
