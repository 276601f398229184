from __future__ import annotations

import pytest
import torch

from acclimate.threads import few


@pytest.fixture
def two_threads() -> None:
    torch.set_num_threads(2)  # conftest sets one anew before every test


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("operations", "inside"), [(1e6, 1), (1.9e8, 1), (2e8, 2), (1e12, 2)])
def test_small_work_gets_one_thread_and_the_setting_is_put_back(operations: float, inside: int) -> None:
    with few(operations):
        assert torch.get_num_threads() == inside
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_the_setting_is_put_back_after_an_error() -> None:
    with pytest.raises(ValueError, match="stop"), few(1.0):
        raise ValueError("stop")
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_blas_too() -> None:
    from threadpoolctl import threadpool_info

    with few(1.0):
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} <= {1}
