"""The backbone that a user names, for the kind of input that there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from acclimate.backbones import beside_columns, load
from acclimate.backbones.base import Backbone
from acclimate.data.kinds import kind_of
from acclimate.data.rows import Columns
from acclimate.errors import UserError


def refuse_unread(strategy: str, reading: Mapping[str, Any]) -> None:
    """Refuse, of a strategy without a backbone, what only says how one reads; "head" is the usual truncation."""
    for name, value in reading.items():
        if value is not None and (name, value) != ("truncation", "head"):
            option = "max_seconds" if name == "seconds" else name
            raise UserError(
                f"{option} {value!r} says how a pretrained model reads, and {strategy} learns without one; leave it out"
            )


def backbone_for(
    columns: Columns,
    name: str,
    *,
    pooling: str | None = None,
    max_length: int | None = None,
    seconds: float | None = None,
    image_size: int | None = None,
    truncation: str | None = None,
    precision: str | None = None,
    pairs: str | None = None,
) -> Backbone:
    """The model of this name, frozen; refused where it reads something else than these inputs. Of a table with free
    text, pictures or sounds a model of these reads them, beside the other columns."""
    kind = kind_of(columns)
    paired = kind.name == "text" and len(columns.text) == 2
    if pairs is not None and not paired:
        raise UserError(f"pairs {pairs!r} says how two text columns are read, and there are no two; leave it out")
    found = load(
        name, pooling=pooling, max_length=max_length, seconds=seconds, image_size=image_size, truncation=truncation,
        precision=precision, pairs=pairs,
    )  # fmt: skip
    if paired and found.modality == "text":
        found = found.fit_rows([("", "")])  # what is counted of the rows is counted as they will be read
    if kind.name == "table" and found.modality in columns.holds:
        found = beside_columns(found)
    if found.modality not in kind.models:
        raise UserError(
            f"{name!r} reads {found.modality}, and the inputs here are {kind.plural}; "
            f"`acclimate models list` shows those that read {' or '.join(kind.models)} (such as {kind.model})"
        )
    return found.requires_grad_(False).eval()
