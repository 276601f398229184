"""One thread for small arithmetic: waking a second one costs more than it brings, and far more on a busy machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_SMALL = 2e8  # floating-point operations of one pass below which a single thread is quicker


@contextmanager
def few(operations: float) -> Iterator[None]:
    """Inside the block, use one thread if a pass takes fewer than 2·10⁸ operations; the settings are put back after."""
    if operations >= _SMALL:
        yield
        return
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)
