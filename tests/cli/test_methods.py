from __future__ import annotations

import json

from acclimate.cli import methods


def test_it_lists_every_name_that_can_be_chosen(cli) -> None:
    from acclimate.align import ALIGNMENTS
    from acclimate.metrics.tables import METRICS
    from acclimate.strategies import ADAPTATIONS, BASELINES, STRATEGIES
    from acclimate.strategies.pretrain import PRETRAINING

    result = cli("methods")
    assert result.exit_code == 0, result.exception
    words = result.stdout.replace(",", " ").split()
    names = [
        "auto",
        *STRATEGIES,
        *ADAPTATIONS,
        *BASELINES,
        *ALIGNMENTS,
        *PRETRAINING,
        *METRICS,
        *(name for known in METRICS.values() for name in known),
    ]
    assert [name for name in names if name not in words] == []
    assert "log_loss (-)" in result.stdout
    assert "log_loss (-)," in result.stdout and "accuracy (-)" not in result.stdout


def test_strategies_are_shown_by_what_makes_them_differ() -> None:
    shown = methods.strategies()
    assert shown["hybrid"] == "Probe(plain=True)"
    assert shown["pixels"] == "Probe(features=False, plain=True) without transfer, of pictures"
    assert shown["full"] == "Tune()"


def test_json_has_the_settings_with_their_defaults(cli) -> None:
    found = json.loads(cli("methods", "--json").stdout)
    assert found["settings"]["Tune"]["moves"] == "all"
    assert found["alignments"]["mcc"] == {"temperature": 2.5}
    assert found["pretraining"]["mlm"]["mask"] == 0.15
    assert "needs_backbone" not in found["settings"]["Tune"]
    assert found["metrics"]["regress"]["rmse"] is False
    assert found["metrics"]["regress"]["r2"] is True
