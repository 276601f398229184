"""Text that a user typed, turned into settings: durations, and `key=value` pairs."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any, TypeVar

from acclimate.errors import UserError, unknown

T = TypeVar("T")

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0}
_NAMES = {"sec": "s", "second": "s", "min": "m", "minute": "m", "hr": "h", "hour": "h", "day": "d"}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*")
_MOST_SEED = 2**32 - 1  # what scikit-learn takes


def parse_duration(value: str | int | float) -> float:
    """Seconds from a number of seconds or a text such as "10m", "2h", "1h30m", "90" or "1.5 hours".

    >>> parse_duration("1h30m"), parse_duration("90"), parse_duration(45)
    (5400.0, 90.0, 45.0)
    """
    text = str(value).strip().lower()
    seconds, at = 0.0, 0
    for part in _PART.finditer(text):
        unit = _NAMES.get(part[2].removesuffix("s") if len(part[2]) > 1 else part[2], part[2])
        bare_among_others = unit == "" and part[0] != text  # "1h30" could be minutes or seconds
        if part.start() != at or unit not in _SECONDS or bare_among_others:
            break
        seconds, at = seconds + float(part[1]) * _SECONDS[unit], part.end()
    if text and at == len(text) and seconds == 0:
        raise UserError(f"a length of time of {value!r} leaves no time at all; give more, such as 90 or 10m")
    if not text or at != len(text) or not math.isfinite(seconds):
        raise UserError(
            f"cannot read {value!r} as a length of time; give seconds (90) or numbers with d, h, m, s (10m, 1h30m)"
        )
    return seconds


def check_seed(seed: object) -> int:
    """The seed; refused is what not every generator of random numbers can start from.

    >>> check_seed(0)
    0
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= int(seed) <= _MOST_SEED:
        raise UserError(f"seed {seed!r} must be a whole number from 0 to {_MOST_SEED}")
    return int(seed)


def parse_settings(pairs: Iterable[str]) -> dict[str, object]:
    """The settings in `key=value` texts. A value is read as JSON where it is JSON, else it stays text.

    >>> parse_settings(["rank=8", "pooling=cls", "betas=[0.9, 0.98]", "bias=true"])
    {'rank': 8, 'pooling': 'cls', 'betas': [0.9, 0.98], 'bias': True}
    """
    settings: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise UserError(f"cannot read the setting {pair!r}; write key=value, for example --set weight_decay=0.01")
        if key in settings:
            raise UserError(f"the setting {key!r} is given twice, the second time as {pair!r}; keep one")
        settings[key] = _json_or_text(text)
    return settings


def parse_named(kind: str, text: str, known: Mapping[str, type[T]]) -> tuple[type[T], dict[str, Any]]:
    """The dataclass and the settings that "NAME:KEY=VALUE,..." asks for; `kind` is what errors call such a name."""
    name, _, rest = text.partition(":")
    if name not in known:
        raise unknown(kind, name, known)
    given: dict[str, Any] = parse_settings(part for part in rest.split(",") if part.strip())
    fields = {f.name: f for f in dataclasses.fields(known[name])}  # type: ignore[arg-type]
    for key, value in given.items():
        if key not in fields:
            raise unknown(f"setting of {name}", key, fields)
        check_type(name, key, value, fields[key].default, str(fields[key].type))
    return known[name], given


def check_type(owner: str, name: str, value: object, default: object, annotation: str) -> None:
    """Refuse a value that a setting of this annotation cannot take: it would fail far from here.

    >>> check_type("mmd", "bandwidth", "median", "mean", "str | float")
    >>> check_type("mmd", "kernels", True, 5, "int")
    Traceback (most recent call last):
    acclimate.errors.UserError: setting 'kernels' of mmd takes int, not True (default 5)
    """
    allowed = tuple(kind for part in annotation.split("|") for kind in _TAKES.get(part.strip(), (str,)))
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        takes = annotation.replace(" | ", " or ")
        raise UserError(f"setting {name!r} of {owner} takes {takes}, not {value!r} (default {default!r})")


_TAKES: dict[str, tuple[type, ...]] = {
    "bool": (bool,), "int": (int,), "float": (int, float), "str": (str,), "None": (type(None),),
}  # fmt: skip


def _json_or_text(text: str) -> object:
    try:
        value: object = json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text
    return value


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")  # json accepts NaN and Infinity, which no setting can mean
