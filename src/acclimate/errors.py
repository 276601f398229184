"""The one exception that is meant for the user, the text of "did you mean", and counts with their nouns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right. The command line prints its text without a traceback.

    The message says what was wrong, which value was received and what to do about it.
    """


class MachineFailed(UserError):
    """The machine let the user down: a full disk, no permission. The command line ends with 1, not 2."""


def unknown(kind: str, value: object, choices: Iterable[str]) -> UserError:
    """The error for a name that is not among `choices`, with the nearest one suggested.

    >>> print(unknown("strategy", "lora2", ["lora", "full"]))
    unknown strategy 'lora2'; did you mean 'lora'? (lora, full)
    """
    names = list(choices)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else "; known:"
    return UserError(f"unknown {kind} {value!r}{hint} ({', '.join(names)})")


def plural(n: int, noun: str, many: str | None = None) -> str:
    """A count with its noun.

    >>> plural(1, "row"), plural(1200, "row"), plural(2, "class", "classes")
    ('1 row', '1,200 rows', '2 classes')
    """
    return f"{n:,} {noun if n == 1 else many or noun + 's'}"
