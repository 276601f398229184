from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models
from acclimate.backbones.text import TextBackbone
from acclimate.errors import UserError
from acclimate.features import Store
from acclimate.model import Predictor, holds, load
from acclimate.run import Run
from acclimate.strategies import Splits, named

NEW = ["good great stone", "bad awful river", "table", "我们好", "kind lovely day 99"]
Fit = Callable[..., Predictor]


@pytest.fixture
def fit(shared_bert: TextBackbone) -> Fit:
    """Fit a strategy by name on rows of a task."""

    def make(strategy: str, task: str = "classify", **settings: Any) -> Predictor:
        data, kind = tiny_models.task_rows(task)
        problem = tiny_models.problem_of(task, data, kind, shared_bert, Run())
        if strategy in ("linear_probe", "hybrid", "tfidf"):
            settings.setdefault("strength", 1.0)  # choosing it takes longest, and is not what is tested here
        return named(strategy, settings)[1].fit(problem, Splits(data), Run())

    return make


@pytest.mark.parametrize("strategy", ["linear_probe", "hybrid", "tfidf", "knn", "centroid", "majority"])
@pytest.mark.parametrize("task", ["classify", "ordinal", "multilabel", "regress"])
def test_no_input_gives_no_answer(strategy: str, task: str, fit: Fit) -> None:
    if (strategy, task) == ("centroid", "regress"):
        return
    fitted = fit(strategy, task)
    outputs = fitted.outputs([])
    assert outputs.shape == (0,) if task == "regress" else (0, 3)
    assert fitted.task.answers(fitted.task.decide(outputs, fitted.decoder), fitted.decoder) == []


def test_cached_features_give_the_same_logits(fit: Fit, shared_bert: TextBackbone, tmp_path: Path) -> None:
    fitted = fit("linear_probe")
    store = Store(shared_bert, Run(cache=tmp_path))
    np.testing.assert_allclose(fitted.logits(NEW, Run(), store), fitted.logits(NEW), atol=1e-6)
    other = Store(shared_bert.clone(), Run())
    assert np.array_equal(fitted.logits(NEW, Run(), other), fitted.logits(NEW))  # a store of other weights is not asked


def test_the_head_ends_on_the_cpu_and_logits_are_float64(fit: Fit) -> None:
    logits = fit("linear_probe").logits(NEW)
    assert (logits.dtype, logits.shape) == (np.dtype(np.float64), (5, 3))


# -- the bundle --------------------------------------------------------------------------------------------------------


def test_a_bundle_says_what_it_is(fit: Fit, tmp_path: Path) -> None:
    fit("hybrid", strength=1.0).save(tmp_path / "m")
    about = json.loads((tmp_path / "m" / "acclimate.json").read_text())
    assert (about["format"], about["task"], about["strategy"], about["modality"]) == (1, "classify", "hybrid", "text")
    assert about["decoder"]["classes"] == ["bad", "good", "neutral"]
    assert about["settings"]["strength"] == 1.0
    assert about["base_model"] == {"name": "tiny-bert", "licence": "not stated", "source": ""}
    assert about["preprocessing"]["pooling"] == "mean" and about["preprocessing"]["max_length"] == 64
    assert about["trained"] == ["head.weight", "head.bias", "head.word_weight"]
    assert about["holds_training_data"] == "words of the training texts"


@pytest.mark.parametrize(
    ("strategy", "held"),
    [
        ("knn", "the features of every training row"),
        ("tfidf", "words of the training texts"),
        ("linear_probe", ""),
        ("centroid", ""),
    ],
)
def test_what_of_the_training_data_a_bundle_holds(strategy: str, held: str, fit: Fit) -> None:
    assert holds(fit(strategy)) == held


def test_an_existing_folder_is_never_written_into(fit: Fit, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="exists already; give a new folder"):
        fit("majority").save(tmp_path / "m")
    assert [f.name for f in (tmp_path / "m").iterdir()] == ["mine.txt"]


def test_a_bundle_appears_whole_or_not_at_all(fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = fit("linear_probe")

    def broken(self: TextBackbone, folder: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(TextBackbone, "save", broken)
    with pytest.raises(OSError, match="no space"):
        fitted.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_is_loaded_and_saved_again_is_the_same(fit: Fit, tmp_path: Path) -> None:
    fitted = fit("lora", num_train_epochs=1, lora_rank=2)
    fitted.save(tmp_path / "a")
    load(tmp_path / "a").save(tmp_path / "b")

    def files(folder: Path) -> dict[str, bytes]:
        return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}

    first, second = files(tmp_path / "a"), files(tmp_path / "b")
    assert first.keys() == second.keys()
    assert {"adapter/adapter_model.safetensors", "adapter/adapter_config.json"} <= first.keys()
    assert {n for n in first if first[n] != second[n]} == set()


@pytest.mark.parametrize("order", [("neutral", "bad", "good"), ("good", "neutral", "bad")])
def test_the_order_of_classes_is_that_of_the_columns_after_loading(
    order: tuple[str, ...], fit: Fit, tmp_path: Path
) -> None:
    from dataclasses import replace

    fitted = fit("linear_probe")
    columns = [fitted.decoder.classes.index(c) for c in order]
    with torch.no_grad():
        fitted.head.weight.copy_(fitted.head.weight[columns].clone())  # type: ignore[union-attr, operator, index]
        fitted.head.bias.copy_(fitted.head.bias[columns].clone())  # type: ignore[union-attr, operator, index]
    turned = fitted.with_decoder(replace(fitted.decoder, classes=order))
    turned.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.decoder == turned.decoder
    outputs = again.outputs(NEW)
    answers = again.task.answers(again.task.decide(outputs, again.decoder), again.decoder)
    assert answers == [order[i] for i in outputs.argmax(1)]


# -- damage ------------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a model saved by acclimate: it holds no acclimate\.json"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("acclimate.json", b"{", r"acclimate\.json is damaged.*copy the bundle again or fit anew"),
        ("acclimate.json", b'{"format": 99}', r"bundle format 99; this version reads 1: update acclimate"),
        ("head.safetensors", b"", r"head\.safetensors does not fit acclimate\.json"),
        ("head.safetensors", b"\x10\0\0\0\0\0\0\0not json at all.", r"head\.safetensors does not fit"),
        ("backbone/model.safetensors", b"", "cannot load the model"),
        ("backbone/config.json", b"{", "cannot load the model"),
    ],
)
def test_a_damaged_bundle_is_refused_clearly(file: str, content: bytes, message: str, fit: Fit, tmp_path: Path) -> None:
    fit("linear_probe").save(tmp_path / "m")
    (tmp_path / "m" / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load(tmp_path / "m")


def test_a_head_of_another_width_is_refused(fit: Fit, tmp_path: Path) -> None:
    fit("linear_probe").save(tmp_path / "m")
    file = tmp_path / "m" / "acclimate.json"
    about = json.loads(file.read_text())
    about["head"]["shape"]["width"] = 31
    file.write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"head\.safetensors does not fit acclimate\.json"):
        load(tmp_path / "m")
