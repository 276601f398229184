"""The columns that a model of pictures or sounds learned from, as another source names them.

A folder has the columns file and label whatever the table was called that the model learned from, and the reverse.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from acclimate.data.columns import guess
from acclimate.data.find_kind import spotted
from acclimate.data.rows import Columns, Table
from acclimate.errors import UserError


def renamed(columns: Columns, table: Table, classes: Collection[object] = ()) -> tuple[Columns, tuple[str, ...]]:
    """The same columns with the file and the label column that this table has; sentences on what is called otherwise.

    A column that is there under its own name is kept. Another label column is taken only where it holds one of the
    `classes`. What cannot be found stays as it is, so that the caller's error names it.
    """
    found, said = columns, []
    if columns.file is None:
        return columns, ()
    if columns.file not in table.columns:
        try:
            file = spotted(table, Columns(kind=columns.kind))[0].file
        except UserError:
            return columns, ()
        found = replace(found, file=file)
        said.append(f"files from column {file!r}; the model learned from {columns.file!r}")
    if isinstance(columns.label, str) and columns.label not in table.columns and classes:
        drop = tuple(name for name in replace(columns, file=None, label=None).used if name in table.columns)
        label = guess(table, Columns(file=found.file, kind=columns.kind, drop=drop)).columns.label
        known = set(map(str, classes))
        if isinstance(label, str) and any(str(cell) in known for cell in table.columns[label]):
            found = replace(found, label=label)
            said.append(f"labels from column {label!r}; the model learned from {columns.label!r}")
    return found, tuple(said)
