"""Which task a label column asks for, told by its cells; and a sentence on why."""

from __future__ import annotations

from collections.abc import Sequence

from acclimate.data.column_types import how_written, to_number
from acclimate.data.labels import find_label_delimiter, is_blank, typed_labels


def find_task(cells: Sequence[object], typed: bool, label_delimiter: str | None = None) -> tuple[str, str]:
    """The task, and why."""
    if label_delimiter is not None:
        return "multilabel", f"task multilabel: labels are split at {label_delimiter!r}"
    values, kind = typed_labels(cells, typed)
    present = [v for v in values if v is not None]
    if kind == "list":
        return "multilabel", "task multilabel: the labels are lists"
    distinct = len(set(present))
    if kind == "bool":
        return "classify", "task classify: the labels are true and false"
    if kind == "str":
        return (
            "classify",
            f"task classify: the labels are {distinct} text{'' if distinct == 1 else 's'}{_joined_hint(cells)}",
        )
    whole = all(float(v).is_integer() for v in present if isinstance(v, (int, float)))
    if whole and distinct <= 20 and (distinct <= 10 or distinct * 3 <= len(present)):
        return (
            "classify",
            f"task classify: the labels are {distinct} whole numbers (give --task regress to treat them as amounts)",
        )
    if whole and _codes([int(v) for v in present if isinstance(v, (int, float))]):
        return (
            "classify",
            f"task classify: the labels are the codes of {distinct} classes, each used often (or give --task regress)",
        )
    return (
        "regress",
        f"task regress: the labels are {distinct} different numbers (give --task classify if they are classes)",
    )


def _codes(numbers: list[int]) -> bool:
    """Class codes leave no gap, start at 0 or 1 and recur; amounts do not."""
    distinct = set(numbers)
    low, high = min(distinct), max(distinct)
    return (
        low in (0, 1) and high - low + 1 == len(distinct) and len(distinct) <= 500 and len(numbers) >= 5 * len(distinct)
    )


def _joined_hint(cells: Sequence[object]) -> str:
    present = [cell for cell in cells if not is_blank(cell)]
    numbers = [to_number(c, how_written(cells)) for c in present] if how_written(cells) == "comma" else [None]
    if None not in numbers:
        return "; they look like numbers with decimal commas: give --task regress if so"
    amounts = [to_number(c) for c in present]
    known = {n for n in amounts if n is not None}
    if len(known) > 10 and 2 * (count := sum(n is not None for n in amounts)) > len(present):
        return f"; {count:,} of {len(present):,} are numbers: give --task regress if they are amounts"
    sign = find_label_delimiter(present)
    return "" if sign is None else f"; they look like several joined by {sign!r}: give --label-delimiter {sign!r} if so"
