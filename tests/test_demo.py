"""The demonstration moves the encoder where `fit` would, and nowhere else."""

from __future__ import annotations

import pytest

from acclimate import demo
from acclimate.validate import Verdict


@pytest.mark.parametrize(
    ("answer", "name", "best", "quick", "ways"),
    [
        ("adapt", "mcc", "mcc", False, ["mcc", "lora with mcc"]),
        ("adapt", "mcc", "mcc", True, ["mcc"]),
        ("not decidable", "source_only", "mcc", False, ["mcc"]),
        ("do not adapt", "source_only", "mcc", False, ["mcc"]),
        ("adapt", "shot", "shot", False, ["shot"]),
        ("do not adapt", "source_only", "source_only", False, ["self_train"]),
    ],
)
def test_the_encoder_moves_where_the_verdict_adapts_by_mcc(
    answer: str, name: str, best: str, quick: bool, ways: list[str]
) -> None:
    verdict = Verdict(answer, "why", name, best, {}, 0.5, 0.01, 0.01, 0.1, 0.0, (), ())
    assert list(demo._without_labels(verdict, quick)) == ways
