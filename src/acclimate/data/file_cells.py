"""Cells that are pictures, sounds or series: the path of such a file by its ending, or what Python holds of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from acclimate.data.folders import KINDS as ENDINGS
from acclimate.data.labels import is_blank
from acclimate.data.series import Series
from acclimate.data.sounds import SUFFIXES as SOUNDS
from acclimate.data.sounds import is_pair

_SAMPLE = 200
_MOST = 0.8  # of the cells of a column of files end as such files do


def holds_files(kind: str, cells: Sequence[object], *, asked: bool = False) -> bool:
    """Whether most cells are files of this kind by their ending, or what Python holds of such.

    Sounds and arrays are series only where the user `asked` for series.

    >>> holds_files("image", ["a.png", "b.JPG", None]), holds_files("audio", ["a.png"])
    (True, False)
    """
    some = [c for c in cells[: 50 * _SAMPLE] if not (c is None or (isinstance(c, str) and is_blank(c)))][:_SAMPLE]
    return bool(some) and sum(
        is_file_of(kind, c) or (asked and kind == "series" and _may_be_series(c)) for c in some
    ) >= _MOST * len(some)


def is_file_of(kind: str, cell: object) -> bool:
    """Whether a cell is a file of this kind by its ending, or what Python holds of such."""
    if isinstance(cell, Series):
        return kind == "series"
    if isinstance(cell, (str, PurePath)):
        return PurePath(cell).suffix.lower() in ENDINGS[kind] and "\n" not in str(cell)
    if is_pair(cell) or (isinstance(cell, dict) and {"array", "sampling_rate"} <= cell.keys()):
        return kind == "audio"
    if isinstance(cell, dict) and {"bytes", "path"} & cell.keys():
        named = str(cell.get("path") or "")
        return not named or is_file_of(kind, named)
    return kind == "image" and (type(cell).__module__.startswith("PIL.") or getattr(cell, "ndim", 0) in (2, 3))


def _may_be_series(cell: object) -> bool:
    if isinstance(cell, (str, PurePath)):
        return PurePath(cell).suffix.lower() in SOUNDS
    return is_pair(cell) or getattr(cell, "ndim", 0) in (1, 2)
