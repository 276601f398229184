"""The backbone that a user names, for the kind of input that there is."""

from __future__ import annotations

from acclimate.backbones import load
from acclimate.backbones.base import Backbone
from acclimate.data.kinds import Kind
from acclimate.errors import UserError


def backbone_for(
    kind: Kind,
    name: str,
    *,
    pooling: str | None = None,
    max_length: int | None = None,
    seconds: float | None = None,
    truncation: str | None = None,
    precision: str | None = None,
) -> Backbone:
    """The model of this name, frozen; refused where it reads something else than these inputs."""
    found = load(
        name, pooling=pooling, max_length=max_length, seconds=seconds, truncation=truncation, precision=precision
    )
    if found.modality not in kind.models:
        raise UserError(
            f"{name!r} reads {found.modality}, and the inputs here are {kind.plural}; "
            f"`acclimate models list` shows those that read {' or '.join(kind.models)} (such as {kind.model})"
        )
    return found.requires_grad_(False).eval()
