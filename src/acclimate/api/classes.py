"""Weights of classes as the user gives them."""

from __future__ import annotations

from collections.abc import Mapping

from acclimate.errors import UserError, unknown


def class_weights(value: object, names: tuple[str, ...]) -> object:
    """None, "balanced", or a number for each class of these names, 1 where nothing is said."""
    if value is None or value == "balanced":
        return value
    assert isinstance(value, Mapping)  # by _early
    for name in value:
        if str(name) not in names:
            raise unknown("class in class_weight", str(name), names)
    weights = {str(k): float(v) for k, v in value.items()}
    if any(not 0 <= w < float("inf") for w in weights.values()) or not any(weights.values()):
        raise UserError(f"class_weight {dict(value)!r}: a weight must not be negative, and one must be above 0")
    return tuple(weights.get(name, 1.0) for name in names)
