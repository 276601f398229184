"""The kinds of input, by name. A new one is a file with its `Kind`, named in this dict.

What a table holds is told by `found`; everything else that differs between kinds, the `Kind` knows.
"""

from __future__ import annotations

from collections.abc import Sequence

from acclimate.data.kinds.audio import AUDIO
from acclimate.data.kinds.base import Kind, Reading
from acclimate.data.kinds.image import IMAGE
from acclimate.data.kinds.molecule import MOLECULE, SMILES
from acclimate.data.kinds.series import SERIES
from acclimate.data.kinds.table import TABLE
from acclimate.data.kinds.text import TEXT
from acclimate.data.rows import Columns, Data, Table
from acclimate.errors import unknown

__all__ = ["KINDS", "Kind", "Reading", "kind_of", "model_for", "named"]

KINDS: dict[str, Kind] = {kind.name: kind for kind in (TEXT, IMAGE, AUDIO, SERIES, TABLE, MOLECULE, SMILES)}


def kind_of(what: Columns | Data) -> Kind:
    """The kind of these columns, or of these rows; text where nothing else was said."""
    return KINDS[what.kind or "text"]


def model_for(tables: Sequence[Table], columns: Columns) -> tuple[str, str]:
    """The backbone for these inputs where the user names none; and why, where it is not the usual one."""
    kind = kind_of(columns)
    return (kind.model, "") if kind.choose is None else kind.choose(tables, columns)


def named(name: str) -> Kind:
    """The kind of this name, or an error that lists them."""
    if name not in KINDS:
        raise unknown("modality", name, KINDS)
    return KINDS[name]
