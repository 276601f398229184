"""Out-of-fold predictions are of rows that the model never saw, and so is everything that is tuned on them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tiny_models as tm
from acclimate.advise import crossfit as module
from acclimate.advise.crossfit import crossfit, honest_outputs, temperature
from acclimate.data.rows import Data
from acclimate.data.split import folds
from acclimate.metrics import digest
from acclimate.metrics.calibration import fit_temperature
from acclimate.metrics.digest import Digest
from acclimate.run import Run
from acclimate.strategies import BASELINES, Problem, Splits
from acclimate.strategies.base import Constant

RUN = Run()


@dataclass(frozen=True)
class Witness(Constant):
    """Class shares, and a record of what it was given."""

    seen: list[set[Any]] = field(default_factory=list)

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Any:
        self.seen.append(set(splits.train.inputs))
        return super().fit(problem, splits, run)


def problem(data: Any) -> Problem:
    return tm.problem_of("classify", data, "str", None, RUN)


def test_no_row_is_judged_by_a_model_that_saw_it() -> None:
    data = tm.rows(40)
    pairs = folds(data, "classify", k=5, seed=0)
    witness = Witness()
    trial = crossfit("witness", witness, problem(data), data, pairs, RUN)
    assert len(witness.seen) == trial.folds == 5
    for (_, judge_at), seen in zip(pairs, witness.seen, strict=True):
        assert not seen & {data.inputs[i] for i in judge_at}
    assert trial.judged.tolist() == list(range(40))


def test_a_row_judged_often_gets_the_mean_of_its_logits() -> None:
    """Two folds of different shares judge row 0; log((n_k + ½)/(n + 1)) is each one's answer."""
    data = tm.rows(8)  # bad, good, bad, good ...
    pairs = [(np.array([1, 3, 2]), np.array([0])), (np.array([1, 2, 4]), np.array([0]))]
    trial = crossfit("shares", Constant(), problem(data), data, pairs, RUN)
    wanted = [np.mean([np.log(1.5 / 4), np.log(2.5 / 4)]), np.mean([np.log(2.5 / 4), np.log(1.5 / 4)])]
    assert trial.logits[0] == pytest.approx(wanted)
    assert trial.judged.tolist() == [0]
    assert np.isnan(trial.logits[1:]).all()


def test_what_a_row_is_read_with_comes_from_other_folds() -> None:
    data = tm.rows(40)
    pairs = folds(data, "classify", k=5, seed=0, repeats=2)
    given = problem(data)
    trial = crossfit("tfidf", BASELINES["tfidf"], given, data, pairs, RUN)
    tuned_on: list[int] = []

    def tune(decoder: Any, outputs: Any, truth: Any) -> Any:
        tuned_on.append(len(truth))
        return replace(decoder, threshold=1.0 if len(tuned_on) == 1 else 0.0, positive="good")

    outputs, decisions, at = honest_outputs(given, trial, data, pairs, tune)
    assert at.tolist() == list(range(40))
    assert tuned_on == [40 - len(judge_at) for _, judge_at in pairs[:5]]  # the second round finds every row judged
    first = set(pairs[0][1].tolist())
    assert {i for i in range(40) if decisions[i] == 0} == first  # nothing reaches 1.0; everything reaches 0.0
    assert np.isfinite(outputs).all()


def test_a_rows_own_label_changes_nothing_about_how_it_is_read() -> None:
    """The temperature for row 0 is the same whatever row 0's label is."""
    data = tm.rows(40)
    pairs = folds(data, "classify", k=5, seed=0)
    trial = crossfit("tfidf", BASELINES["tfidf"], problem(data), data, pairs, RUN)
    mine = next(judge_at for _, judge_at in pairs if 0 in judge_at)
    assert data.labels is not None
    flipped = replace(
        data, labels=tuple(("good" if y == "bad" else "bad") if i in mine else y for i, y in enumerate(data.labels))
    )
    one, two = (
        honest_outputs(problem(data), trial, rows, pairs, lambda decoder, outputs, truth: decoder)[0]
        for rows in (data, flipped)
    )
    assert np.array_equal(one[mine], two[mine])
    others = np.setdiff1d(np.arange(40), mine)
    assert not np.array_equal(one[others], two[others])


def test_windows_of_time_leave_the_first_rows_out() -> None:
    data = replace(tm.rows(60), times=np.arange(60.0))
    pairs = folds(data, "classify", k=5, seed=0)
    trial = crossfit("majority", Constant(), problem(data), data, pairs, RUN)
    first = min(int(judge_at.min()) for _, judge_at in pairs)
    assert trial.judged.tolist() == list(range(first, 60))
    _, _, at = honest_outputs(problem(data), trial, data, pairs, lambda decoder, outputs, truth: decoder)
    assert at.tolist() == list(range(first, 60))


def test_what_was_judged_is_read_again_unless_it_is_damaged_or_of_other_rows(tmp_path: Path) -> None:
    data = tm.rows(40)
    pairs = folds(data, "classify", k=5, seed=0)
    run = replace(RUN, state=tmp_path)
    whole = crossfit("w", Witness(), problem(data), data, pairs, RUN)
    crossfit("w", Witness(), problem(data), data, pairs[:2], run)
    rest = Witness()
    trial = crossfit("w", rest, problem(data), data, pairs, run)
    assert len(rest.seen) == 3
    assert np.array_equal(trial.logits, whole.logits)
    assert (trial.folds, trial.note) == (5, whole.note)
    path = tmp_path / "trials" / "w.npz"
    path.write_bytes(path.read_bytes()[:-30])
    again = Witness()
    crossfit("w", again, problem(data), data, pairs, run)
    assert len(again.seen) == 5
    other = Witness()
    fewer = tm.rows(36)
    crossfit("w", other, problem(fewer), fewer, folds(fewer, "classify", k=5, seed=0), run)
    assert len(other.seen) == 5


def test_folds_of_what_is_dear_are_kept_one_by_one(tmp_path: Path) -> None:
    data = tm.rows(40)
    pairs = folds(data, "classify", k=5, seed=0)
    run = replace(RUN, state=tmp_path)

    class Stops(Witness):
        frozen = False

        def fit(self, problem: Problem, splits: Splits, run: Run) -> Any:
            assert run.state == tmp_path / "w" / f"fold-{len(self.seen) + 1}"
            if len(self.seen) == 3:
                raise RuntimeError("killed")
            return super().fit(problem, splits, run)

    with pytest.raises(RuntimeError, match="killed"):
        crossfit("w", Stops(), problem(data), data, pairs, run)
    rest = Witness()
    trial = crossfit("w", rest, problem(data), data, pairs, run)
    assert len(rest.seen) == 2
    assert np.array_equal(trial.logits, crossfit("w", Witness(), problem(data), data, pairs, RUN).logits)


def test_folds_stop_at_the_deadline_and_a_run_that_goes_on_stops_there_too(tmp_path: Path) -> None:
    data = tm.rows(40)
    pairs = folds(data, "classify", k=5, seed=0)
    late = Run(deadline=0.0, state=tmp_path)
    trial = crossfit("shares", Constant(), problem(data), data, pairs, late)
    assert trial.folds == 1 and trial.judged.tolist() == sorted(pairs[0][1].tolist())
    again = crossfit("shares", Constant(), problem(data), data, pairs, replace(late, deadline=None))
    assert again.folds == 1 and np.array_equal(again.logits, trial.logits, equal_nan=True)


def many_classes(k: int = 110) -> Data:
    """Six rows of every class."""
    texts = [f"text {i} of it" for i in range(6 * k)]
    return replace(tm.rows(4), inputs=tuple(texts), labels=tuple(f"c{i % k:03d}" for i in range(6 * k)))


def test_many_logits_of_many_classes_lie_in_a_file_and_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = many_classes()
    given = problem(data)
    pairs = folds(data, "classify", k=5, seed=0)
    monkeypatch.setattr(digest, "NUMBERS", 110 * 50)
    small = crossfit("shares", Constant(), given, data, pairs, RUN)
    assert not isinstance(small.logits, np.memmap)
    monkeypatch.setattr(module, "IN_MEMORY", 1000)
    run = replace(RUN, state=tmp_path)
    large = crossfit("shares", Constant(), given, data, pairs, run)
    assert isinstance(large.logits, np.memmap) and large.logits.dtype == np.float32
    assert np.array_equal(large.logits, small.logits) and large.judged.tolist() == list(range(660))
    witness = Witness()
    again = crossfit("shares", witness, given, data, pairs, run)  # what was kept is read, not run again
    assert witness.seen == [] and np.array_equal(again.logits, small.logits)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["shares.npz"]

    def tune(decoder: Any, outputs: Any, truth: Any) -> Any:
        return decoder

    (one, chosen, at), (two, _, _) = (honest_outputs(given, trial, data, pairs, tune) for trial in (small, large))
    assert isinstance(one, Digest) and isinstance(two, Digest) and at.tolist() == list(range(660))
    assert np.array_equal(one.own, two.own) and len(chosen) == 660
    i = int(pairs[2][1][5])  # by hand: a temperature from the other folds
    others = np.setdiff1d(np.arange(660), pairs[2][1])
    truth = given.targets(data)
    z = small.logits[i] / fit_temperature(small.logits[others], truth[others])
    assert one.own[i] == pytest.approx(np.exp(z[truth[i]]) / np.exp(z).sum(), rel=1e-9)


def test_what_was_kept_of_other_rows_is_not_read(tmp_path: Path) -> None:
    data, run = tm.rows(40), replace(RUN, state=tmp_path)
    crossfit("shares", Constant(), problem(data), data, folds(data, "classify", k=5, seed=0), run)
    fewer = data.take(np.arange(30))
    pairs = folds(fewer, "classify", k=5, seed=0)
    again = crossfit("shares", Constant(), problem(fewer), fewer, pairs, run)
    assert np.array_equal(again.logits, crossfit("shares", Constant(), problem(fewer), fewer, pairs, RUN).logits)


def test_a_disk_without_room_leaves_the_logits_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = many_classes()
    monkeypatch.setattr(module, "IN_MEMORY", 1000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    held = module.held(problem(data), len(data), replace(RUN, state=tmp_path))
    assert not isinstance(held, np.memmap) and held.dtype == np.float32 and held.shape == (660, 110)


def test_a_temperature_among_many_classes_rests_on_rows_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    data = many_classes()
    given, truth = problem(data), problem(data).targets(data)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(660, 110))
    logits[np.arange(660), truth] += 3
    at = np.arange(660)
    whole = temperature(given, 4 * logits, at, truth, None)
    assert whole == fit_temperature(4 * logits, truth)
    monkeypatch.setattr(module, "TO_WARM", 330 * 110)
    some = temperature(given, 4 * logits, at, truth, None)
    picked = np.linspace(0, 659, 330).round().astype(int)
    assert some == fit_temperature(4 * logits[picked], truth[picked])
    assert some == pytest.approx(whole, rel=0.1)
