"""Several label columns as one answer a row. A cell may be empty: then nobody knows, and nothing is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from acclimate.data.labels import as_text, is_blank, number
from acclimate.data.rows import Label
from acclimate.errors import UserError

_WORDS = {"true": True, "yes": True, "y": True, "t": True, "false": False, "no": False, "n": False, "f": False}


class Marks(tuple[str, ...]):
    """The columns of one row that say yes. Those in `unknown` are empty there; `of` names all, in the user's order.

    >>> row = Marks(("a",), unknown=("b",), of=("a", "b", "c"))
    >>> list(row), row.unknown, row == Marks(("a",), (), row.of)
    (['a'], ('b',), False)
    """

    unknown: tuple[str, ...]
    of: tuple[str, ...]

    def __new__(cls, yes: Sequence[str] = (), unknown: tuple[str, ...] = (), of: tuple[str, ...] = ()) -> Marks:
        """The names that say yes, in the order of the columns."""
        row = super().__new__(cls, yes)
        row.unknown, row.of = unknown, of
        return row

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self), self.unknown, self.of

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Marks) and tuple(self) == tuple(other) and self.unknown == other.unknown

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((tuple(self), self.unknown))

    def __repr__(self) -> str:
        return f"Marks({tuple(self)!r}, unknown={self.unknown!r})"

    @property
    def no(self) -> set[str]:
        """The columns that say no."""
        return set(self.of) - set(self) - set(self.unknown)


class Cells(tuple[Any, ...]):
    """The labels of one row where columns are a task each, in the order of the columns; None where nobody knows."""


def read_marks(
    columns: Mapping[str, Sequence[object]], source: str, *, private: bool = False
) -> tuple[list[Label | None], dict[str, list[int]]]:
    """One `Marks` a row, None where every cell is empty; and where a cell that says neither counts as empty.

    `private`: no error quotes a cell.

    >>> rows, odd = read_marks({"a": ["1", "no", None, ""], "b": ["", "1.0", "?", None]}, "toxic.csv")
    >>> rows[0], rows[1].no, rows[2], odd
    (Marks(('a',), unknown=('b',)), {'a'}, None, {'b': [2]})
    """
    said = {name: [_said(cell) for cell in cells] for name, cells in columns.items()}
    odd = {
        name: [i for i, (cell, told) in enumerate(zip(cells, said[name], strict=True)) if _odd(cell, told)]
        for name, cells in columns.items()
    }
    for name, where in odd.items():
        if len(where) > sum(told is not None for told in said[name]):
            shown = ", ".join(dict.fromkeys(repr(as_text(columns[name][i])) for i in where[:20]))
            holds = "cells that say neither" if private else shown[:120]
            raise UserError(
                f"label column {name!r} of {source} holds {holds}; of several label columns each must say yes or "
                "no (1 and 0, yes and no, true and false; an empty cell: not known). Leave --task out, so that each "
                "column is a task of its own"
            )
    of = tuple(columns)
    rows: list[Label | None] = []
    for told in zip(*said.values(), strict=True):
        unknown = tuple(name for name, one in zip(of, told, strict=True) if one is None)
        yes = tuple(name for name, one in zip(of, told, strict=True) if one)
        rows.append(Marks(yes, unknown, of) if len(unknown) < len(of) else None)
    return rows, {name: where for name, where in odd.items() if where}


def yes_or_no(cells: Sequence[object]) -> bool:
    """Whether a column says yes or no: at least as many of its cells do as say something else."""
    said = [_said(cell) for cell in cells]
    return sum(map(_odd, cells, said)) <= sum(told is not None for told in said)


def _said(cell: object) -> bool | None:
    """What a cell says; None where it is empty or says neither."""
    if is_blank(cell):
        return None
    if isinstance(cell, str) and cell.strip().casefold() in _WORDS:
        return _WORDS[cell.strip().casefold()]
    return {0.0: False, 1.0: True}.get(-1.0 if (value := number(cell)) is None else value)


def _odd(cell: object, told: bool | None) -> bool:
    return told is None and not is_blank(cell)


def classes_of(labels: Sequence[Label]) -> tuple[Any, ...]:
    """All label columns in the user's order; else the classes that occur in multi-label rows, sorted."""
    if labels and isinstance(labels[0], Marks):
        return labels[0].of
    return tuple(sorted({c for row in labels for c in (row if isinstance(row, tuple) else (row,))}))


def contradict(labels: Sequence[Label]) -> bool:
    """Whether these answers cannot all be right; where a cell is not known, nothing contradicts it."""
    marks = [row for row in labels if isinstance(row, Marks)]
    if labels and isinstance(labels[0], Cells):
        return any(len(set(column) - {None}) > 1 for column in zip(*labels, strict=True))
    if len(marks) < len(labels):
        return len(set(labels)) > 1
    return bool({c for row in marks for c in row} & {c for row in marks for c in row.no})


def counted(labels: Sequence[Label]) -> dict[str, dict[str, int]]:
    """For each column how many rows say yes, say no, and are not known; nothing for other labels."""
    marks = [row for row in labels if isinstance(row, Marks)]
    out = {name: {"yes": 0, "no": 0, "not known": 0} for name in (marks[0].of if marks else ())}
    for row in marks:
        for name in row:
            out[name]["yes"] += 1
        for name in row.unknown:
            out[name]["not known"] += 1
    for cells in out.values():
        cells["no"] = len(marks) - cells["yes"] - cells["not known"]
    return out
