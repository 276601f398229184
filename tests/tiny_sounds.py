"""Tiny sound models with random weights as plain folders, and sounds whose pitch says their class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acclimate.backbones.hushed import quiet_transformers

RATE = 16000
KINDS = ("whisper", "wav2vec2", "wav2vec2-group", "hubert", "wavlm", "ast", "resemblyzer")
BLOCKS = {"whisper": 3, "ast": 2, "resemblyzer": 0}  # of the others: 3


def write(kind: str, folder: Path) -> Path:
    """The folder of a tiny model."""
    if kind == "resemblyzer":
        return _speaker(folder)
    torch.manual_seed(3)
    with quiet_transformers():
        model, extractor = _whisper() if kind == "whisper" else _ast() if kind == "ast" else _samples(kind)
        model.save_pretrained(folder)
        extractor.save_pretrained(folder)
    return folder


def dictation(folder: Path) -> Path:
    """A tiny Whisper with decoder and tokeniser, whose vocabulary is that of `LETTERS`."""
    import transformers as t
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    torch.manual_seed(3)
    letters = ["<|end|>", "<|start|>", "<|notimestamps|>", "\u2581", *LETTERS]
    inner = Tokenizer(models.BPE({c: i for i, c in enumerate(letters)}, []))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    inner.decoder = decoders.Metaspace(prepend_scheme="never")
    inner.add_special_tokens(letters[:3])
    tokenizer = t.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=letters[0], pad_token=letters[0])
    config = t.WhisperConfig(
        d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=2,
        decoder_attention_heads=2, decoder_ffn_dim=32, num_mel_bins=8, max_source_positions=50,
        vocab_size=len(letters), max_target_positions=24, init_std=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=0,
        decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    with quiet_transformers():
        model = t.WhisperForConditionalGeneration(config)
        model.generation_config.no_timestamps_token_id = 2
        model.generation_config.eos_token_id = model.generation_config.pad_token_id = 0
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        t.WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(folder)
    return folder


def voice(folder: Path) -> Path:
    """A tiny SpeechT5 that speaks letters."""
    import transformers as t
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(3)
    letters = ["<s>", "<pad>", "</s>", *LETTERS]
    inner = Tokenizer(models.WordLevel({c: i for i, c in enumerate(letters)}, unk_token="</s>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = t.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", pad_token="<pad>")
    config = t.SpeechT5Config(
        vocab_size=len(letters), hidden_size=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24,
        decoder_layers=2, decoder_ffn_dim=24, decoder_attention_heads=2, num_mel_bins=8, speech_decoder_prenet_units=8,
        speaker_embedding_dim=12, speech_decoder_postnet_units=8, speech_decoder_postnet_layers=2,
        max_text_positions=40, max_speech_positions=400, positional_dropout=0.0, hidden_dropout=0.0,
        attention_dropout=0.0, activation_dropout=0.0, conv_dim=(8,), conv_stride=(5,), conv_kernel=(10,),
    )  # fmt: skip
    with quiet_transformers():
        t.SpeechT5ForTextToSpeech(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        t.SpeechT5FeatureExtractor(num_mel_bins=8).save_pretrained(folder)
    return folder


LETTERS = "abcdefghijklmnopqrstuvwxyz"


def spoken(path: Path, n: int, *, seed: int = 0) -> Path:
    """A table of `n` tones: "lo" or "hi", and who speaks."""
    import soundfile

    lines = ["file,text,speaker"]
    (path / f"clips{seed}").mkdir(parents=True, exist_ok=True)
    for i, (line, rate) in enumerate(sounds(n, seed=seed)):
        name = f"clips{seed}/{i:03}.wav"
        soundfile.write(path / name, line, rate)
        lines.append(f"{name},{'Hi!' if i % 2 else 'Lo'},s{i % 4}")
    table = path / f"spoken{seed}.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def _whisper() -> tuple[Any, Any]:
    import transformers as t

    config = t.WhisperConfig(
        d_model=16, encoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=32, num_mel_bins=8, max_source_positions=100, vocab_size=20,
        max_target_positions=8, init_std=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return t.WhisperModel(config), t.WhisperFeatureExtractor(feature_size=8, chunk_length=2)


def _samples(kind: str) -> tuple[Any, Any]:
    import transformers as t

    size: dict[str, Any] = {
        "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
        "conv_dim": (8, 8, 8), "conv_stride": (5, 8, 8), "conv_kernel": (10, 8, 8), "num_feat_extract_layers": 3,
        "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "initializer_range": 0.3,
        "feat_extract_norm": "group" if kind.endswith("group") else "layer", "vocab_size": 20,
        "hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0,
        "layerdrop": 0.5, "mask_time_prob": 0.5, "mask_time_length": 2,
    }  # fmt: skip
    name = {"hubert": "Hubert", "wavlm": "WavLM"}.get(kind, "Wav2Vec2")
    model = getattr(t, f"{name}Model")(getattr(t, f"{name}Config")(**size))
    return model, t.Wav2Vec2FeatureExtractor(return_attention_mask=not kind.endswith("group"))


def _ast() -> tuple[Any, Any]:
    import transformers as t

    config = t.ASTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, max_length=64,
        num_mel_bins=16, patch_size=8, frequency_stride=8, time_stride=8, initializer_range=0.3,
    )  # fmt: skip
    return t.ASTModel(config), t.ASTFeatureExtractor(num_mel_bins=16, max_length=64)


def _speaker(folder: Path) -> Path:
    from safetensors.torch import save_file

    from acclimate.backbones.speaker import Voice

    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        voice = Voice(8, 12, 10, 2)
    about = {"model_type": "resemblyzer", "num_mel_bins": 8, "hidden_size": 12, "embedding_size": 10, "num_layers": 2,
             "sampling_rate": RATE, "window_ms": 25, "hop_ms": 10, "frames": 20}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(about))
    save_file(voice.state_dict(), folder / "model.safetensors")
    return folder


def sounds(n: int, *, seed: int = 0, rate: int = RATE) -> list[tuple[np.ndarray[Any, Any], int]]:
    """Tones of 0.1 to 0.6 s in noise; every other one is high."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        at = np.arange(round(rng.uniform(0.1, 0.6) * rate)) / rate
        line = 0.3 * np.sin(2 * np.pi * (2500 if i % 2 else 400) * at) + 0.02 * rng.normal(size=len(at))
        found.append((line.astype(np.float32), rate))
    return found


def folder(path: Path, n: int, *, seed: int = 0) -> Path:
    """Files of `sounds` in the class folders low and high, each its own format and rate."""
    import soundfile

    for i, (line, rate) in enumerate(sounds(n, seed=seed)):
        place = path / ("high" if i % 2 else "low") / f"{i:03}.{'flac' if i % 3 == 0 else 'wav'}"
        place.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(place, line if i % 5 else np.stack([line, line], axis=1), rate)
    return path
