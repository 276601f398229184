"""The names that `import acclimate` offers."""

from __future__ import annotations

import pytest

import acclimate


def test_every_public_name_is_there() -> None:
    assert acclimate.__all__ == [
        "Model",
        "UserError",
        "__version__",
        "compare",
        "correct",
        "fit",
        "inspect",
        "load",
        "measure_shift",
    ]
    assert all(getattr(acclimate, name) is not None for name in acclimate.__all__)
    assert set(acclimate.__all__) <= set(dir(acclimate))


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(
        AttributeError, match="module 'acclimate' has no attribute 'finetune'; it offers Model, UserError"
    ):
        _ = acclimate.finetune
