"""Language models that write text: from GGUF to a folder that AutoModelForCausalLM loads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from acclimate.catalogue.gguf_file import read_gguf
from acclimate.catalogue.plain import Archives, Needed, save_weights, write_json

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
INNER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def gguf_llama(archives: Archives, out: Path, _needed: Needed) -> None:
    """A Llama-shaped model with a byte-level BPE tokenizer, both from one GGUF file; weights become float32."""
    (member,) = [name for name in archives[0].names() if name.endswith(".gguf")]
    settings, tensors = read_gguf(archives[0].read(member))
    heads, key_heads = settings["llama.attention.head_count"], settings["llama.attention.head_count_kv"]
    weights = rename(tensors, heads, key_heads)
    save_weights(weights, out)
    first, last, pad = (settings[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos", "padding"))
    write_json(
        out / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "vocab_size": settings["llama.vocab_size"],
            "hidden_size": settings["llama.embedding_length"],
            "intermediate_size": settings["llama.feed_forward_length"],
            "num_hidden_layers": settings["llama.block_count"],
            "num_attention_heads": heads,
            "num_key_value_heads": key_heads,
            "max_position_embeddings": settings["llama.context_length"],
            "rms_norm_eps": round(settings["llama.attention.layer_norm_rms_epsilon"], 9),
            "rope_theta": settings["llama.rope.freq_base"],
            "rope_parameters": {"rope_type": "default", "rope_theta": settings["llama.rope.freq_base"]},
            "tie_word_embeddings": "lm_head.weight" not in weights,
            "bos_token_id": first,
            "eos_token_id": last,
            "pad_token_id": pad,
        },
    )
    tokens: list[str] = settings["tokenizer.ggml.tokens"]
    write_json(out / "generation_config.json", {"bos_token_id": first, "eos_token_id": last, "pad_token_id": pad})
    write_json(out / "tokenizer.json", bpe_tokenizer(settings))
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": settings["llama.context_length"],
            "bos_token": tokens[first],
            "eos_token": tokens[last],
            "pad_token": tokens[pad],
            "clean_up_tokenization_spaces": False,
            "unk_token": tokens[settings["tokenizer.ggml.unknown_token_id"]],
            "chat_template": settings["tokenizer.chat_template"],
        },
    )


def rename(tensors: Mapping[str, Array], heads: int, key_heads: int) -> dict[str, Array]:
    """llama.cpp's names to transformers'; queries and keys get their rows back in order."""
    weights = {}
    for name, array in tensors.items():
        if name in OUTER:
            weights[OUTER[name]] = array
            continue
        _blk, layer, part, leaf = name.split(".")
        if part in ("attn_q", "attn_k"):
            array = unpair(array, heads if part == "attn_q" else key_heads)
        weights[f"model.layers.{layer}.{INNER[part]}.{leaf}"] = array
    return weights


def unpair(matrix: Array, heads: int) -> Array:
    """llama.cpp rotates neighbouring rows of a head, transformers rows half a head apart: 2i, 2i + 1 -> i, i + half."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def bpe_tokenizer(settings: Mapping[str, Any]) -> dict[str, object]:
    """GPT-2's byte-level BPE with each digit by itself, which is what GGUF calls "smollm"."""
    kind = (settings["tokenizer.ggml.model"], settings["tokenizer.ggml.pre"])
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"a tokenizer of kind {kind}; this converter knows ('gpt2', 'smollm')")
    tokens: list[str] = settings["tokenizer.ggml.tokens"]
    control = [i for i, kind in enumerate(settings["tokenizer.ggml.token_type"]) if kind == 3]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "normalizer": None,
        "post_processor": None,
        "decoder": level,
        "added_tokens": [
            {
                "id": i,
                "content": tokens[i],
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for i in control
        ],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, level]},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": settings["tokenizer.ggml.merges"],
        },
    }
