from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_models
from acclimate.backbones import load
from acclimate.backbones.base import Origin
from acclimate.backbones.text import POOLINGS, TextBackbone, TextSettings
from acclimate.errors import UserError
from acclimate.features import extract
from acclimate.run import Run

KINDS = ("bert", "roberta", "albert", "distilbert", "gpt2", "llama")
TEXTS = ["good day", "bad river stone, cold and what of it", "我们好", "table"]
FolderOf = Callable[[str], Path]


@pytest.fixture
def copy_of(folder_of: FolderOf, tmp_path: Path) -> FolderOf:
    """A folder of the test's own, to be damaged."""

    def get(kind: str) -> Path:
        return Path(shutil.copytree(folder_of(kind), tmp_path / kind))

    return get


def backbone_of(folder: Path, **settings: object) -> TextBackbone:
    found = load(str(folder), **settings)  # type: ignore[arg-type]
    assert isinstance(found, TextBackbone)
    return found


# -- loading and pooling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_equals_the_model_asked_by_hand_one_text_at_a_time(
    kind: str, pooling: str, folder_of: FolderOf
) -> None:
    backbone = backbone_of(folder_of(kind), pooling=pooling)
    got = extract(backbone, TEXTS, Run())
    for i, text in enumerate(TEXTS):
        inputs = backbone.tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            hidden = backbone.model(**inputs).last_hidden_state[0]
        by_hand = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[pooling]
        np.testing.assert_allclose(got[i], by_hand.numpy(), atol=2e-6)


def test_pooler_is_the_trained_one(folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("bert"), pooling="pooler")
    with torch.inference_mode():
        expected = backbone.model(**backbone.tokenizer("good day", return_tensors="pt")).pooler_output[0]
    np.testing.assert_allclose(extract(backbone, ["good day"], Run())[0], expected.numpy(), atol=2e-6)


@pytest.mark.parametrize(("kind", "pooling"), [("bert", "mean"), ("gpt2", "last"), ("llama", "last")])
def test_default_pooling(kind: str, pooling: str, folder_of: FolderOf) -> None:
    assert backbone_of(folder_of(kind)).text.pooling == pooling


@pytest.mark.parametrize("kind", ["distilbert", "llama"])
def test_pooler_is_refused_where_the_architecture_has_none(kind: str, folder_of: FolderOf) -> None:
    with pytest.raises(UserError, match="ships no trained pooler; use --pooling mean or cls"):
        backbone_of(folder_of(kind), pooling="pooler")


def test_pooler_is_refused_where_the_weights_lack_it(copy_of: FolderOf) -> None:
    folder = copy_of("bert")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "pooler" not in k}, folder / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(UserError, match="ships no trained pooler"):
        backbone_of(folder, pooling="pooler")
    assert backbone_of(folder, pooling="mean").width == 32


def test_unknown_pooling_is_named(folder_of: FolderOf) -> None:
    with pytest.raises(UserError, match=r"unknown pooling 'max'.*mean, cls, pooler, last"):
        backbone_of(folder_of("bert"), pooling="max")
    assert POOLINGS == ("mean", "cls", "pooler", "last")


@pytest.mark.parametrize(("kind", "count"), [(k, 0 if k == "albert" else 3) for k in KINDS])
def test_blocks_and_what_lies_around_them(kind: str, count: int, folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of(kind))
    assert len(backbone.blocks) == count
    before, after = backbone.stem_and_top()
    inside = [p for block in backbone.blocks for p in block.parameters()]
    assert len(before) + len(inside) + len(after) == len(list(backbone.parameters()))
    assert bool(after) == (kind in ("gpt2", "llama"))  # the last norm


@pytest.mark.parametrize("kind", KINDS)
def test_saved_folder_gives_bit_equal_features(kind: str, folder_of: FolderOf, tmp_path: Path) -> None:
    first = backbone_of(folder_of(kind), max_length=20, truncation="chunk", prefix="query: ")
    (tmp_path / "saved").mkdir()
    first.save(tmp_path / "saved")
    second = backbone_of(tmp_path / "saved")
    assert second.text == first.text
    assert second.origin == first.origin
    assert second.fingerprint() == first.fingerprint()
    texts = [*TEXTS, " ".join(TEXTS * 5)]
    assert np.array_equal(extract(first, texts, Run()), extract(second, texts, Run()))


def test_loading_leaves_the_random_state_alone(folder_of: FolderOf) -> None:
    before = torch.random.get_rng_state()
    backbone_of(folder_of("albert"))
    assert torch.equal(before, torch.random.get_rng_state())


def test_loaded_weights_are_frozen_and_in_eval_mode(folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("bert"))
    assert not any(p.requires_grad for p in backbone.parameters())
    backbone.train()
    assert not any(m.training for m in backbone.model.modules())


# -- batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_features_do_not_depend_on_batch_mates_or_padding_side(kind: str, side: str, folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of(kind))
    backbone.tokenizer.padding_side = side
    together = backbone(backbone.collate(backbone.encode(TEXTS))).detach()
    alone = torch.cat([backbone(backbone.collate(backbone.encode([t]))).detach() for t in TEXTS])
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)


def test_a_text_without_tokens_is_finite(folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("gpt2"), pooling="mean")
    assert backbone.tokenizer("")["input_ids"] == []
    assert np.isfinite(extract(backbone, ["", "good"], Run())).all()


def test_no_input_gives_no_row(folder_of: FolderOf) -> None:
    assert extract(backbone_of(folder_of("bert")), [], Run()).shape == (0, 32)


def test_prefix_is_read_before_every_text(folder_of: FolderOf) -> None:
    plain, prefixed = backbone_of(folder_of("bert")), backbone_of(folder_of("bert"), prefix="good ")
    assert np.array_equal(extract(prefixed, ["day"], Run()), extract(plain, ["good day"], Run()))
    pair = prefixed.encode([("day", "stone")])[0].parts[0]
    assert pair == plain.encode([("good day", "good stone")])[0].parts[0]


def test_pairs_carry_their_segments(folder_of: FolderOf) -> None:
    part = backbone_of(folder_of("bert")).encode([("good", "bad stone")])[0].parts[0]
    words = [tiny_models.TOKENS[i] for i in part["input_ids"]]
    assert words == ["[CLS]", "good", "[SEP]", "bad", "stone", "[SEP]"]
    assert part["token_type_ids"] == [0, 0, 0, 1, 1, 1]


# -- long texts --------------------------------------------------------------------------------------------------------

LONG = " ".join(tiny_models.NEUTRAL * 3)  # 36 words, a token each
CUT = 12  # tokens, two of them special


def tokens(ids: list[int]) -> list[str]:
    return [tiny_models.TOKENS[i] for i in ids]


def test_head_keeps_the_beginning_and_counts_the_loss(folder_of: FolderOf) -> None:
    row = backbone_of(folder_of("bert"), max_length=CUT, truncation="head").encode([LONG])[0]
    assert tokens(row.parts[0]["input_ids"]) == ["[CLS]", *tiny_models.NEUTRAL[:10], "[SEP]"]
    assert (row.cost, row.lost, row.total) == (12, 26, 38)


def test_head_is_the_beginning_also_where_the_tokeniser_would_cut_left(tmp_path: Path) -> None:
    folder = tiny_models.write("bert", tmp_path / "left", frame=tiny_models.tokenizer(truncation_side="left"))
    row = backbone_of(folder, max_length=CUT, truncation="head").encode([LONG])[0]
    assert tokens(row.parts[0]["input_ids"])[1:3] == tiny_models.NEUTRAL[:2]


def test_head_tail_keeps_both_ends(folder_of: FolderOf) -> None:
    row = backbone_of(folder_of("bert"), max_length=CUT, truncation="head-tail").encode([LONG])[0]
    words = LONG.split()
    assert tokens(row.parts[0]["input_ids"]) == ["[CLS]", *words[:5], *words[-5:], "[SEP]"]
    assert (row.lost, row.total) == (26, 38)


def test_fail_names_the_row_and_what_to_do(folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("bert"), max_length=CUT, truncation="fail")
    with pytest.raises(UserError, match=r"input 2 has 38 tokens and only 12 fit.*head-tail or chunk"):
        backbone.encode(["good", LONG])


@pytest.mark.parametrize(
    "text",
    [
        LONG,
        "good " + "zyxwv" * 15,  # one very long word
        "我你他们天地人好坏大小上下中国学习快乐难过" * 2,
        "it's (very) good... " * 9,
    ],
    ids=["words", "long word", "chinese", "punctuation"],
)
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_chunk_holds_every_token_exactly_once(text: str, kind: str, folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of(kind), max_length=CUT, truncation="chunk", pooling="mean")
    whole = backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
    row = backbone.encode([text])[0]
    frame = 1 if kind == "bert" else 0
    bodies = [p["input_ids"][frame : len(p["input_ids"]) - frame] for p in row.parts]
    assert [i for body in bodies for i in body] == whole
    assert len(bodies) > 1
    assert max(len(p["input_ids"]) for p in row.parts) <= CUT
    assert (row.lost, row.total, row.cost) == (0, len(whole) + 2 * frame, len(whole) + 2 * frame * len(bodies))


def byte_level() -> Any:
    """Byte-level BPE as RoBERTa and GPT-2 have it: the space belongs to the word after it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>", "<pad>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([LONG], trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=True)
    return made


def sentence_pieces() -> Any:
    """A unigram model as XLM-R and e5 have it, with two special tokens between the texts of a pair."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "</s>", "<pad>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False)
    made.train_from_iterator([LONG], trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return made


@pytest.mark.parametrize("make", [byte_level, sentence_pieces])
@pytest.mark.parametrize("text", [LONG, "我们 ﬁne café " * 9, " </s> good </s>" * 9, ("table </s> " * 20, LONG)])
def test_chunk_is_exact_with_every_kind_of_tokeniser(make: Callable[[], Any], text: Any) -> None:
    from transformers import PreTrainedTokenizerFast

    frame = PreTrainedTokenizerFast(
        tokenizer_object=make(), pad_token="<pad>", eos_token="</s>", bos_token="<s>", model_max_length=64
    )
    settings = TextSettings(max_length=16, truncation="chunk")
    row = TextBackbone(tiny_models.network("bert"), frame, settings, Origin("made")).encode([text])[0]
    assert max(len(p["input_ids"]) for p in row.parts) <= 16
    parts = [text] if isinstance(text, str) else list(text)
    whole = [frame(p, add_special_tokens=False)["input_ids"] for p in parts]
    special = frame.num_special_tokens_to_add(pair=len(parts) == 2)
    assert row.total == sum(map(len, whole)) + special
    longer = max(whole, key=len)
    shorter = min(len(longer), len(min(whole, key=len)), (16 - special) // 2) if len(parts) == 2 else 0
    assert sum(len(p["input_ids"]) - special - shorter for p in row.parts) == len(longer)
    if len(parts) == 1:
        assert [i for p in row.parts for i in p["input_ids"][1:-1]] == whole[0]


def test_windows_begin_at_words(folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("bert"), max_length=CUT, truncation="chunk")
    row = backbone.encode(["good abcd " * 6])[0]
    assert all(tokens(p["input_ids"])[1] == "good" or tokens(p["input_ids"])[1] == "a" for p in row.parts)


def test_windows_of_one_text_are_averaged_by_their_tokens(folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("bert"), max_length=CUT, truncation="chunk")
    rows = backbone.encode([LONG, "good day"])
    got = backbone(backbone.collate(rows)).detach()
    total, weight = torch.zeros(32), 0
    for part in rows[0].parts:
        ids = torch.tensor([part["input_ids"]])
        total += backbone.model(input_ids=ids).last_hidden_state[0].sum(0).detach()
        weight += ids.shape[1]
    torch.testing.assert_close(got[0], total / weight, atol=2e-6, rtol=0)
    np.testing.assert_allclose(got[1], extract(backbone, ["good day"], Run())[0], atol=2e-6)


@pytest.mark.parametrize("length", range(8, 15))
@pytest.mark.parametrize(("a", "b"), [(30, 3), (3, 30), (30, 25), (25, 30)])
def test_chunked_pairs_lose_nothing_of_the_longer_text(length: int, a: int, b: int, folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("bert"), max_length=length, truncation="chunk")
    first, second = " ".join((tiny_models.GOOD * 9)[:a]), " ".join((tiny_models.BAD * 9)[:b])
    row = backbone.encode([(first, second)])[0]
    spare = min(a, b, (length - 3) // 2)
    found: dict[str, list[list[str]]] = {"first": [], "second": []}
    for part in row.parts:
        words = tokens(part["input_ids"])
        middle = words.index("[SEP]")
        assert words[0] == "[CLS]" and words[-1] == "[SEP]" and len(words) <= length
        assert part["token_type_ids"] == [0] * (middle + 1) + [1] * (len(words) - middle - 1)
        found["first"].append(words[1:middle])
        found["second"].append(words[middle + 1 : -1])
    longer, shorter = ("first", "second") if a >= b else ("second", "first")
    texts = {"first": first.split(), "second": second.split()}
    assert [w for piece in found[longer] for w in piece] == texts[longer]
    assert all(piece == texts[shorter][:spare] for piece in found[shorter])
    assert (row.lost, row.total) == (min(a, b) - spare, a + b + 3)


def test_head_tail_of_a_pair(folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("bert"), max_length=11, truncation="head-tail")
    row = backbone.encode([(LONG, "good day")])[0]
    kept = "[CLS] table chair cloud bread [SEP] good d ##a ##y [SEP]"
    assert tokens(row.parts[0]["input_ids"]) == kept.split()
    assert row.lost == 36 - 4


# -- limits and damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 7, 65])
def test_max_length_has_limits(length: int, folder_of: FolderOf) -> None:
    with pytest.raises(UserError, match=rf"max_length {length} is outside what this model takes: 8 to 64 tokens"):
        backbone_of(folder_of("bert"), max_length=length)


@pytest.mark.parametrize("length", [16.5, "16", True, float("nan")])
def test_max_length_is_a_whole_number(length: Any, folder_of: FolderOf) -> None:
    with pytest.raises(UserError, match=rf"max_length {length!r} must be a whole number"):
        backbone_of(folder_of("bert"), max_length=length)


def test_roberta_counts_its_positions_from_two(tmp_path: Path) -> None:
    folder = tiny_models.write("roberta", tmp_path / "long", frame=tiny_models.tokenizer(512, pairs=False))
    backbone = backbone_of(folder)
    assert backbone.text.max_length == 64  # of 66 positions
    assert np.isfinite(extract(backbone, [LONG * 3], Run())).all()


def test_missing_weights_are_refused(copy_of: FolderOf) -> None:
    folder = copy_of("bert")
    weights = load_file(folder / "model.safetensors")
    lost = "encoder.layer.1.output.dense.weight"
    save_file({k: v for k, v in weights.items() if k != lost}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"lack 1 parameters, first '{lost}': they would be random"):
        backbone_of(folder)


def test_weights_of_another_shape_are_refused(copy_of: FolderOf) -> None:
    folder = copy_of("bert")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"] = torch.zeros(31)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="cannot load the model"):
        backbone_of(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_folder_is_refused_by_name(name: str, damage: str, copy_of: FolderOf) -> None:
    folder = copy_of("bert")
    file = folder / name
    if damage == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        file.unlink()
    with pytest.raises(UserError, match="cannot load the model 'bert'"):
        backbone_of(folder)


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'minilm'"):
        load("minilmm")


def test_settings_beside_the_weights_are_used(copy_of: FolderOf) -> None:
    folder = copy_of("bert")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24}))
    (folder / "acclimate_source.json").write_text(json.dumps({"prefix": "query: ", "pooling": "cls"}))
    found = backbone_of(folder).text
    assert (found.max_length, found.prefix, found.pooling, found.truncation) == (24, "query: ", "cls", "head")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 512}))
    assert backbone_of(folder).text.max_length == 64  # what the network can take
    asked = backbone_of(folder, prefix="", pooling="mean", max_length=32, truncation="chunk").text
    assert (asked.max_length, asked.prefix, asked.pooling, asked.truncation) == (32, "", "mean", "chunk")


def test_a_home_folder_is_found(folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of("bert")
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    assert backbone_of(Path("~") / "bert").origin.name == "bert"


def test_licence_comes_from_the_model_card(copy_of: FolderOf) -> None:
    folder = copy_of("bert")
    assert backbone_of(folder).origin.licence == "not stated"
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Tiny\n")
    assert backbone_of(folder).origin.licence == "apache-2.0"


# -- identity ----------------------------------------------------------------------------------------------------------


def test_fingerprint_changes_with_weights_settings_tokens_and_architecture(copy_of: FolderOf) -> None:
    folder = copy_of("bert")
    before = backbone_of(folder).fingerprint()
    assert backbone_of(folder).fingerprint() == before
    prints = {
        before,
        backbone_of(folder, max_length=32).fingerprint(),
        backbone_of(folder, pooling="cls").fingerprint(),
    }

    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_attention_heads": 2}))
    prints.add(backbone_of(folder).fingerprint())
    (folder / "config.json").write_text(json.dumps(config))

    tokens_file = folder / "tokenizer.json"
    text = tokens_file.read_text()
    values = json.loads(text)
    vocab = values["model"]["vocab"]
    vocab["good"], vocab["bad"] = vocab["bad"], vocab["good"]
    tokens_file.write_text(json.dumps(values))
    prints.add(backbone_of(folder).fingerprint())
    tokens_file.write_text(text)

    changed = backbone_of(folder)
    with torch.no_grad():
        next(changed.parameters()).view(-1)[5] += 1e-6
    prints.add(changed.fingerprint())
    assert len(prints) == 6


def test_fingerprint_is_the_same_after_use(folder_of: FolderOf) -> None:
    backbone = backbone_of(folder_of("bert"), max_length=CUT)
    before = backbone.fingerprint()
    extract(backbone, [LONG, "good"], Run())
    assert backbone.fingerprint() == before


def test_clone_shares_no_weight(bert: TextBackbone) -> None:
    before = tiny_models.state(bert)
    other = bert.clone()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    assert tiny_models.same_state(bert, before)
    assert other.text == bert.text and other.tokenizer is bert.tokenizer
