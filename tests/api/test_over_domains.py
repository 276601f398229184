"""`domain_column`: each domain is judged by the others, and what a new one will give is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import acclimate
import tiny_models as tm
from acclimate.errors import UserError


def table(n: int = 60) -> dict[str, list[Any]]:
    data = tm.rows(n)
    return {
        "text": [f"{('river', 'stone', 'cloud')[i % 3]} {text}" for i, text in enumerate(data.inputs)],
        "label": list(data.labels or ()), "place": [("north", "south", "west")[i % 3] for i in range(n)],
    }  # fmt: skip


def fit(folder_of: Any, where: Path, source: Any, **more: Any) -> tuple[acclimate.Model, dict[str, Any]]:
    given: dict[str, Any] = {"strategy": "linear_probe", "domain_column": "place", **more}
    model = acclimate.fit(
        source, label="label", model=str(folder_of("bert")), output_dir=str(where / "run"), quiet=True, **given
    )
    return model, json.loads((where / "run" / "report.json").read_text())


def test_every_domain_is_left_out_once(folder_of: Any, tmp_path: Path) -> None:
    _, report = fit(folder_of, tmp_path, table())
    assert "leaving each of 3 domains out (north, south, west)" in report["how_tested"]
    assert set(report["scores"]["per_subgroup"]["place"]) == {"north", "south", "west"}
    assert report["scores"]["metrics"]["accuracy"]["n"] == 60
    assert sum("For a new domain like these expect" in d for d in report["decisions"]) == 1


def test_the_number_is_that_of_models_that_never_saw_the_domain(folder_of: Any, tmp_path: Path) -> None:
    """A domain whose labels are turned round is got wrong by what the other two teach."""
    source = table(90)
    names = sorted(set(source["label"]))
    source["text"] = [f"{place} {label}" for place, label in zip(source["place"], source["label"], strict=True)]
    source["text"] = [f"{text} {i}" for i, text in enumerate(source["text"])]
    turned = [names[1 - names.index(y)] if p == "west" else y for p, y in zip(source["place"], source["label"])]  # noqa: B905
    _, report = fit(folder_of, tmp_path, {**source, "label": turned})
    by = {name: row["accuracy"]["value"] for name, row in report["scores"]["per_subgroup"]["place"].items()}
    assert by["west"] < 0.2


@pytest.mark.real  # slow
def test_auto_judges_group_dro_beside_the_others(folder_of: Any, tmp_path: Path) -> None:
    _, report = fit(folder_of, tmp_path, table(), strategy="auto", candidates=None)
    assert {"linear_probe", "group_dro"} <= {c["name"] for c in report["candidates"]}


def test_a_penalty_between_domains_is_judged_by_leaving_each_out(folder_of: Any, tmp_path: Path) -> None:
    settings = {"num_train_epochs": 2, "bottleneck": 8, "lambda": 2.0}
    _, report = fit(folder_of, tmp_path, table(), strategy="vrex", settings=settings)
    assert report["scores"]["metrics"]["accuracy"]["n"] == 60
    assert set(report["scores"]["per_subgroup"]["place"]) == {"north", "south", "west"}
    assert "vrex: training loss by domain north " in json.dumps(report)


def test_two_domains_do_not_tell_of_a_third(folder_of: Any, tmp_path: Path) -> None:
    source = table()
    source["place"] = ["north" if p == "west" else p for p in source["place"]]
    _, report = fit(folder_of, tmp_path, source)
    assert any("Two domains do not tell how a third will do" in d for d in report["decisions"])


def test_rows_without_a_domain_are_dropped_and_counted(folder_of: Any, tmp_path: Path) -> None:
    source = table()
    source["place"][7] = ""
    _, report = fit(folder_of, tmp_path, source)
    assert report["audits"][0]["dropped"] == {"missing_domain": [8]}


def test_source_mixture_says_what_each_source_counts(folder_of: Any, tmp_path: Path) -> None:
    source, target = table(), table(30)
    _, report = fit(folder_of, tmp_path, source, strategy="source_mixture", target_data={"text": target["text"]})
    assert [b["key"] for b in report["baselines"]] == ["majority", "tfidf", "source_only"]
    assert any("adapted to the 30 target rows" in d for d in report["decisions"])


def test_the_model_predicts_without_the_column(folder_of: Any, tmp_path: Path) -> None:
    model, _ = fit(folder_of, tmp_path, table())
    again = acclimate.load(str(tmp_path / "run"))
    texts = table()["text"][:5]
    assert np.array_equal(model.predict_proba(texts), again.predict_proba(texts))
    found = again.evaluate({k: v for k, v in table().items() if k != "place"})
    assert found.estimates["accuracy"].n == 60


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"valid_data": table(20)}, "a domain column and valid data both"),
        ({"time_column": "when"}, "a domain column and a time column both"),
        ({"domain_column": "plac"}, "did you mean 'place'"),
        ({"domain_column": "label"}, "cannot be both"),
    ],
)
def test_what_does_not_go_together_is_refused(more: Any, told: str, folder_of: Any, tmp_path: Path) -> None:
    source = {**table(), "when": [f"2020-01-{1 + i % 28:02}" for i in range(60)]}
    with pytest.raises(UserError, match=told):
        fit(folder_of, tmp_path, source, **more)
