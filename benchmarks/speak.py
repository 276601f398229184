"""A SpeechT5 of random weights and small size on a speaker's digits: the whole way, at the scale of a toy.

Run: OMP_NUM_THREADS=1 python benchmarks/speak.py --data FOLDER [--epochs E] [--rows N]. FOLDER holds fsdd. No registry
package ships weights for synthesis, so this shows that the way works, not how a voice sounds that was tuned from real
ones. Learned from are N recordings of jackson (takes 5 and up), judged are takes 0 and 1 (--takes), by what
whisper-tiny writes of them and by resemblyzer. The result is printed, and added to benchmarks/results/speak.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers as t
from speech import recordings
from tokenizers import Tokenizer, models, pre_tokenizers

import acclimate

RESULTS = Path(__file__).parent / "results" / "speak.json"
LETTERS = ["<s>", "<pad>", "</s>", " ", *"abcdefghijklmnopqrstuvwxyz'"]
WIDTH, LAYERS = 96, 2


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge", default="whisper-tiny")
    parser.add_argument("--takes", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    folder = Path(asked.data) / "fsdd" / "recordings"
    train = recordings(folder, ["jackson"], range(5, 50))
    random.Random(asked.seed).shuffle(train)
    with tempfile.TemporaryDirectory() as work:
        began = time.time(), time.process_time()
        model = acclimate.fit(
            train[: asked.rows], test_data=recordings(folder, ["jackson"], range(asked.takes)), task="speak",
            strategy="full", model=str(small(Path(work) / "tiny-speecht5")), seed=asked.seed,
            settings={"learning_rate": 1e-3, "mixed_precision": "no", "judge": asked.judge},
            num_train_epochs=asked.epochs,
            output_dir=Path(work) / "run", quiet=True,
        )  # fmt: skip
        took = {"minutes": (time.time() - began[0]) / 60, "cpu_s": time.process_time() - began[1]}
        print(model.learned.history[0], model.learned.history[-1])
    scores = model.scores
    numbers = {name: [one.value, one.low, one.high] for name, one in scores.estimates.items()}
    found = {**vars(asked), "data": "fsdd", **numbers, "notes": list(scores.notes), **took}
    found |= {name: {k: row[k] for k in ("value", "low", "high")} for name, row in scores.baseline.items()}
    before: list[Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    RESULTS.write_text(json.dumps([*before, found], indent=1) + "\n")
    print(json.dumps(found, indent=1))


def small(folder: Path) -> Path:
    """The folder of a SpeechT5 of random weights that reads letters."""
    torch.manual_seed(0)
    inner = Tokenizer(models.WordLevel({c: i for i, c in enumerate(LETTERS)}, unk_token="</s>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    config = t.SpeechT5Config(
        vocab_size=len(LETTERS), hidden_size=WIDTH, encoder_layers=LAYERS, encoder_attention_heads=4,
        encoder_ffn_dim=2 * WIDTH, decoder_layers=LAYERS, decoder_ffn_dim=2 * WIDTH, decoder_attention_heads=4,
        speech_decoder_prenet_units=64, speech_decoder_postnet_units=64, speech_decoder_postnet_layers=3,
        speech_decoder_prenet_dropout=0.2, conv_dim=(8,), conv_stride=(5,), conv_kernel=(10,),
    )  # fmt: skip
    t.SpeechT5ForTextToSpeech(config).save_pretrained(folder)
    t.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", pad_token="<pad>").save_pretrained(folder)
    t.SpeechT5FeatureExtractor().save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
