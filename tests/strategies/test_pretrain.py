"""Pretraining on the target's texts: what moves, what is said, what is refused; resumed bit for bit."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate import model as bundles
from acclimate import ranks
from acclimate.errors import UserError
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.strategies import STRATEGIES, Splits, adapts, named, pretrain
from acclimate.strategies.foresee import foresee
from acclimate.strategies.pretrain import Mlm, check_pretrain, pretrained
from acclimate.train import loop

RUN = Run(progress=Progress(quiet=True))
QUICK = "mlm:epochs=2,learning_rate=0.003"
SPLITS = Splits(tm.rows(16), target=tm.rows(40, seed=3))


def problem(backbone: Any, run: Run = RUN) -> Any:
    return tm.problem_of("classify", SPLITS.train, "str", backbone, run)


def fit(name: str, backbone: Any, run: Run = RUN, splits: Splits = SPLITS, **settings: Any) -> Any:
    strategy = named(name, {"num_train_epochs": 1, **settings})[1]
    return strategy.fit(problem(backbone, run), splits, run)


def test_none_gives_back_the_very_problem(shared_bert: Any) -> None:
    given = problem(shared_bert)
    assert pretrained("none", given, SPLITS, "no", RUN) == (given, ())


def test_it_learns_to_guess_and_leaves_the_given_backbone_alone(shared_bert: Any) -> None:
    before = tm.state(shared_bert)
    given = problem(shared_bert)
    found, notes = pretrained("mlm:epochs=12,learning_rate=0.005,mask=0.3", given, SPLITS, "no", RUN)
    assert tm.same_state(shared_bert, before)
    assert found.backbone is not shared_bert and found.store.backbone is found.backbone
    assert "on 38 target texts, 12 epochs: the perplexity of hidden words in 2 texts held out fell from" in notes[0]
    first, last = (float(part) for part in notes[0].partition("fell from ")[2].split(" to "))
    assert last < 0.8 * first
    assert "'tiny-bert' ships no head for hidden words" in notes[1]
    changed = {n for n, p in found.backbone.named_parameters() if not torch.equal(p, before[n])}
    assert {n for n, _ in shared_bert.named_parameters()} - changed == set()
    assert not any(p.requires_grad for p in found.backbone.parameters()) and not found.backbone.training


def test_where_nothing_is_learned_the_network_stays_as_it_was(shared_bert: Any) -> None:
    found, notes = pretrained("mlm:epochs=1,learning_rate=30", problem(shared_bert), SPLITS, "no", RUN)
    assert "did not fall" in notes[0] and "the network stays as it was" in notes[0]
    assert tm.same_state(found.backbone, tm.state(shared_bert))


def test_target_labels_and_source_texts_are_not_read(shared_bert: Any) -> None:
    asked = problem(shared_bert)
    one, _ = pretrained(QUICK, asked, SPLITS, "no", RUN)
    other = Splits(tm.rows(12, seed=9), target=replace(tm.rows(40, seed=3), labels=("x",) * 40))
    two, _ = pretrained(QUICK, asked, other, "no", RUN)
    assert tm.same_state(one.backbone, tm.state(two.backbone))
    both, notes = pretrained(f"{QUICK},rows=both", asked, SPLITS, "no", RUN)
    assert "53 target and training texts" in notes[0]  # 56, of which 3 are held out
    assert not tm.same_state(both.backbone, tm.state(one.backbone))


@pytest.mark.parametrize("name", ["full", "partial", "lora", "lp_ft"])
def test_the_saved_model_is_the_one_that_was_fitted(name: str, shared_bert: Any, tmp_path: Path) -> None:
    fitted = fit(name, shared_bert, pretrain=QUICK)
    assert adapts(named(name, {"pretrain": QUICK})[1])
    assert fitted.settings["pretrain"] == QUICK
    assert set(fitted.trained) == {f"backbone.{n}" for n, _ in shared_bert.named_parameters()} | {
        "head.weight",
        "head.bias",
    }
    assert fitted.adapter is None  # it would belong to a base that nobody has
    texts = SPLITS.target.inputs  # type: ignore[union-attr]
    loaded = bundles.load(fitted.save(tmp_path / "bundle"))
    assert np.array_equal(loaded.logits(texts), fitted.logits(texts))
    assert not (tmp_path / "bundle" / "adapter").exists()
    plain = fit(name, shared_bert)
    assert not np.allclose(plain.logits(texts), fitted.logits(texts), atol=1e-3)
    assert (plain.adapter is not None) == (name == "lora")


@pytest.mark.real  # slow
def test_folds_share_one_pretraining(shared_bert: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from acclimate.advise.crossfit import crossfit

    done = []
    learn = pretrain._learn
    monkeypatch.setattr(pretrain, "_learn", lambda *args: done.append(1) or learn(*args))  # type: ignore[func-returns-value]
    half = [(np.arange(8), np.arange(8, 16)), (np.arange(8, 16), np.arange(8))]
    strategy = named("lora", {"num_train_epochs": 1, "pretrain": QUICK})[1]
    for run, count in ((RUN, 1), (replace(RUN, seed=1, state=tmp_path), 2)):
        given = problem(shared_bert, run)
        trial = crossfit("lora", strategy, given, SPLITS.train, half, run, target=SPLITS.target)
        assert len(done) == count
        alone = strategy.fit(
            problem(shared_bert, run), Splits(SPLITS.train.take(half[0][0]), target=SPLITS.target), run
        )
        assert np.array_equal(trial.logits[half[0][1]], alone.logits(SPLITS.train.take(half[0][1]).inputs))
        done.pop()


class Killed(BaseException):
    """As if the process had ended."""


@pytest.fixture(scope="module")
def whole(shared_bert: Any) -> Any:
    """A fit that nothing stops, and that keeps nothing."""
    return fit("full", shared_bert, pretrain=QUICK)


@pytest.mark.parametrize("step", [5, 8, 13])
def test_a_run_killed_at_any_part_goes_on_bit_for_bit(
    step: int, whole: Any, shared_bert: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 1 to 6 train the new head, 7 to 12 everything, the 13th tunes."""
    run = replace(RUN, state=tmp_path / "state", checkpoint_every=0.0)
    original, steps = loop._step, [0]

    def stopping(*args: Any) -> Any:
        steps[0] += 1
        if steps[0] == step:
            raise Killed
        return original(*args)

    monkeypatch.setattr(loop, "_step", stopping)
    with pytest.raises(Killed):
        fit("full", shared_bert, run, pretrain=QUICK)
    resumed = fit("full", shared_bert, run, pretrain=QUICK)
    assert tm.same_state(resumed.backbone, tm.state(whole.backbone))
    assert tm.same_state(resumed.head, tm.state(whole.head))
    assert (resumed.notes, resumed.history) == (whole.notes, whole.history)
    assert steps[0] == 13 + 1  # nothing that was done is done again


def test_what_was_kept_of_other_texts_is_left_aside(shared_bert: Any, tmp_path: Path) -> None:
    run = replace(RUN, state=tmp_path)
    pretrained(QUICK, problem(shared_bert, run), SPLITS, "no", run)
    other = replace(SPLITS, target=tm.rows(30, seed=4))
    found, _ = pretrained(QUICK, problem(shared_bert, run), other, "no", run)
    expected, _ = pretrained(QUICK, problem(shared_bert), other, "no", RUN)
    assert tm.same_state(found.backbone, tm.state(expected.backbone))


def test_a_time_limit_leaves_half_for_tuning(shared_bert: Any) -> None:
    run = replace(RUN, deadline=time.monotonic() + 2)
    fitted = fit("full", shared_bert, run, pretrain="mlm:epochs=100000")
    assert any("time limit reached after step" in note for note in fitted.notes[1:])
    assert fitted.history[-1]["step"] == 1 and "note" not in fitted.history[-1]  # tuning ran to its end


def test_a_loss_that_is_not_finite_stops_it(shared_bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from acclimate.strategies.hidden_words import Guesser

    loss = Guesser.loss
    monkeypatch.setattr(Guesser, "loss", lambda self, *args: loss(self, *args) * (float("nan") if self.training else 1))
    with pytest.raises(UserError, match="NaN or infinite at step 1"):
        fit("full", shared_bert, pretrain=QUICK)


def test_memory_that_fits_fewer_rows_gives_the_same_weights(shared_bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from acclimate.strategies.hidden_words import Guesser

    bert = shared_bert.clone()
    for module in bert.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    expected, _ = pretrained(QUICK, problem(bert), SPLITS, "no", RUN)
    loss = Guesser.loss

    def small(self: Any, texts: Any, slots: Any, device: str) -> Any:
        if len(slots) > 7:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return loss(self, texts, slots, device)

    monkeypatch.setattr(Guesser, "loss", small)
    found, _ = pretrained(QUICK, problem(bert), SPLITS, "no", RUN)
    after = tm.state(expected.backbone)
    for name, parameter in found.backbone.named_parameters():
        torch.testing.assert_close(parameter, after[name], atol=2e-3, rtol=0)


def test_its_time_is_foretold(shared_bert: Any) -> None:
    plain = foresee(named("full", {"num_train_epochs": 1})[1], problem(shared_bert), SPLITS, RUN)  # type: ignore[arg-type]
    asked = named("full", {"num_train_epochs": 1, "pretrain": "mlm:epochs=500"})[1]
    assert foresee(asked, problem(shared_bert), SPLITS, RUN).seconds > 2 * plain.seconds  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("clm", "unknown pretraining 'clm'"),
        ("mlm:epoch=2", "did you mean 'epochs'"),
        ("mlm:epochs=two", "setting 'epochs' of mlm takes int, not 'two'"),
        ("mlm:epochs=0", "epochs=0 of mlm must be 1 or more"),
        ("mlm:batch_size=0", "batch_size=0 of mlm"),
        ("mlm:mask=1", "mask=1 of mlm is the share of tokens to hide"),
        ("mlm:mask=0", "mask=0 of mlm"),
        ("mlm:learning_rate=0", "must be above 0"),
        ("mlm:rows=source", "unknown rows of mlm 'source'"),
    ],
)
def test_settings_without_a_meaning_are_refused(asked: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_pretrain(asked)
    with pytest.raises(UserError, match=said):
        named("full", {"pretrain": asked})


def test_settings_are_read() -> None:
    assert check_pretrain("mlm") == Mlm()
    assert check_pretrain("mlm:epochs=2,mask=0.2,rows=both") == Mlm(epochs=2, mask=0.2, rows="both")
    assert all(not getattr(s, "pretrains", False) for s in STRATEGIES.values())


def test_what_cannot_be_pretrained_is_refused(
    shared_bert: Any, folder_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"pretraining \(mlm\) adapts to rows .* give them with --target-data"):
        fit("full", shared_bert, splits=Splits(SPLITS.train), pretrain="mlm")
    with pytest.raises(UserError, match="the tokeniser of 'gpt2' has none"):
        fit("lora", tm.backbone_of(folder_of("gpt2")), pretrain="mlm")
    one = replace(SPLITS, target=tm.rows(8).take([0, 0, 0]))
    empty = replace(SPLITS, target=replace(tm.rows(3), inputs=("", "★", "good")))
    for splits in (one, empty):
        with pytest.raises(UserError, match="needs 2 different texts at least with a word .* has 1"):
            fit("full", shared_bert, splits=splits, pretrain="mlm")
    images = tm.pictures(8)
    cnn = tm.problem_of("classify", images, "str", tm.TinyCnn(), RUN)
    with pytest.raises(UserError, match="mlm guesses hidden words, and 'tiny-cnn' reads image"):
        named("full", {"pretrain": "mlm"})[1].fit(cnn, Splits(images, target=images), RUN)
    monkeypatch.setattr(ranks, "world", lambda: 2)
    with pytest.raises(UserError, match="start it as one process, without --processes"):
        fit("full", shared_bert, pretrain="mlm")
