"""Tagging: what a network answers, how it is measured, and rows that are odd."""

from __future__ import annotations

import itertools
import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import acclimate
import tiny_models as tm
from acclimate.backbones import load
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.structured.answering import answers_to
from acclimate.structured.measuring import difference, scores_of, value
from acclimate.structured.tag import LOWERED, Tag, best_lowering
from acclimate.structured.tag_network import TagNetwork, allowed_steps, best_path
from acclimate.train.prefix import build

sys.path.append(str(Path(__file__).parent))
from task_examples import fit, tag_example, tags


def test_entity_f1_is_that_of_conlleval() -> None:
    """Counted here by hand from the definition: the same words and the same type."""
    truth = [("B-a", "I-a", "O", "B-b"), ("O", "B-a"), ("B-b", "B-b")]
    said = [("B-a", "I-a", "O", "B-a"), ("B-b", "B-a"), ("B-b", "I-b")]
    found = Tag().measures(truth, said, {"tags": ["O", "B-a", "B-b"]})
    hits, there, answered = 2, 5, 5
    assert value(found["entity_f1"], 3) == pytest.approx(2 * hits / (there + answered))
    assert value(found["entity_precision"], 3) == pytest.approx(hits / answered)
    assert value(found["word_accuracy"], 3) == pytest.approx(5 / 8)
    by_class = scores_of(Tag(), truth, said, {"tags": ["O", "B-a", "B-b"]}).per_class
    assert by_class["b"]["recall"].value == 0.0 and by_class["b"]["support"].value == 3


def test_entity_f1_agrees_with_nervaluate() -> None:
    nervaluate = pytest.importorskip("nervaluate")
    rng = random.Random(0)
    pool = ["O", "O", "B-x", "I-x", "B-y", "I-y"]
    allowed = allowed_steps(["O", "B-x", "I-x", "B-y", "I-y"])
    assert not allowed[0, 2]
    sentences = [[_valid([rng.choice(pool) for _ in range(8)]) for _ in range(40)] for _ in range(2)]
    mine = Tag().measures([tuple(s) for s in sentences[0]], [tuple(s) for s in sentences[1]], {"tags": pool})
    theirs = nervaluate.Evaluator(sentences[0], sentences[1], tags=["x", "y"], loader="list").evaluate()
    strict = theirs["overall"]["strict"]
    assert value(mine["entity_f1"], 40) == pytest.approx(strict.f1, abs=1e-6)


def _valid(row: list[str]) -> list[str]:
    """I- continues its own type alone."""
    out: list[str] = []
    for tag in row:
        before = out[-1] if out else "O"
        out.append(tag if not tag.startswith("I-") or before[2:] == tag[2:] else f"B-{tag[2:]}")
    return out


def test_the_best_path_is_the_best_of_allallowed_steps_ones() -> None:
    names = ["O", "B-x", "I-x"]
    allowed, rng = allowed_steps(names), np.random.default_rng(0)
    for _ in range(20):
        scores = rng.normal(size=(4, 3))
        paths = [p for p in itertools.product(range(3), repeat=4) if _may(p, allowed)]
        best = max(paths, key=lambda p: sum(scores[i, c] for i, c in enumerate(p)))
        assert tuple(best_path(scores, allowed)) == best


def _may(path: tuple[int, ...], allowed: np.ndarray) -> bool:
    return all(allowed[a, b] for a, b in zip((len(allowed) - 1, *path), path, strict=False))


def test_a_long_row_is_read_in_windows_and_every_word_gets_its_tag(tmp_path: Path) -> None:
    backbone = load(str(tm.write("bert", tmp_path / "bert", layers=1)), max_length=8)
    network = TagNetwork(backbone, ["O", "B-x"], 3.0).eval()  # type: ignore[arg-type]
    words = tuple(tm.NEUTRAL[i % 12] for i in range(31))
    row = network.encode([words], [("B-x",) * 31])[0]
    assert len(row.parts) == 6 and sum(len(p["first"]) for p in row.parts) == 31
    assert [w for p in row.parts for w in p["word"]] == list(range(31))
    batch = network.collate([row])
    ids = [i for p in row.parts for i in p["input_ids"]]
    inner = backbone.tokenizer.convert_tokens_to_ids(list(words))  # type: ignore[union-attr]
    assert [ids[k] for k in batch["place"].tolist()] == inner
    assert len(answers_to(network, [words, ("stone",)], Run())[0]) == 31


def test_texts_with_spans_come_back_as_places_in_the_text(tmp_path: Path) -> None:
    one = tag_example(tmp_path)
    lines = []
    for line in one.train.read_text().splitlines():
        row = json.loads(line)
        spans, at = [], 0
        for word, tag in zip(row["tokens"], row["tags"], strict=True):
            if tag != "O":
                spans.append({"start": at, "end": at + len(word), "label": tag[2:]})
            at += len(word) + 1
        lines.append(json.dumps({"text": " ".join(row["tokens"]), "spans": spans}))
    path = tmp_path / "spans.jsonl"
    path.write_text("\n".join(lines))
    how = {"num_train_epochs": 12, "batch_size": 8, "learning_rate": 2e-3}
    words = fit("tag", one, tmp_path / "words", strategy="full", settings={"moves": "all", **how})
    usual = {"task": "tag", "model": one.model, "strategy": "full", "quiet": True, "settings": how}
    texts = acclimate.fit(str(path), output_dir=tmp_path / "texts", **usual)  # type: ignore[arg-type]
    assert words.scores is not None and words.scores.value is not None and words.scores.value > 0.9
    found = texts.predict_parts([{"text": "happy  stone river"}])
    assert found.table.columns["text"] == ["happy  stone river"]
    told = json.loads(next(found.parts)["entities"][0])
    assert [(e["text"], e["start"], e["label"]) for e in told] == [("happy", 0, "person"), ("river", 13, "place")]


def test_parts_of_speech_are_measured_by_words(tmp_path: Path) -> None:
    pairs = itertools.product(["good", "bad", "warm", "cold"], tm.NEUTRAL[:5])
    rows = [{"tokens": list(pair), "tags": ["ADJ", "NOUN"]} for pair in pairs]
    path = tmp_path / "pos.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in rows))
    model = acclimate.fit(str(path), task="pos", model=str(tm.write("bert", tmp_path / "bert", layers=1)), quiet=True,
                          strategy="linear_probe", output_dir=tmp_path / "run")  # fmt: skip
    assert model.scores is not None and model.scores.metric == "word_accuracy"
    assert set(model.predict([("good", "bad")])[0]) <= {"ADJ", "NOUN"}


def test_rows_out_of_step_are_named_and_counts_reconcile(tmp_path: Path) -> None:
    path = tags(tmp_path)
    bad = ['{"tokens": ["a", "b"], "tags": ["O"]}', '{"tokens": [], "tags": []}', '{"tokens": ["a"]}']
    path.write_text(path.read_text() + "\n".join(bad) + "\n")
    found = acclimate.inspect(str(path), task="tag").audit
    assert found.read == 43 and found.kept == 40
    assert found.dropped == {"out_of_step": (41,), "no_words": (42,), "no_tags": (43,)}
    with pytest.raises(UserError, match="1: not as many tags as words"):
        acclimate.fit(str(path), task="tag", on_bad="fail", quiet=True)


def test_the_state_of_a_word_is_the_mean_of_the_last_blocks_and_its_form_stands_beside_it(tmp_path: Path) -> None:
    """Restated with the hidden states that the model itself gives, one row at a time and without packing."""
    backbone = load(str(tm.write("bert", tmp_path / "bert", layers=4)))
    network = TagNetwork(backbone, ["O", "B-x"], 3.0, averaged=3, form=True).eval()  # type: ignore[arg-type]
    rows = network.encode([("happy", "stone"), ("river", "Happy", "12", "stone")], None)
    found = network.states(network.collate(rows)).detach()
    at = 0
    for row in rows:
        part = row.parts[0]
        out = backbone.model(input_ids=torch.tensor([part["input_ids"]]), output_hidden_states=True)  # type: ignore
        each = [torch.nn.functional.layer_norm(h[0], h.shape[2:]) for h in out.hidden_states[-3:]]
        own = found[at : at + len(part["word"])]
        assert torch.allclose(own[:, : backbone.width], torch.stack(each).mean(0)[part["first"]], atol=1e-5)
        at += len(own)
    capital, digits = found[3, backbone.width :], found[4, backbone.width :]
    assert capital[:7].tolist() == [1, 0, 0, 0, 0, 0, 1] and digits[:7].tolist() == [0, 0, 0, 1, 1, 0, 1]
    assert digits[7:14].tolist() == capital[:7].tolist() and capital[-1] == 0.25


def test_kept_output_of_frozen_blocks_changes_no_state(tmp_path: Path) -> None:
    """Unless the block that is kept lies above one that is read: then nothing is kept."""
    backbone = load(str(tm.write("bert", tmp_path / "bert", layers=4)))
    network = TagNetwork(backbone, ["O", "B-x"], 3.0, averaged=3).eval()  # type: ignore[arg-type]
    assert network.replayed(2) and not network.replayed(3)
    rows = network.encode([("happy", "stone"), ("river", "good", "stone")], [("B-x", "O"), ("O", "O", "O")])
    network.requires_grad_(False)
    for block in backbone.blocks[2:]:
        block.requires_grad_(True)
    prefix, _ = build(backbone, rows, "auto", Run())
    assert prefix is not None and prefix.depth == 2
    batch = network.collate(rows)
    prefix.offer([0, 1], batch, "cpu")
    with prefix.replaying():
        replayed = network(batch)
    assert torch.allclose(replayed, network(batch), atol=1e-5)


def test_folds_that_lack_a_tag_do_not_choose_the_penalty(tmp_path: Path) -> None:
    """One sentence alone holds B-place: where it is held out its tag cannot be foretold. The bias of a tag without a
    word has no minimum, which drowned all other losses and left the weakest head of all."""
    rng, rows = random.Random(0), []
    for i in range(60):
        words = [rng.choice(tm.NEUTRAL[:8]) for _ in range(5)]
        name = rng.choice(["happy", "sad", "good", "bad"])
        rows.append({"tokens": [*words, name], "tags": ["O"] * 5 + ["B-person"]})
        if i == 7:
            rows.append({"tokens": ["stone", "warm"], "tags": ["O", "B-place"]})
    path = tmp_path / "rare.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    model = acclimate.fit(str(path), task="tag", model=str(tm.write("bert", tmp_path / "bert", layers=2)), quiet=True,
                          strategy="linear_probe", output_dir=tmp_path / "run")  # fmt: skip
    strength = float(model.learned.notes[0].split("C = ")[1].split()[0])
    assert strength > 1 and model.scores is not None and model.scores.value is not None and model.scores.value > 0.9


def test_o_is_lowered_as_rows_say_where_they_are_many_and_as_theory_says_where_few() -> None:
    there = np.full(len(LOWERED), 4000)
    hits = np.where(np.arange(len(LOWERED)) == 3, 2400, 2000)
    assert best_lowering(np.stack([hits, there, there], 1)) == 3
    few = np.stack([hits // 2000, there // 2000, there // 1000], 1)  # one of two found, whatever the offset
    chosen = LOWERED[best_lowering(few)]
    assert abs(chosen - np.log((2 - 3 / 8) / (3 / 8))) <= 0.125


def test_one_tag_is_nothing_to_learn(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    path.write_text("\n".join(json.dumps({"tokens": [f"w{i}"], "tags": ["O"]}) for i in range(20)))
    with pytest.raises(UserError, match="every word has the tag 'O'"):
        acclimate.fit(str(path), task="tag", quiet=True, output_dir=tmp_path / "run")


def sentences_of(path: Path, content: bytes | str) -> list[tuple[object, object]]:
    """What is read of a CoNLL file of this content."""
    from acclimate.data.rows import Columns
    from acclimate.data.tagged import sentences

    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(s.given, s.tags) for s in sentences(str(path), Columns())[0]]


def test_words_that_begin_with_a_hash_are_no_comments(tmp_path: Path) -> None:
    file = "# id 7 domain=en\n# # NN O\nten x CD B-sum\n#win x NN B-sum\n\n# a b O\ncold x JJ O\n"
    assert sentences_of(tmp_path / "x.conll", file) == [
        (("#", "ten", "#win"), ("O", "B-sum", "B-sum")), (("#", "cold"), ("O", "O"))
    ]  # fmt: skip
    assert sentences_of(tmp_path / "x.conll", "#win\nten\n\n# by hand\ncold\n") == [
        (("#win", "ten"), None), (("cold",), None)
    ]  # fmt: skip


def test_words_may_hold_what_other_scripts_call_a_space(tmp_path: Path) -> None:
    file = "a\u2028b\u00a0c B-x\r\n\x85d O\r\n\r\n\r\n"
    assert sentences_of(tmp_path / "x.conll", file) == [(("a\u2028b\u00a0c", "\x85d"), ("B-x", "O"))]


def test_a_treebank_gives_forms_and_parts_of_speech(tmp_path: Path) -> None:
    rest = "\t_" * 6
    words = ["1\tI\ti\tPRON", "2-3\tdon't\t_\t_", "2\tdo\tdo\tAUX", "3\tn't\tnot\tPART"]
    file = "# text = I don't\n" + "".join(f"{word}{rest}\n" for word in words)
    assert sentences_of(tmp_path / "x.conllu", file) == [(("I", "do", "n't"), ("PRON", "AUX", "PART"))]


def test_the_encoding_that_was_guessed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.conll"
    path.write_bytes("caf\u00e9 B-place\nwarm O\n".encode("cp1252"))
    found = acclimate.inspect(str(path), task="tag").audit
    assert found.facts["encoding_guessed"] and found.facts["notes"]


def test_a_table_with_a_word_a_row_needs_its_sentences(tmp_path: Path) -> None:
    path = tmp_path / "words.csv"
    path.write_text("sentence,word,label\n1,warm,O\n1,river,B-place\n")
    with pytest.raises(UserError, match="--id-column"):
        acclimate.inspect(str(path), task="tag")
    read = acclimate.inspect(str(path), task="tag", id_column="sentence", text_column="word", label="label").audit
    assert (read.read, read.kept) == (1, 1)


def test_auto_says_when_nothing_is_there_to_choose_by(tmp_path: Path) -> None:
    one = tag_example(tmp_path)
    model = fit("tag", one, tmp_path / "run", strategy="auto", settings={"moves": "all"})
    assert model.report_data is not None and model.learned.strategy == "linear_probe"
    told = model.report_data.decisions[0]
    assert "too few to hold some out" in told and not model.report_data.candidates
    assert told.startswith("linear_probe was taken without comparing it with ") and "and 54 are needed" in told
    assert model.report_data.verdict.endswith(told)  # where nobody passes over it, also in the terminal


def test_a_difference_to_answers_without_a_hit_stays_within_what_there_can_be() -> None:
    truth = [("B-x", "O"), ("O", "B-x")] * 12 + [("B-x", "B-x")] * 6
    said = [row if i % 3 else ("O", "O") for i, row in enumerate(truth)]
    nothing = [("O", "O")] * len(truth)
    gap = difference(Tag(), "entity_f1", truth, said, nothing, {"tags": ["O", "B-x"]})
    assert gap.low is not None and gap.high is not None and gap.value is not None
    assert 0 < gap.low < gap.value < gap.high <= 1
