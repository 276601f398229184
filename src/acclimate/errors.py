"""The one exception that is meant for the user, and the text of "did you mean"."""

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
