"""`auto` chooses by evidence on the same rows, says why, and keeps to its time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import acclimate
import tiny_models as tm
from acclimate.advise import race as module
from acclimate.advise.crossfit import Trial, crossfit
from acclimate.advise.race import FROZEN, race, value_of
from acclimate.data.kinds import KINDS
from acclimate.data.split import folds
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.strategies import STRATEGIES
from acclimate.strategies.foresee import Foreseen


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr("acclimate.strategies.probe.STRENGTHS", (1.0,))
    monkeypatch.chdir(tmp_path)
    yield


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Races in which each candidate's share of right answers is given; what is not named is not run."""

    def run(
        shares: dict[str, float],
        n: int = 400,
        run: Run | None = None,
        candidates: Sequence[str] = module.CANDIDATES,
        asked: bool = False,
        kind: str = "text",
        **overrides: Any,
    ) -> module.Race:
        data = tm.rows(n)
        monkeypatch.setattr(module, "kind_of", lambda data: KINDS[kind])
        problem = replace(
            tm.problem_of("classify", data, "str", None, Run()), backbone=SimpleNamespace(fixed="", pretrained=True)
        )
        truth = problem.targets(data).astype(int)

        def pretend(
            name: str, strategy: Any, problem: Any, data: Any, pairs: Any, run: Any, *_: bool, **more: bool
        ) -> Trial:
            if name not in shares:
                raise acclimate.UserError(f"no {name} today")
            rng = np.random.default_rng(0)  # the same rows are hard for all
            right = rng.permutation(n) < shares[name] * n
            logits = np.where(np.eye(2)[np.where(right, truth, 1 - truth)] > 0, 2.0, 0.0)
            return Trial(name, strategy, logits, 0.0, len(pairs))

        monkeypatch.setattr(module, "crossfit", pretend)
        monkeypatch.setattr(module, "foresee", lambda *args: Foreseen(1.0, 10**9, 0.0))
        pairs = folds(data, "classify", k=5, seed=0)
        return race(problem, data, pairs, "accuracy", run or Run(), overrides, candidates=candidates, asked=asked)

    return run


BASE = {"majority": 0.5, "tfidf": 0.9}


def test_the_best_of_the_frozen_ones_is_chosen(scripted: Any) -> None:
    found = scripted({**BASE, "centroid": 0.6, "knn": 0.8, "linear_probe": 0.7, "hybrid": 0.65, "lp_ft": 0.8})
    assert found.chosen == "knn"
    assert {t.name for t in found.trials} == {*BASE, *FROZEN, "lp_ft"}
    assert found.decisions[0] == "knn has the best out-of-fold accuracy of the strategies with a frozen backbone."
    assert any(line.startswith("lp_ft was not chosen: +0.000") for line in found.decisions)


def test_what_moves_the_backbone_must_show_a_gain(scripted: Any) -> None:
    frozen = {**BASE, "centroid": 0.6, "knn": 0.6, "linear_probe": 0.7, "hybrid": 0.6}
    found = scripted({**frozen, "lp_ft": 0.8})
    assert found.chosen == "lp_ft"
    assert any(line.startswith("lp_ft was chosen: better than linear_probe by +0.100 [") for line in found.decisions)
    level = scripted({**frozen, "lp_ft": 0.7})
    assert level.chosen == "linear_probe" and "the cheaper one stays" in level.decisions[-1]


def test_where_few_rows_cannot_tell_the_better_one_on_the_folds_is_taken_and_that_is_said(scripted: Any) -> None:
    shares = {**BASE, "centroid": 0.6, "knn": 0.6, "linear_probe": 0.7, "hybrid": 0.6, "lp_ft": 0.8}
    few = scripted(shares, n=20)
    assert few.chosen == "lp_ft"
    assert "(not decidable, n = 20)" in few.decisions[-1] and "cannot tell them apart" in few.decisions[-1]


def test_of_two_that_tune_the_cheaper_comes_first_and_the_other_must_beat_it(scripted: Any) -> None:
    frozen = {**BASE, "centroid": 0.6, "knn": 0.6, "linear_probe": 0.7, "hybrid": 0.6}
    level = scripted({**frozen, "contrastive": 0.8, "lp_ft": 0.8})
    assert level.chosen == "contrastive"
    assert any(line.startswith("lp_ft was not chosen: +0.000") and "contrastive" in line for line in level.decisions)
    assert scripted({**frozen, "contrastive": 0.8, "lp_ft": 0.9}).chosen == "lp_ft"
    pictures = {"majority": 0.5, "pixels": 0.6, "linear_probe": 0.7, "contrastive": 0.9}
    assert scripted(pictures, kind="image").chosen == "linear_probe"  # of texts alone, unless it is asked for
    assert scripted(pictures, kind="image", asked=True).chosen == "contrastive"


def test_where_few_rows_cannot_tell_contrastive_is_taken_and_nothing_in_its_place(scripted: Any) -> None:
    shares = {**BASE, "centroid": 0.6, "knn": 0.6, "linear_probe": 0.7, "contrastive": 0.65, "lp_ft": 0.7}
    few = scripted(shares, n=20)
    assert few.chosen == "contrastive" and any("seldom behind on other texts" in line for line in few.decisions)
    assert "lp_ft was not chosen" in few.decisions[-1] and "the cheaper one stays" in few.decisions[-1]
    worse = scripted({**shares, "contrastive": 0.5, "lp_ft": 0.5}, n=200)
    assert worse.chosen == "linear_probe"
    many = scripted({**shares, "contrastive": 0.7, "lp_ft": 0.6}, n=400)  # more than 128 a class: level is not ahead
    assert many.chosen == "linear_probe"


def test_a_candidate_without_a_setting_that_was_given_is_left_out(scripted: Any) -> None:
    shares = {**BASE, "linear_probe": 0.7, "contrastive": 0.9, "lp_ft": 0.8}
    found = scripted(shares, num_train_epochs=2)
    assert found.chosen == "lp_ft"
    told = "contrastive was not run: it has no setting 'num_train_epochs', which was given."
    assert told in found.decisions
    assert module.check_candidates(module.CANDIDATES, {"num_train_epochs": 2}) == module.CANDIDATES
    with pytest.raises(acclimate.UserError, match="num_train_epochs"):
        module.check_candidates(("knn", "contrastive"), {"num_train_epochs": 2})


def test_what_cannot_be_told_apart_is_said(scripted: Any) -> None:
    found = scripted({**BASE, "centroid": 0.6, "knn": 0.6, "linear_probe": 0.705, "hybrid": 0.7, "lp_ft": 0.7})
    assert any(
        line.startswith("linear_probe against hybrid: +0.005 [") and line.endswith("cannot tell them apart.")
        for line in found.decisions
    )
    assert not any("against knn" in line for line in found.decisions)


def test_a_candidate_that_cannot_run_is_left_out_and_named(scripted: Any) -> None:
    found = scripted({"majority": 0.5, "knn": 0.6, "linear_probe": 0.7, "lp_ft": 0.6})
    assert found.chosen == "linear_probe"
    assert [line for line in found.decisions if "was not run" in line] == [
        "tfidf was not run: no tfidf today",
        "centroid was not run: no centroid today",
        "hybrid was not run: no hybrid today",
        "contrastive was not run to its end: no contrastive today",
    ]
    with pytest.raises(acclimate.UserError, match="none of the strategies could be run"):
        scripted({"majority": 0.5})


def test_a_candidate_that_there_is_not_is_named_where_it_was_asked_for(scripted: Any) -> None:
    shares = {"majority": 0.5, "pixels": 0.6, "knn": 0.7, "hybrid": 0.9}
    told = "hybrid was not run: of pictures there are no plain features to put beside those of a network."
    for asked in (True, False):
        found = scripted(shares, candidates=("knn", "hybrid"), asked=asked, kind="image")
        assert found.chosen == "knn" and (told in found.decisions) is asked


def test_time_decides_on_how_many_folds_tuning_is_judged(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One fit takes a second here, a fold 0.8 of one, and a fifth of the time is kept back."""
    shares = {**BASE, **dict.fromkeys(FROZEN, 0.6), "lp_ft": 0.9}
    monkeypatch.setattr(module, "LEAST", -math.inf)

    def folds_of(seconds: float) -> tuple[int | None, str]:
        found = scripted(shares, run=Run(deadline=time.monotonic() + seconds))
        ran = [t.folds for t in found.trials if t.name == "lp_ft"]
        said = [line for line in found.decisions if line.startswith("lp_ft was judged") or "lp_ft was not run" in line]
        return (ran[0] if ran else None), " ".join(said)

    assert folds_of(100) == (5, "")
    assert folds_of(5.2) == (3, "lp_ft was judged on 3 of the 5 folds.")  # (0.8 · 5.2 − 1) / 0.8 = 3.95
    number, said = folds_of(2.0)
    assert number is None
    assert said.startswith("lp_ft was not run: a fold and the last fit take about 1.8 s here, and ")
    assert "raise --time-limit" in said


def test_settings_are_for_the_strategy_that_moves_the_backbone(scripted: Any) -> None:
    shares = {**BASE, **dict.fromkeys(FROZEN, 0.6), "lp_ft": 0.9}
    found = scripted(shares, learning_rate=1e-4, num_train_epochs=2)
    chosen: Any = found.trial("lp_ft").strategy
    assert chosen == replace(STRATEGIES["lp_ft"], learning_rate=1e-4, num_train_epochs=2)  # type: ignore[type-var]


def test_smaller_is_better_for_errors() -> None:
    data, kind = tm.task_rows("regress", 40)
    problem = tm.problem_of("regress", data, kind, None, Run())
    target = problem.targets(data)[:, None]
    near, far = Trial("near", None, target + 0.1, 0, 5), Trial("far", None, target + 1.0, 0, 5)  # type: ignore[arg-type]
    assert value_of(problem, data, "rmse", near) == pytest.approx(0.1 * problem.decoder.scale)
    assert module._best(problem, data, "rmse", [far, near]).name == "near"
    assert module._best(problem, data, "r2", [far, near]).name == "near"


def test_auto_from_end_to_end(folder_of: Any, tmp_path: Path) -> None:
    data = tm.rows(220)
    assert data.labels is not None
    model = acclimate.fit(
        {"text": list(data.inputs), "label": list(data.labels)}, model=str(folder_of("bert")), quiet=True,
        settings={"num_train_epochs": 1}, output_dir=tmp_path / "run",
    )  # fmt: skip
    report = model.report_data
    assert report is not None and model.scores is not None
    candidates = {c["name"]: c for c in report.candidates}
    assert list(candidates) == ["majority", "linear_probe", "tfidf", *FROZEN[1:], "lp_ft"]
    assert [c["name"] for c in candidates.values() if c["chosen"]] == [model.predictor.strategy]
    assert {c["n"] for c in candidates.values()} == {176}  # the rows to learn from; the 44 others were not touched
    assert model.scores.n == 44
    assert {b["key"] for b in report.baselines} == {"majority", "tfidf"}
    assert model.predictor.strategy in (*FROZEN, "lp_ft")
    assert acclimate.load(tmp_path / "run").predict(list(data.inputs[:5])) == model.predict(list(data.inputs[:5]))


def test_auto_keeps_to_its_time(folder_of: Any, tmp_path: Path) -> None:
    data = tm.rows(60)
    assert data.labels is not None
    model = acclimate.fit(
        {"text": list(data.inputs), "label": list(data.labels)}, model=str(folder_of("bert")), quiet=True,
        time_limit=0.1, output_dir=tmp_path / "run",
    )  # fmt: skip
    assert model.report_data is not None
    assert model.predictor.strategy in FROZEN
    assert any(
        line.startswith("lp_ft was not run: ") and "raise --time-limit" in line for line in model.report_data.decisions
    )


def test_what_the_time_limit_cuts_is_said_at_once(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda self, text: said.append(text))
    found = scripted({**BASE, **dict.fromkeys(FROZEN, 0.6)}, run=Run(deadline=time.monotonic() - 1))
    cut = [
        line for line in found.decisions if "the time limit was reached before" in line or "raise --time-limit" in line
    ]
    assert len(cut) >= 4 and all(line in said for line in cut)


def test_of_several_that_tune_each_has_to_beat_the_one_before(scripted: Any) -> None:
    some = ("knn", "linear_probe", "full", "lora")
    found = scripted({**BASE, "knn": 0.6, "linear_probe": 0.7, "lora": 0.8, "full": 0.95}, candidates=some)
    assert [t.name for t in found.trials] == ["majority", "knn", "tfidf", "linear_probe", "lora", "full"]
    assert found.chosen == "full" and found.one == Foreseen(1.0, 10**9, 0.0)
    assert [line.partition(" by ")[0] for line in found.decisions if "was chosen" in line] == [
        "lora was chosen: better than linear_probe",
        "full was chosen: better than lora",
    ]
    assert list(found.why) == ["majority", "knn", "tfidf", "linear_probe", "lora"]
    assert found.why["lora"].startswith("−0.150 [") and found.why["lora"].endswith("(worse, n = 400) against full")
    kept = scripted({**BASE, "knn": 0.6, "linear_probe": 0.7, "lora": 0.8, "full": 0.8}, candidates=some)
    assert kept.chosen == "lora"
    assert any(line.startswith("full was not chosen: +0.000") and "against lora" in line for line in kept.decisions)


def test_the_last_fit_of_the_one_ahead_is_kept_free(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """lora takes 1 s a fit, full 4 s; 0.8 · 9.5 s leave (7.6 − 4) / 3.2 = 1.1 folds of full."""
    shares = {**BASE, "knn": 0.6, "lora": 0.9, "full": 0.9}
    cost = {"lora": 1.0, "all": 4.0}
    told = scripted  # sets `foresee` at every call, so that it is replaced after it
    monkeypatch.setattr(module, "LEAST", -math.inf)
    original = module._affordable

    def affordable(tune: Any, *rest: Any) -> Any:
        monkeypatch.setattr(module, "foresee", lambda *args: Foreseen(cost[tune.moves], 0, 0.0))
        return original(tune, *rest)

    monkeypatch.setattr(module, "_affordable", affordable)
    run = Run(deadline=time.monotonic() + 9.5)
    found = told(shares, run=run, candidates=("knn", "full", "lora"))
    assert {t.name: t.folds for t in found.trials if t.name in ("lora", "full")} == {"lora": 5, "full": 1}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["lora", "full"], "one must leave the backbone frozen"),
        (["knn", "tfidf"], "'tfidf' is judged in any case"),
        (["knn", "lroa"], "did you mean 'lora'"),
    ],
)
def test_candidates_that_make_no_race(names: list[str], message: str) -> None:
    with pytest.raises(acclimate.UserError, match=message):
        module.check_candidates(names, {})
    assert module.check_candidates(["probe", "knn", "linear_probe"], {}) == ("linear_probe", "knn")


def test_settings_that_no_candidate_takes_are_refused_with_those_that_do() -> None:
    frozen = ["linear_probe", "knn"]
    with pytest.raises(acclimate.UserError, match=r"setting 'learning_rate' \(linear_probe, knn; .*: .*lora.*more"):
        module.check_candidates(frozen, {"learning_rate": 0.1})
    with pytest.raises(acclimate.UserError, match=r"setting 'k' \(lp_ft; settings are .* --strategy: knn$"):
        module.check_candidates([*frozen, "lp_ft"], {"k": 3})
    with pytest.raises(acclimate.UserError, match="unknown setting of .* 'learning_rat'; did you mean"):
        module.check_candidates([*frozen, "lora"], {"learning_rat": 0.1})
    assert module.check_candidates(frozen, {"lr": 0.1}, ["lora"]) == tuple(frozen)
    assert module.check_candidates([*frozen, "lora"], {"lr": 0.1, "rank": 4}) == (*frozen, "lora")


def test_folds_that_will_not_end_in_time_are_left_at_once(monkeypatch: pytest.MonkeyPatch, shared_bert: Any) -> None:
    data = tm.rows(40)
    problem, pairs = tm.problem_of("classify", data, "str", shared_bert, Run()), folds(data, "classify", k=5, seed=0)
    fitted: list[int] = []

    def slow(self: Any, problem: Any, splits: Any, run: Any) -> Any:
        fitted.append(1)
        time.sleep(0.05)
        return original(self, problem, splits, run)

    original = type(STRATEGIES["knn"]).fit
    monkeypatch.setattr(type(STRATEGIES["knn"]), "fit", slow)
    late = Run(deadline=time.monotonic() + 0.12)
    with pytest.raises(acclimate.UserError, match="its 5 folds take about .* left of the time limit after 1"):
        crossfit("knn", STRATEGIES["knn"], problem, data, pairs, late, True, droppable=True)
    assert len(fitted) == 1
    whole = crossfit("knn", STRATEGIES["knn"], problem, data, pairs, late, True)  # where these rows give the number
    assert whole.folds == 5
