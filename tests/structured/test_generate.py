"""Generation: what a row's loss is, how texts are written and measured, and rows that are odd."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import acclimate
import tiny_models as tm
from acclimate.api.structured_model import StructuredModel
from acclimate.backbones import load
from acclimate.backbones.decoding import Decoding, common, label_scores
from acclimate.backbones.prompts import Prompt
from acclimate.backbones.writer import Writer
from acclimate.cli.main import app
from acclimate.data.exchanges import exchanges
from acclimate.data.rows import Columns
from acclimate.errors import UserError
from acclimate.run import Run
from acclimate.structured.answering import answers_to
from acclimate.structured.generate import Generate
from acclimate.structured.generate_measures import bleu, bleu_counts, chrf, chrf_counts
from acclimate.structured.generate_network import GenerateNetwork, Labels
from acclimate.structured.measuring import scores_of, value

sys.path.append(str(Path(__file__).parent))
from task_examples import generate_example, texts

ASKS = ["good table", "bad river stone paper", "kind", "warm bread warm bread warm bread"]
SAYS = ["stone", "river good bad", "table chair", "street"]
CHAT = "{% for m in messages %}{{ m['content'] }} {% endfor %}{% if add_generation_prompt %}- {% endif %}"


def writer(folder: Path, kind: str) -> Writer:
    found = load(str(tm.write(kind, folder / kind, layers=2)), writes=True)
    assert isinstance(found, Writer)
    return found


def network(one: Writer, how: Decoding | None = None) -> GenerateNetwork:
    prompt = Prompt("" if one.encodes else "{input} -")
    return GenerateNetwork(one, prompt, how or Decoding(6), 10.0).eval()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_loss_is_that_of_the_answer_alone_packed_or_padded(kind: str, tmp_path: Path) -> None:
    one = writer(tmp_path, kind)
    net = network(one)
    rows = net.encode(ASKS, SAYS)
    batch = net.collate(rows)
    assert "lengths" in batch  # packed
    losses = net(batch)
    for row, loss in zip(rows, losses, strict=True):
        ids, start = row.parts[0]["input_ids"], row.parts[0]["start"][0]
        log_p = one.inner(torch.tensor([ids])).logits[0].log_softmax(-1)
        assert ids[-1] == one.tokenizer.eos_token_id
        right = sum(log_p[t - 1, ids[t]] for t in range(start, len(ids)))
        assert float(loss) == pytest.approx(-float(right) / 10, abs=1e-5)
    one.padded = True
    assert torch.allclose(net(net.collate(rows)), losses, atol=1e-5)


@pytest.mark.parametrize("kind", ["t5", "bart", "marian"])
def test_an_encoder_decoder_has_the_loss_that_transformers_gives(kind: str, tmp_path: Path) -> None:
    one = writer(tmp_path, kind)
    net = network(one)
    rows = net.encode(ASKS, SAYS)
    for row, loss in zip(rows, net(net.collate(rows)), strict=True):
        ids, answer = row.parts[0]["input_ids"], row.parts[0]["answer"]
        theirs = one.inner(input_ids=torch.tensor([ids]), labels=torch.tensor([answer])).loss
        assert float(loss) == pytest.approx(float(theirs) * len(answer) / 10, abs=1e-5)
    assert len(one.blocks) == 4


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5", "bart"])
@pytest.mark.parametrize("how", [Decoding(6), Decoding(6, 3), Decoding(6, temperature=1.0, top_p=0.9, seed=5)])
def test_a_text_does_not_depend_on_those_written_beside_it(kind: str, how: Decoding, tmp_path: Path) -> None:
    one = writer(tmp_path, kind)
    prompts = [row.parts[0]["input_ids"] for row in network(one).encode(ASKS, None)]
    with torch.inference_mode():
        for rows in (prompts, [list(range(30, 50)) + ids for ids in prompts]):  # those begin alike: read once
            assert one.write(rows, how) == [one.write([ids], how)[0] for ids in rows]
    assert common([list(range(30, 50)) + ids for ids in prompts]) >= 20


def test_words_are_drawn_by_the_seed_with_their_probability(tmp_path: Path) -> None:
    one = writer(tmp_path, "llama")
    ids = network(one).encode(["good"], None)[0].parts[0]["input_ids"]
    first = []
    with torch.inference_mode():
        p = one.inner(torch.tensor([ids])).logits[0, -1].softmax(-1)
        for seed in range(300):
            text = one.write([ids], Decoding(1, temperature=1.0, seed=seed))[0]
            first.append(text[0] if text else int(one.tokenizer.eos_token_id))
    often = int(p.argmax())
    assert first.count(often) / 300 == pytest.approx(float(p[often]), abs=3 * (float(p[often]) / 300) ** 0.5)
    assert len(set(first)) > 5


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_scores_of_labels_are_log_probabilities_of_their_tokens(kind: str, tmp_path: Path) -> None:
    one = writer(tmp_path, kind)
    prompts = [row.parts[0]["input_ids"] for row in network(one).encode(ASKS, None)]
    labels = [[7, 8, 9], [10], [11, 12]]
    with torch.inference_mode():
        for rows in (prompts, [list(range(30, 50)) + ids for ids in prompts]):
            found = label_scores(one.inner, rows, labels, 0, mean=False)
            for i, ids in enumerate(rows):
                for k, label in enumerate(labels):
                    log_p = one.inner(torch.tensor([ids + label])).logits[0].log_softmax(-1)
                    right = sum(float(log_p[len(ids) - 1 + t, token]) for t, token in enumerate(label))
                    assert float(found[i, k]) == pytest.approx(right, abs=1e-4)


def test_bleu_and_chrf_are_those_of_sacrebleu() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    rng = np.random.default_rng(0)
    words = ["la", "maison", "est", "grande", "déjà", "à", "Paris", ".", "%(name)s", "l’été"]
    truth = [" ".join(rng.choice(words, rng.integers(1, 12))) for _ in range(60)]
    answers = [t if i % 3 == 0 else " ".join(rng.choice(words, rng.integers(0, 12))) for i, t in enumerate(truth)]
    for some in (slice(0, 60), slice(1, 3), slice(1, 2)):
        t, a = truth[some], answers[some]
        mine = Generate().measures(t, a, {})
        assert 100 * value(mine["bleu"], len(t)) == pytest.approx(sacrebleu.corpus_bleu(a, [t]).score, abs=1e-9)
        assert 100 * value(mine["chrf"], len(t)) == pytest.approx(sacrebleu.corpus_chrf(a, [t]).score, abs=1e-9)
    twice = np.zeros((1, 60))
    twice[0, :5] = 2.0
    t, a = truth[:5] * 2, answers[:5] * 2
    assert 100 * bleu(twice @ bleu_counts(truth, answers))[0] == pytest.approx(sacrebleu.corpus_bleu(a, [t]).score)
    assert 100 * chrf(twice @ chrf_counts(truth, answers))[0] == pytest.approx(sacrebleu.corpus_chrf(a, [t]).score)


def test_rouge_knows_letters_with_accents_and_baselines_have_no_perplexity(tmp_path: Path) -> None:
    scores = scores_of(Generate(), ["l'été est là"] * 12, ["l'été"] * 12, {})
    assert scores.estimates["rouge_l"].value == pytest.approx(2 * 0.5 / 1.5)
    assert scores.estimates["perplexity"].value is None
    net = network(writer(tmp_path, "llama"))
    answers = net.beside(answers_to(net, ASKS, Run()), ASKS, SAYS, Run())
    losses = net(net.collate(rows := net.encode(ASKS, SAYS)))
    tokens = sum(len(r.parts[0]["input_ids"]) - r.parts[0]["start"][0] for r in rows)
    found = value(Generate().measures(SAYS, answers, {})["perplexity"], 4)
    assert found == pytest.approx(float(torch.exp(losses.sum() * 10 / tokens)), rel=1e-5)


def test_a_chat_template_frames_the_input_and_examples_stand_before_it(tmp_path: Path) -> None:
    one = writer(tmp_path, "llama")
    one.tokenizer.chat_template = CHAT
    prompt = Prompt("say {input}")
    assert prompt.text(one, "good", [("bad", "cold")]) == "say bad cold say good - "
    assert prompt.text(one, (("system", "be kind"), ("user", "good"))) == "be kind good - "
    assert Prompt("{input}:", chat=False).text(one, "good", [("bad", "cold")]) == "bad: cold\n\ngood:"
    with pytest.raises(UserError, match="has no {input}"):
        Prompt("say")


def test_what_is_too_long_is_cut_and_counted(tmp_path: Path) -> None:
    one = writer(tmp_path, "llama")
    net = network(one)
    net.examples = [("bad", "cold")] * 40
    kept = net.encode(["good"], ["warm"])[0]
    assert kept.lost == 0 or kept.cost <= 64
    net.examples = ()
    rows = net.encode(["stone " * 100, "good"], ["warm", "warm"])
    assert rows[0].cost <= 64 and rows[0].lost == rows[0].total - rows[0].cost
    ids = rows[0].parts[0]["input_ids"]
    assert ids[rows[0].parts[0]["start"][0] - 1] == one.tokenizer.convert_tokens_to_ids("-")  # the frame is whole
    assert "1 of 2 rows were longer than max_length 64" in net.cut(rows)


def test_bad_rows_are_counted_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    turns: list[Any] = [
        [{"role": "user", "content": "good"}, {"role": "assistant", "content": "warm"}],
        [{"from": "human", "value": "bad"}, {"from": "gpt", "value": "bad"}],
        [{"role": "user", "content": "fine"}],
        [{"role": "assistant", "content": "warm"}],
        "hello",
        None,
    ]
    path.write_text("\n".join(json.dumps({"messages": one}) for one in turns))
    audit = acclimate.inspect(str(path), task="generate").audit
    assert audit.read == 6 and audit.kept == 2
    assert audit.dropped == {"no_answer": (3,), "no_input": (4, 6), "bad_messages": (5,)}
    assert [f.kind for f in audit.findings] == ["copied"]
    new, _ = exchanges(str(path), Columns(), answered=False)
    assert [x.asks is None for x in new] == [False, False, False, True, True, True]


def test_instruction_data_and_columns_by_name(tmp_path: Path) -> None:
    path = tmp_path / "i.jsonl"
    path.write_text(json.dumps({"instruction": "Say it", "input": "good", "output": "warm"}) + "\n")
    assert exchanges(str(path), Columns(), answered=True)[0][0].asks == "Say it\n\ngood"
    rows = [{"en": "good", "fr": "bon", "note": ""}, {"en": "", "fr": "x", "note": ""}]
    found, _ = exchanges(rows, Columns(text=("en",), label="fr"), answered=True)
    assert [(x.asks, x.answer, x.reason) for x in found] == [("good", "bon", None), (None, None, "no_input")]
    with pytest.raises(UserError, match="--text-column"):
        exchanges(rows, Columns(), answered=True)


@pytest.mark.parametrize(
    ("kind", "strategy"), [("llama", "lora"), ("llama", "partial"), ("t5", "lora"), ("bart", "full")]
)
def test_answers_are_learned(kind: str, strategy: str, tmp_path: Path) -> None:
    one = generate_example(tmp_path)
    model = str(tm.write(kind, tmp_path / kind, layers=2))
    settings = {"num_train_epochs": 12, "learning_rate": 1e-2, "moves": "lora" if strategy == "lora" else "all"}
    usual = {"task": "translation", "model": model, "strategy": strategy, "test_data": str(one.test), "quiet": True}
    found = acclimate.fit(
        str(one.train), output_dir=tmp_path / "run",
        settings={**settings, "template": "{input} -", "max_new_tokens": 4, "batch_size": 8}, **usual,  # type: ignore[arg-type]
    )  # fmt: skip
    assert found.scores is not None and found.scores.estimates["perplexity"].value is not None
    assert found.scores.estimates["perplexity"].value < 12  # 107 words in the vocabulary


def test_a_language_model_chooses_among_labels_with_examples_in_its_prompt(tmp_path: Path) -> None:
    rows = [
        {"text": f"{w} {t}", "label": "warm" if w in tm.GOOD else "cold"}
        for w in (*tm.GOOD, *tm.BAD)
        for t in tm.NEUTRAL[:3]
    ]
    model = str(tm.write("llama", tmp_path / "llama", layers=2))
    how = {"answers": "labels", "template": "{input} -", "shots": 2, "calibrated": True}
    run = acclimate.fit(rows, task="generate", label="label", text_column="text", model=model, strategy="few_shot",
                        settings=how, output_dir=tmp_path / "run", quiet=True)  # fmt: skip
    assert run.scores is not None and run.scores.metric == "exact_match" and set(run.scores.baseline) == {"nearest"}
    again = acclimate.load(tmp_path / "run")
    assert len(again.learned.network.examples) == 2  # type: ignore[union-attr]
    assert again.predict(["good table", "bad"]) == run.predict(["good table", "bad"])
    assert set(again.predict(["good table", "bad"])) <= {"warm", "cold"}
    seen = again.predict_parts([{"text": "good"}, {"text": ""}])
    assert next(seen.parts)["note"] == ["", "nothing to answer"]
    with pytest.raises(UserError, match="few_shot keeps training rows in its bundle"):
        acclimate.fit(rows, task="generate", label="label", text_column="text", model=model, strategy="few_shot",
                      output_dir=tmp_path / "private", private=True, quiet=True)  # fmt: skip


def test_settings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = texts(tmp_path)
    model = str(tm.write("t5", tmp_path / "t5", layers=1))
    for settings, message in (
        ({"temperature": 1.0, "num_beams": 2}, "set one of them"),
        ({"answers": "label"}, "labels"),
        ({"template": "none"}, "has no"),
        ({"answers": "labels"}, "causal language model"),
    ):
        with pytest.raises(UserError, match=message):
            acclimate.fit(str(path), task="generate", model=model, settings=settings, strategy="zero_shot",
                          output_dir=tmp_path / "run", quiet=True)  # fmt: skip
    with pytest.raises(UserError, match="does not write"):
        load(str(tm.write("bert", tmp_path / "bert", layers=1)), writes=True)


def test_the_command_line_from_fit_to_report(tmp_path: Path) -> None:
    one = generate_example(tmp_path)
    run, cli = str(tmp_path / "run"), CliRunner()

    def said(*words: str) -> str:
        result = cli.invoke(app, list(words))
        assert result.exit_code == 0, result.output
        return result.stdout

    how = ["--set", "template={input} -", "--set", "max_new_tokens=4", "--set", "shots=2", "--batch-size", "8"]
    fitted = said("fit", str(one.train), "--task", "seq2seq", "--model", one.model, "--strategy", "auto", *how,
                  "--num-train-epochs", "2", "-o", run, "--test-data", str(one.test))  # fmt: skip
    assert "chrf" in fitted and "nearest" in fitted
    said("predict", run, str(one.test), "-o", str(tmp_path / "out.csv"))
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert len(lines) == 13 and lines[0].endswith(",prediction")
    assert "perplexity" in said("evaluate", run, str(one.test))
    report = (tmp_path / "run" / "report.md").read_text()
    assert all(name in report for name in ("zero\\_shot", "few\\_shot", "lora"))


@pytest.mark.real
def test_smollm2_answers_and_chooses() -> None:
    one = load("smollm2", writes=True)
    assert isinstance(one, Writer)
    net = GenerateNetwork(one, Prompt(), Decoding(12), 10.0).eval()
    assert "Paris" in answers_to(net, ["What is the capital of France?"], Run())[0]
    labels = Labels(("negative", "positive"), mean=False, calibrated=True)
    asks = Prompt("Review: {input}\nSentiment:", chat=False)
    net = GenerateNetwork(one, asks, Decoding(), 10.0, labels).eval()
    rows = ["I love it, it works wonderfully.", "Terrible, it broke on the first day."]
    assert answers_to(net, rows, Run()) == ["positive", "negative"]


@pytest.mark.parametrize("kind", ["gpt2", "bart", "llama"])
def test_a_prompt_leaves_room_for_its_answer(kind: str, tmp_path: Path) -> None:
    """64 places in all: prompt and answer share them, whatever was asked for; a cut prompt is told when answering."""
    model = tm.write(kind, tmp_path / kind, layers=1)
    done = acclimate.fit(str(texts(tmp_path)), task="generate", model=str(model), strategy="zero_shot", quiet=True,
                         settings={"max_new_tokens": 1000}, output_dir=tmp_path / "run")  # fmt: skip
    assert isinstance(done, StructuredModel)
    found = done.predict_parts([{"input": "good " * 500}, {"input": "bad"}])
    alone = done.predict(["good " * 500])
    assert [next(found.parts)["prediction"][0]] == alone
    assert len(found.said) == 1 and "1 of 2 rows were longer" in found.said[0]


def test_labels_of_several_tokens_fit_behind_a_long_prompt(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    rows = [{"input": f"good {i}", "output": "good day table" if i % 2 else "bad cold river"} for i in range(20)]
    path.write_text("\n".join(map(json.dumps, rows)))
    model = str(tm.write("gpt2", tmp_path / "gpt2", layers=1))
    done = acclimate.fit(str(path), task="generate", model=model, strategy="zero_shot", quiet=True,
                         settings={"answers": "labels"}, output_dir=tmp_path / "run")  # fmt: skip
    assert done.predict(["good " * 500])[0] in {"good day table", "bad cold river"}
