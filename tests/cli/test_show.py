from __future__ import annotations

from dataclasses import replace

from acclimate.cli.show import scores_text
from acclimate.evaluate import Estimate, Scores

WHOLE = Scores(
    task="classify", metric="accuracy", n=80, estimates={"accuracy": Estimate(0.8, 0.7, 0.88, 80)}, covers="the rows"
)


def test_a_table_by_class_is_no_wider_than_the_screen() -> None:
    """Two metrics fit beside a long name; the third begins a block with the names again."""
    metrics = ("precision", "recall", "f1")
    row = {**{m: Estimate(0.9, 0.8, 0.95, 40) for m in metrics}, "support": Estimate(40.0, n=40)}
    text = scores_text(replace(WHOLE, per_class={"a rather long class name": row, "neg": row}), {})
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    heads = [line.split() for line in lines if line.startswith("by class")]
    assert heads == [["by", "class", "n", "precision", "recall"], ["by", "class", "n", "F1"]]
    assert sum(line.startswith("  neg") and line.count("0.900 [0.800, 0.950]") == 2 for line in lines) == 1
    assert sum(line.startswith("  neg") and line.count("0.900 [0.800, 0.950]") == 1 for line in lines) == 1


def test_short_names_stand_in_one_block() -> None:
    row = {"precision": Estimate(0.9, 0.8, 0.95, 40), "recall": Estimate(0.5, n=3)}
    text = scores_text(replace(WHOLE, per_class={"a": row, "b": row}), {})
    assert text.count("by class") == 1
