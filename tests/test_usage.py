"""Seconds and memory of a piece of work, and both in words."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from acclimate.usage import available, watched

MB = 10**6


def test_the_most_that_was_held_counts() -> None:
    with watched("cpu") as used:
        large = np.ones(60 * MB, np.uint8)
        small = np.ones(20 * MB, np.uint8)
        time.sleep(0.1)  # long enough to be seen
        assert large[-1] + small[-1] == 2
        del large
    assert 79 * MB < used.memory < 95 * MB
    assert used.seconds > 0


def test_mapped_files_do_not_count(tmp_path: Path) -> None:
    np.save(tmp_path / "values.npy", np.ones(40 * MB, np.uint8))
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    with watched("cpu") as used:
        assert int(mapped.sum(dtype=np.int64)) == 40 * MB
    assert used.memory < 20 * MB


def test_it_is_filled_in_after_an_error_too() -> None:
    with pytest.raises(ValueError), watched("cpu") as used:
        held = np.ones(30 * MB, np.uint8)
        raise ValueError(len(held))
    assert used.memory > 29 * MB and used.seconds > 0


def test_memory_is_left() -> None:
    assert available("cpu") > 0
