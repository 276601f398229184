"""Matching: places by hand, losses as slow loops, texts that are locked or move, names that were never trained on."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import acclimate
import tiny_models as tm
import tiny_scenes
import tiny_sounds as ts
from acclimate.backbones import load
from acclimate.errors import UserError
from acclimate.strategies.adapters import targets
from acclimate.strategies.moves import depth, layers, release
from acclimate.structured.match import Match, ranked
from acclimate.structured.match_network import MatchNetwork, Towers
from acclimate.train.prefix import frozen_depth

sys.path.append(str(Path(__file__).parent))
from task_examples import fit, match_example, pictures


def test_places_count_what_comes_before_or_is_equal() -> None:
    similar = torch.tensor([[0.5, 0.5, 0.1], [0.2, 0.9, 0.9], [0.3, 0.1, 0.2]])
    found = ranked(similar, ["a", "b", "c"], ["a", "b", "a"])
    assert [(r.place, r.text) for r in found] == [(2, "a"), (2, "b"), (1, "a")]
    assert [r.back for r in found] == [1, 1, 1]
    assert ranked(similar, ["a", "b", "c"], ["c", "c", "b"])[2].back == 3  # b: inputs 2 and 1 come before input 3


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT."""
    return tm.write("bert", tmp_path_factory.mktemp("text") / "bert", layers=1)


def network(text: Path, loss: str, *, locked: bool = True) -> MatchNetwork:
    torch.manual_seed(0)
    return MatchNetwork(Towers(load("small-cnn:16"), load(str(text)), locked=locked), 8, loss).eval()


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_the_loss_is_its_formula(loss: str, text: Path, tmp_path: Path) -> None:
    one = network(text, loss)
    pictures(tmp_path, 4, 0, "x")
    words = ["good stone", "bad paper", "good stone", "river"]
    batch = one.collate(one.encode([str(tmp_path / f"x{i}.png") for i in range(4)], words))
    with torch.no_grad():
        found = one(batch).tolist()
        z = (one.head.scale.exp() * one.inputs(batch) @ one.texts(batch).T + one.head.bias).tolist()
    for i in range(4):
        if loss == "sigmoid":
            expected = -sum(
                math.log(1 / (1 + math.exp(-(z[i][j] if words[i] == words[j] else -z[i][j])))) for j in range(4)
            )
        else:
            others = [j for j in range(4) if words[j] != words[i]]
            row = sum(math.exp(z[i][j]) for j in [i, *others])
            column = sum(math.exp(z[j][i]) for j in [i, *others])
            expected = -0.5 * (math.log(math.exp(z[i][i]) / row) + math.log(math.exp(z[i][i]) / column))
        assert found[i] == pytest.approx(expected, rel=1e-4)


def test_locked_texts_have_no_parameters_and_moving_ones_move(text: Path, tmp_path: Path) -> None:
    assert not any("of_text" in name for name, _ in network(text, "infonce").named_parameters())
    moving = network(text, "infonce", locked=False)
    assert any("of_text" in name for name, _ in moving.named_parameters())
    one = match_example(tmp_path)
    tuned = fit("match", one, tmp_path / "run", strategy="full", settings={"moves": "all", "text": "tuned"})
    before = load(one.settings["text_model"]).state_dict()
    after = tuned.learned.network.backbone.text.state_dict()  # type: ignore[union-attr, operator]
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_the_last_block_of_both_moves_where_texts_are_tuned(tmp_path: Path) -> None:
    one, text = match_example(tmp_path), tm.write("bert", tmp_path / "two", layers=2)
    how = {"moves": "top:1", "text": "tuned", "text_model": str(text)}
    tuned = fit("match", one, tmp_path / "run", strategy="partial", settings=how)
    trained = tuned.learned.trained  # type: ignore[union-attr]
    network = tuned.learned.network  # type: ignore[union-attr]
    moved = [p for name, p in network.named_parameters() if name in trained]
    for tower in network.backbone.towers:
        blocks = [any(p is q for p in moved for q in block.parameters()) for block in tower.blocks]
        assert blocks == [False] * (len(blocks) - 1) + [True]
    assert not any("embeddings" in name for name in trained)


def test_layers_of_two_towers_are_level_at_the_top(tmp_path: Path) -> None:
    towers = network(tm.write("bert", tmp_path / "two", layers=2), "infonce", locked=False).backbone
    inner, texts, known = len(towers.inner.blocks), len(towers.text.blocks), layers(towers)
    assert inner > texts and depth(towers) == inner
    assert {known[id(p)] for p in towers.text.blocks[0].parameters()} == {inner - texts + 1}
    assert {known[id(p)] for p in towers.inner.blocks[0].parameters()} == {1}
    release(towers, "head")
    assert frozen_depth(towers) == inner + texts


@pytest.mark.parametrize("text", ["locked", "tuned"])
def test_a_projection_learns_the_same_from_features_that_were_kept(text: str, tmp_path: Path) -> None:
    one = match_example(tmp_path)
    heads = []
    for cache_frozen in ("auto", "off"):
        how = {"moves": "head", "num_train_epochs": 2, "cache_frozen": cache_frozen, "text": text, "batch_size": 1000}
        model = fit("match", one, tmp_path / cache_frozen, strategy="linear_probe", settings=how)
        heads.append(model.learned.network.head.state_dict())  # type: ignore[union-attr]
        kept = any("computed once" in note for note in model.learned.notes)  # type: ignore[union-attr]
        assert kept == (cache_frozen == "auto")
    for name, value in heads[0].items():
        torch.testing.assert_close(value, heads[1][name], rtol=1e-3, atol=1e-5)


def test_a_shallow_tower_moves_whole_and_adapters_are_refused(text: Path) -> None:
    towers = network(text, "infonce", locked=True).backbone
    with pytest.raises(UserError, match="takes adapters"):
        targets(towers, "blocks")
    two = SimpleNamespace(towers=towers.inner.towers * 2, requires_grad_=towers.requires_grad_)
    release(two, "top:99")  # type: ignore[arg-type]
    assert all(p.requires_grad for block in towers.inner.blocks for p in block.parameters())


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2", "resemblyzer"])
def test_sounds_that_are_changed_are_read_together_as_alone(kind: str, text: Path, tmp_path: Path) -> None:
    one = MatchNetwork(Towers(load(str(ts.write(kind, tmp_path / kind))), load(str(text)), locked=True), 8, "infonce")
    rows = one.eval().encode(ts.sounds(5), ["good", "bad", "good", "stone", "river"])
    changed = one.changed(rows, torch.Generator().manual_seed(0), 1.0)
    with torch.no_grad():
        together, plain = one.inputs(one.collate(changed)), one.inputs(one.collate(rows))
        alone = torch.cat([one.inputs(one.collate([row])) for row in changed])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert (together - plain).abs().max() > 1e-3


def test_sounds_are_read_as_long_as_asked_and_other_options_are_refused(tmp_path: Path) -> None:
    one, text = ts.spoken(tmp_path, 12), tm.write("bert", tmp_path / "bert", layers=1)
    how: dict[str, Any] = {"task": "match", "model": str(ts.dictation(tmp_path / "whisper")), "quiet": True}
    how |= {"strategy": "linear_probe", "settings": {"text_model": str(text), "num_train_epochs": 1, "width": 8}}
    model = acclimate.fit(str(one), output_dir=tmp_path / "run", max_seconds=0.5, **how)
    assert model.learned.network.backbone.inner.sound.seconds == 0.5  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"--precision has no meaning for task 'match'.*max_length, max_seconds"):
        acclimate.fit(str(one), output_dir=tmp_path / "two", precision="bf16", **how)


def test_pictures_are_read_at_the_size_that_is_asked_for(tmp_path: Path) -> None:
    one = replace(match_example(tmp_path), model=str(tiny_scenes.timm_folder(tmp_path / "net")))
    model = fit("match", one, tmp_path / "run", image_size=32)
    towers = acclimate.load(tmp_path / "run").learned.network.backbone  # type: ignore[union-attr]
    assert towers.inner.image.size == 32 and towers.read_at.startswith("32 x 32 pixels")
    assert acclimate.load(tmp_path / "run").predict(one.new) == model.predict(one.new)
    assert model.report_data.settings["pictures_read_at"] == towers.read_at  # type: ignore[union-attr]
    (tmp_path / "towers").mkdir()
    towers.save(tmp_path / "towers")
    further = fit("match", replace(one, model=str(tmp_path / "towers")), tmp_path / "further", image_size=96)
    assert further.learned.network.backbone.inner.image.size == 96


def test_colours_are_learned_and_class_names_can_be_given(tmp_path: Path) -> None:
    one = match_example(tmp_path)
    how = {"moves": "all", "num_train_epochs": 25, "learning_rate": 2e-3}
    model = fit("match", one, tmp_path / "run", strategy="full", settings=how)
    assert model.scores is not None and (model.scores.estimates["recall_at_5"].value or 0) > 0.9
    answers = model.choose(one.new, ["a red stone", "a green stone", "a blue stone", "a grey stone"])
    assert len(answers) == 3 and all(a.startswith("a ") for a in answers)
    assert "chance" in " ".join(model.scores.notes)


def test_rows_without_text_or_picture_are_named(tmp_path: Path) -> None:
    path = pictures(tmp_path, 12, 0, "x")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    path.write_text(path.read_text() + "broken.png,a stone\nmissing.png,a stone\nx0.png,\n")
    account = acclimate.inspect(str(path), task="match").audit
    assert (account.read, account.kept) == (15, 12)
    assert account.dropped == {"not_a_picture": (14,), "missing_file": (15,), "no_text": (16,)}


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="loss"):
        Match(loss="clip")
    with pytest.raises(UserError, match="no column of texts"):
        acclimate.fit([{"a": "x.png"}], task="match", quiet=True, output_dir=tmp_path / "run")


def test_inputs_without_texts_are_answered_by_a_model_of_named_columns(tmp_path: Path) -> None:
    one = match_example(tmp_path)
    model = fit("match", one, tmp_path / "run", strategy="linear_probe", settings={"moves": "head"},
                text_column="caption", file_column="file")  # fmt: skip
    (tmp_path / "new.csv").write_text("file\ntest0.png\ngone.png\n")
    said = next(model.predict_parts(str(tmp_path / "new.csv")).parts)
    assert said["text"][0] and said["text"][1] is None and said["note"] == ["", "the file is not there"]
