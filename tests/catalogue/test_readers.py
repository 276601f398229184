"""The small readers of foreign file formats, against files written here byte by byte and against slow loops."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from acclimate.catalogue.ct2_file import read_ct2
from acclimate.catalogue.gguf_file import read_gguf, unpack
from acclimate.catalogue.onnx_file import fields, named_weights, read_onnx

# ---------------------------------------------------------------- ONNX


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def part(number: int, content: bytes | str | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content & (1 << 64) - 1)
    data = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name: str, kind: int, shape: tuple[int, ...], *content: bytes) -> bytes:
    return b"".join([*(part(1, size) for size in shape), part(2, kind), part(8, name), *content])


def node(kind: str, inputs: list[str], outputs: list[str], attribute: bytes = b"") -> bytes:
    return b"".join([*(part(1, i) for i in inputs), *(part(2, o) for o in outputs), part(4, kind), attribute])


def model(nodes: list[bytes], tensors: list[bytes]) -> bytes:
    graph = b"".join([*(part(1, n) for n in nodes), *(part(5, t) for t in tensors)])
    return part(1, 8) + part(2, "by hand") + part(7, graph)


def test_onnx_tensors_in_every_way_of_storing_them() -> None:
    constant = part(5, part(1, "value") + part(5, tensor("", 1, (2,), part(9, struct.pack("<2f", 7, 8)))))
    data = model(
        [node("Constant", [], ["c"], constant)],
        [
            tensor("raw", 1, (2, 3), part(9, struct.pack("<6f", *range(6)))),
            tensor("floats", 1, (2,), part(4, struct.pack("<2f", 0.5, -1))),
            tensor("half", 10, (2,), part(9, struct.pack("<2e", 1.5, -2))),
            tensor("packed", 7, (3,), part(7, varint(5) + varint((1 << 64) - 1) + varint(300))),
            tensor("single", 7, (2,), part(7, 4), part(7, -9)),
            tensor("scalar", 6, (), part(5, varint(42))),
        ],
    )
    graph = read_onnx(data)
    assert {name: array.tolist() for name, array in graph.weights.items()} == {
        "raw": [[0, 1, 2], [3, 4, 5]],
        "floats": [0.5, -1],
        "half": [1.5, -2],
        "packed": [5, -1, 300],
        "single": [4, -9],
        "scalar": 42,
    }
    assert graph.weights["half"].dtype == np.float16
    assert (graph.nodes[0].kind, graph.nodes[0].outputs, graph.nodes[0].tensors[0].tolist()) == (
        "Constant",
        ["c"],
        [7, 8],
    )


def test_onnx_linear_weights_get_their_names_back_from_the_bias() -> None:
    square = struct.pack("<4f", 1, 2, 3, 4)
    data = model(
        [
            node("MatMul", ["x", "onnx::MatMul_1"], ["xw"]),
            node("Add", ["layer.bias", "xw"], ["y"]),
            node("MatMul", ["y", "x"], ["attention"]),  # no weight in it
            node("Add", ["attention", "mask"], ["z"]),
        ],
        [
            tensor("onnx::MatMul_1", 1, (2, 2), part(9, square)),
            tensor("layer.bias", 1, (2,), part(9, struct.pack("<2f", 5, 6))),
        ],
    )
    found = named_weights(read_onnx(data))
    assert {name: array.tolist() for name, array in found.items()} == {
        "layer.bias": [5, 6],
        "layer.weight": [[1, 3], [2, 4]],
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no graph"),
        (part(7, b"")[:-1] + b"\x05ab", "is cut off"),
        (b"\x80", "is cut off"),
        (varint(7 << 3 | 3), "wire kind 3"),
        (model([node("A", [], [])], [tensor("t", 1, (3,), part(9, struct.pack("<2f", 1, 2)))]), "do not fill"),
        (model([node("A", [], [])], [tensor("t", 16, (1,), part(9, b"ab"))]), "ONNX type 16"),
        (part(7, 3), "a message or text belongs"),
    ],
)
def test_damaged_onnx_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_onnx(data)


def test_protobuf_skips_what_nobody_asked_for() -> None:
    fixed = varint(3 << 3 | 5) + b"abcd" + varint(4 << 3 | 1) + b"abcdefgh" + part(1, 300)
    assert [(n, v if isinstance(v, int) else bytes(v)) for n, v in fields(memoryview(fixed))] == [
        (3, b"abcd"),
        (4, b"abcdefgh"),
        (1, 300),
    ]


# ---------------------------------------------------------------- GGUF


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(settings: dict[str, bytes], tensors: dict[str, tuple[list[int], int, bytes]], align: int = 32) -> bytes:
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(settings))
    out += b"".join(text(key) + value for key, value in settings.items())
    content = b""
    for name, (shape, kind, data) in tensors.items():
        content += b"\0" * (-len(content) % align)
        out += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], kind, len(content))
        content += data
    return out + b"\0" * (-len(out) % align) + content


def test_gguf_settings_and_tensors() -> None:
    settings = {
        "general.alignment": struct.pack("<II", 4, 64),
        "name": struct.pack("<I", 8) + text("tiny"),
        "rate": struct.pack("<If", 6, 0.5),
        "on": struct.pack("<I?", 7, True),
        "tokens": struct.pack("<IIQ", 9, 8, 2) + text("a") + text("Ġb"),
    }
    matrix = np.arange(6, dtype="<f4").reshape(2, 3)
    data = gguf(settings, {"m": ([2, 3], 0, matrix.tobytes()), "h": ([2], 1, np.array([1.5, -2], "<f2").tobytes())}, 64)
    found, tensors = read_gguf(data)
    assert found == {"general.alignment": 64, "name": "tiny", "rate": 0.5, "on": True, "tokens": ["a", "Ġb"]}
    assert {name: array.tolist() for name, array in tensors.items()} == {"m": [[0, 1, 2], [3, 4, 5]], "h": [1.5, -2]}


def test_what_is_not_gguf_is_refused() -> None:
    with pytest.raises(ValueError, match="not a GGUF file"):
        read_gguf(b"nothing")
    with pytest.raises(ValueError, match="version 1"):
        read_gguf(b"GGUF" + struct.pack("<IQQ", 1, 0, 0))
    with pytest.raises(ValueError, match="ggml type 12"):
        unpack(memoryview(b""), [256], 12)
    with pytest.raises(ValueError, match="not whole blocks of 32"):
        unpack(memoryview(b""), [2, 16], 8)


def half(data: bytes, at: int) -> float:
    return float(struct.unpack_from("<e", data, at)[0])


def slow_q4(data: bytes, minimum: bool) -> list[float]:
    values: list[float] = []
    width = 20 if minimum else 18
    for at in range(0, len(data), width):
        scale, low, first = half(data, at), half(data, at + 2) if minimum else 0.0, at + (4 if minimum else 2)
        for high in (False, True):
            for i in range(16):
                q = data[first + i] >> 4 if high else data[first + i] & 15
                values.append(scale * q + low if minimum else scale * (q - 8))
    return values


def slow_q6(data: bytes) -> list[float]:
    values: list[float] = []
    for at in range(0, len(data), 210):
        low, high, groups, scale = (
            data[at : at + 128],
            data[at + 128 : at + 192],
            data[at + 192 : at + 208],
            half(data, at + 208),
        )
        for i in range(256):
            half_block, run, place = i // 128, i % 128 // 32, i % 32
            byte = low[64 * half_block + 32 * (run % 2) + place]
            four = byte >> 4 if run >= 2 else byte & 15
            two = high[32 * half_block + place] >> (2 * run) & 3
            (group,) = struct.unpack("b", groups[i // 16 : i // 16 + 1])
            values.append(scale * group * ((four | two << 4) - 32))
    return values


@pytest.mark.parametrize(("kind", "scales", "width"), [(2, 1, 32), (3, 2, 32), (8, 1, 32), (14, 0, 256)])
def test_quantised_blocks_equal_slow_loops(kind: int, scales: int, width: int) -> None:
    random = np.random.default_rng(kind)
    blocks = []
    for _ in range(4):
        scale = struct.pack(f"<{max(scales, 1)}e", *random.normal(size=max(scales, 1)))
        count = {2: 16, 3: 16, 8: 32, 14: 208}[kind]
        content = random.integers(0, 256, count, dtype=np.uint8).tobytes()
        blocks.append(content + scale if kind == 14 else scale + content)
    data = b"".join(blocks)
    if kind == 8:
        slow = [half(data, at) * q for at in range(0, len(data), 34) for q in struct.unpack_from("32b", data, at + 2)]
    else:
        slow = slow_q6(data) if kind == 14 else slow_q4(data, kind == 3)
    array = unpack(memoryview(data + b"beyond"), [2, 2 * width], kind)
    assert (array.shape, array.dtype) == ((2, 2 * width), np.float32)
    np.testing.assert_allclose(array.ravel(), slow, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------- CTranslate2


def ct2(variables: dict[str, Any], aliases: dict[str, str], version: int = 6, kind: str = "WhisperSpec") -> bytes:
    def short(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    out = struct.pack("<I", version) + short(kind) + struct.pack("<II", 3, len(variables))
    for name, array in variables.items():
        code = {"float32": 0, "int8": 1, "float16": 4}[array.dtype.name]
        out += (
            short(name)
            + struct.pack(f"<B{array.ndim}IBI", array.ndim, *array.shape, code, array.nbytes)
            + array.tobytes()
        )
    return out + struct.pack("<I", len(aliases)) + b"".join(short(a) + short(b) for a, b in aliases.items())


def test_ct2_variables_and_aliases() -> None:
    matrix = np.arange(6, dtype=np.float16).reshape(2, 3)
    kind, found = read_ct2(ct2({"a/weight": matrix, "b": np.array([-3], np.int8)}, {"c": "b"}))
    assert kind == "WhisperSpec"
    assert {name: array.tolist() for name, array in found.items()} == {
        "a/weight": matrix.tolist(),
        "b": [-3],
        "c": [-3],
    }
    with pytest.raises(ValueError, match="version 9"):
        read_ct2(ct2({}, {}, version=9))
