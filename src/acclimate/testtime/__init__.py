"""Adapting a fitted model to the very rows it is to judge, by name. A new way is a file with its class, named below."""

from __future__ import annotations

import dataclasses
from typing import Any

from acclimate.errors import UserError, unknown
from acclimate.settings import check_type, parse_settings
from acclimate.testtime.adabn import AdaBN
from acclimate.testtime.base import Adapted, Adapter
from acclimate.testtime.lame import Lame
from acclimate.testtime.t3a import T3A
from acclimate.testtime.tent import Tent

ADAPTERS: dict[str, Adapter] = {  # from cheap to dear
    "t3a": T3A(),
    "lame": Lame(),
    "adabn": AdaBN(),
    "tent": Tent(),
}


def named(text: str) -> Adapter:
    """The adapter that a text such as "tent" or "tent:learning_rate=1e-4,steps=2" asks for.

    >>> named("lame:neighbours=3")
    Lame(neighbours=3, strength=1.0, steps=100)
    """
    name, colon, rest = text.partition(":")
    key = name.strip().lower()
    if key not in ADAPTERS:
        raise unknown("adapter", name, ADAPTERS)
    if colon and not rest.strip():
        raise UserError(f"cannot read {text!r}: no setting follows the colon; write {key}:key=value, or {key} alone")
    adapter: Any = ADAPTERS[key]
    fields = {f.name: f for f in dataclasses.fields(adapter)}
    given = parse_settings(rest.split(",")) if colon else {}
    for setting, value in given.items():
        if setting not in fields:
            raise unknown(f"setting of {key}", setting, fields)
        check_type(key, setting, value, getattr(adapter, setting), str(fields[setting].type))
    found: Adapter = dataclasses.replace(adapter, **given)
    return found


__all__ = ["ADAPTERS", "AdaBN", "Adapted", "Adapter", "Lame", "T3A", "Tent", "named"]
