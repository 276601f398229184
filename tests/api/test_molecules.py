"""Molecules from the file to the report: checked, split by scaffold, beside fingerprints, drawn among the mistakes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import read_json, write_csv

import acclimate
from acclimate import strategies
from acclimate.data.molecules import scaffold
from acclimate.errors import UserError
from acclimate.strategies.boosting import Boosting
from acclimate.strategies.forest import Forest

pytest.importorskip("rdkit")
Fit = Callable[..., acclimate.Model]
RINGS = ["c1ccccc1", "C1CCCCC1", "c1ccncc1", "C1CCNCC1", "c1ccsc1", "C1CCOC1", "c1ccoc1", "C1CCC1"]


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(strategies.BASELINES, "forest", Forest(trees=5))
    monkeypatch.setitem(strategies.BASELINES, "boosting", Boosting(rounds=5, leaves=4, most_columns=200))


def chemicals(n: int = 240, seed: int = 0) -> dict[str, list[Any]]:
    """A ring with a chain; chains that end in a halogen are active, but for one in ten."""
    rng = np.random.default_rng(seed)
    ends = rng.choice(["Cl", "Br", "O", "N"], n)
    lengths, rings = rng.integers(1, 9, n), rng.choice(RINGS, n)
    smiles = [f"{end}{'C' * int(k)}{ring}" for end, k, ring in zip(ends, lengths, rings, strict=True)]
    active = [int((end in ("Cl", "Br")) ^ (rng.random() < 0.1)) for end in ends]
    return {"smiles": [*smiles, "C1CC", "C(C)(C)(C)(C)C", ""], "active": [*active, 1, 0, 1]}


def test_from_the_file_to_the_report(fit: Fit, tmp_path: Path) -> None:
    train = write_csv(tmp_path / "train.csv", chemicals())
    model = fit(train, strategy="fingerprints", metric="roc_auc", output_dir=tmp_path / "run")
    gate = model.report_data.audits[0]
    assert {r: len(lines) for r, lines in gate["dropped"].items()} == {
        "bad_syntax": 1, "bad_valence": 1, "blank_input": 1
    }  # fmt: skip
    assert {"split_by_scaffold", "near_duplicate"} & {f["kind"] for f in gate["findings"]}
    assert model.columns.kind == "molecule" and model.predictor.strategy == "fingerprints"
    assert "no group on both sides" in model.report_data.how_tested
    assert model.scores is not None and model.scores.value is not None and model.scores.value > 0.7
    assert "clusters of rows" in str(model.scores)
    mistakes = model.report_data.mistakes
    assert mistakes
    drawn = base64.b64decode(mistakes[0]["picture"].removeprefix("data:image/svg+xml;base64,")).decode()
    assert drawn.startswith("<svg")
    assert mistakes[0]["picture"] in model.report(tmp_path / "report.html").read_text(encoding="utf-8")
    again = acclimate.load(tmp_path / "run")
    spellings = ["ClCCc1ccccc1", "c1ccccc1CCCl"]
    assert np.array_equal(*again.predict_proba(spellings))
    assert again.predict("OCCc1ccccc1") == model.predict(["OCCc1ccccc1"])
    table, new = again.predict_table({"smiles": ["ClCCc1ccccc1", "C1CC", "C(C)(C)(C)(C)C", None]})
    assert table.columns["smiles"][0] == "ClCCc1ccccc1"
    assert new["note"] == ["", "no SMILES (syntax)", "no possible molecule (valence or aromaticity)",
                           "no molecule to judge"]  # fmt: skip
    assert [p is None for p in new["prediction"]] == [False, True, True, True]
    assert again.evaluate(chemicals(120, seed=1)).n == 120
    with pytest.raises(UserError, match=r"input 1 \('C1CC'\) is no SMILES"):
        again.predict("C1CC")


def test_held_out_scaffolds_are_others_and_random_ones_are_not(fit: Fit, tmp_path: Path) -> None:
    data = chemicals()
    for split, apart in ((None, True), ("random", False)):
        run = tmp_path / str(split)
        made = fit(data, strategy="fingerprints", split=split, output_dir=run)
        told = read_json(run / "report.json")["how_tested"]
        assert ("no group on both sides" in told) == apart
        test = chemicals(120, seed=1)
        for model in (made, acclimate.load(run)):  # as it was asked for, so that intervals count rows alike
            assert (model.labelled(test)[0].groups is not None) == apart
    with pytest.raises(UserError, match="unknown split 'scafold'; did you mean 'scaffold'"):
        fit(data, split="scafold")


def test_a_network_reads_the_canonical_spelling_and_stands_beside_fingerprints(fit: Fit) -> None:
    data = chemicals(80)
    model = fit(data, strategy="hybrid")
    assert model.predictor.backbone is not None and model.predictor.plain is not None
    assert np.array_equal(*model.predict_proba(["ClCCc1ccccc1", "c1ccccc1CCCl"]))
    assert {"majority", "fingerprints", "forest", "boosting"} == {b["key"] for b in model.report_data.baselines}
    auto = fit(data, strategy="auto", candidates=["linear_probe", "hybrid"], time_limit=60)
    assert "hybrid" in {c["name"] for c in auto.report_data.candidates}


def test_without_rdkit_smiles_are_learned_as_text(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acclimate.data.find_kind.available", lambda: False)
    model = fit(chemicals(80), strategy="centroid")
    assert model.columns.kind == "smiles"
    assert len(model.predict(["c1ccccc1CCCl", "C1CC"])) == 2
    assert {"majority", "tfidf"} == {b["key"] for b in model.report_data.baselines}
    assert scaffold("c1ccccc1CC") == "c1ccccc1"
