"""Reads a GGUF file (llama.cpp's format) without the gguf package: its settings, and its tensors turned into float32.

Layout: "GGUF", version, counts, settings (key, type, value), tensor descriptions (name, shape with the fastest axis
first, type, offset), then, aligned, the data. Quantised tensors are rows of blocks, each with its own scale.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class _Cursor:
    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def number(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def text(self) -> str:
        length = self.number("Q")
        self.at += length
        return str(self.data[self.at - length : self.at], "utf-8")

    def value(self, kind: int) -> Any:
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, count = self.number("I"), self.number("Q")
            return [self.value(inner) for _ in range(count)]
        return self.number(NUMBERS[kind])


def read_gguf(data: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """(settings, float32 tensors by name, in the usual order of axes)."""
    cursor = _Cursor(memoryview(data))
    if bytes(cursor.data[:4]) != b"GGUF":
        raise ValueError("not a GGUF file: it does not begin with 'GGUF'")
    cursor.at = 4
    version = cursor.number("I")
    if version not in (2, 3):
        raise ValueError(f"GGUF version {version}; this reader knows 2 and 3")
    tensors, settings_count = cursor.number("Q"), cursor.number("Q")
    settings: dict[str, Any] = {}
    for _ in range(settings_count):
        key = cursor.text()
        settings[key] = cursor.value(cursor.number("I"))
    described = []
    for _ in range(tensors):
        name = cursor.text()
        shape = [cursor.number("Q") for _ in range(cursor.number("I"))][::-1]
        described.append((name, shape, cursor.number("I"), cursor.number("Q")))
    align = settings.get("general.alignment", 32)
    start = -(-cursor.at // align) * align
    return settings, {name: unpack(cursor.data[start + at :], shape, kind) for name, shape, kind, at in described}


def unpack(data: memoryview, shape: list[int], kind: int) -> Array:
    """The first `shape` values of `data`, stored as ggml type `kind`, as float32."""
    import numpy as np

    count = int(np.prod(shape))
    if kind in (0, 1):
        return np.frombuffer(data, "<f4" if kind == 0 else "<f2", count).astype(np.float32).reshape(shape)
    if kind not in BLOCKS:
        raise ValueError(f"ggml type {kind}; this reader knows 0, 1 and {sorted(BLOCKS)}")
    layout, width, decode = BLOCKS[kind]
    if shape[-1] % width:
        raise ValueError(f"rows of {shape[-1]} values are not whole blocks of {width}")
    return decode(np.frombuffer(data, np.dtype(layout), count // width)).reshape(shape)


def _scale(blocks: Array, name: str = "scale") -> Array:
    import numpy as np

    scale: Array = blocks[name].astype(np.float32)[:, None]
    return scale


def _nibbles(packed: Array) -> Array:
    """(n, 16) bytes -> (n, 32) values 0..15: all low halves first, then all high halves."""
    import numpy as np

    values: Array = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)
    return values


def q4_0(blocks: Array) -> Array:
    """Four bits: value = scale (q - 8)."""
    values: Array = _scale(blocks) * (_nibbles(blocks["q"]) - 8)
    return values


def q4_1(blocks: Array) -> Array:
    """Four bits: value = scale q + minimum."""
    return _scale(blocks) * _nibbles(blocks["q"]) + _scale(blocks, "low")


def q8_0(blocks: Array) -> Array:
    """Eight bits: value = scale q."""
    import numpy as np

    return _scale(blocks) * blocks["q"].astype(np.float32)


def q6_k(blocks: Array) -> Array:
    """Six bits in blocks of 256: value = scale * group's scale * (q - 32); q has four bits in `low` and two in `high`.

    Each half of 128 values is four runs of 32. Runs 0 and 1 use the low halves of the half's 64 bytes, runs 2 and 3 the
    high halves; run r takes bits 2r and 2r + 1 of the half's 32 `high` bytes. A group is 16 values.
    """
    import numpy as np

    low, high = blocks["low"].reshape(-1, 2, 2, 32), blocks["high"].reshape(-1, 2, 1, 32)
    four = np.concatenate([low & 15, low >> 4], axis=2)  # (n, 2, 4, 32)
    two = (high >> np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)) & 3
    q = (four | (two << 4)).astype(np.float32) - 32
    groups = blocks["group"].astype(np.float32).reshape(-1, 2, 4, 2, 1)
    values: Array = _scale(blocks) * (q.reshape(-1, 2, 4, 2, 16) * groups).reshape(-1, 256)
    return values


Q4_0 = [("scale", "<f2"), ("q", "u1", 16)]
BLOCKS: dict[int, tuple[list[Any], int, Callable[[Array], Array]]] = {
    2: (Q4_0, 32, q4_0),
    3: ([("scale", "<f2"), ("low", "<f2"), ("q", "u1", 16)], 32, q4_1),
    8: ([("scale", "<f2"), ("q", "i1", 32)], 32, q8_0),
    14: ([("low", "u1", 128), ("high", "u1", 64), ("group", "i1", 16), ("scale", "<f2")], 256, q6_k),
}
