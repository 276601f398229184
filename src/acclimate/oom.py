"""Telling that memory was too small from other errors."""

from __future__ import annotations

from acclimate.errors import UserError

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "defaultcpuallocator", "alloc_failed")


class NoRoom(UserError):
    """Memory was too small, and reading fewer rows at once did not help."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was too small, on a GPU or on the CPU.

    >>> out_of_memory(MemoryError()), out_of_memory(ValueError("out of memory"))
    (True, False)
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)
