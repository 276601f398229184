"""Reads the weights and the wiring of an ONNX file without the onnx package: the few protobuf fields that matter.

Protobuf's wire format: each field is a key `(number << 3) | kind` and a value; kind 0 is a varint, 1 eight bytes, 2 a
length and that many bytes (texts, messages, packed numbers), 5 four bytes. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

TYPES = {1: "<f4", 2: "|u1", 3: "|i1", 6: "<i4", 7: "<i8", 9: "|b1", 10: "<f2", 11: "<f8"}  # TensorProto.DataType


@dataclass
class Node:
    """One operation: its kind, the names of what it reads and writes, and tensors that it carries as attributes."""

    kind: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    tensors: list[Array] = field(default_factory=list)


@dataclass
class Graph:
    """Weights by name, operations in order."""

    weights: dict[str, Array] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)


def read_onnx(data: bytes) -> Graph:
    """All initialisers by name, and all nodes in order."""
    graph = Graph()
    for number, value in fields(memoryview(data)):
        if number == 7:  # ModelProto.graph
            for part, content in fields(_bytes(value)):
                if part == 1:  # GraphProto.node
                    graph.nodes.append(_node(_bytes(content)))
                elif part == 5:  # GraphProto.initializer
                    name, array = _tensor(_bytes(content))
                    graph.weights[name] = array
    if not graph.nodes:
        raise ValueError("not an ONNX model: no graph in it")
    return graph


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of one message, in order, as (number, value)."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            length, at = varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"protobuf wire kind {kind} at byte {at}: the file is damaged or not protobuf")
        if at + length > len(data):
            raise ValueError(f"a protobuf field of {length} bytes at byte {at} is cut off")
        yield key >> 3, data[at : at + length]
        at += length


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first; the top bit says that another group follows."""
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("a protobuf number is cut off at the end of its message")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a protobuf number stands where a message or text belongs")
    return value


def _text(value: int | memoryview) -> str:
    return str(_bytes(value), "utf-8")


def _node(data: memoryview) -> Node:
    node = Node()
    for number, value in fields(data):
        if number == 1:
            node.inputs.append(_text(value))
        elif number == 2:
            node.outputs.append(_text(value))
        elif number == 4:
            node.kind = _text(value)
        elif number == 5:  # an attribute; field 5 of that is a tensor
            node.tensors += [_tensor(_bytes(inner))[1] for part, inner in fields(_bytes(value)) if part == 5]
    return node


def _tensor(data: memoryview) -> tuple[str, Array]:
    import numpy as np

    shape: list[int] = []
    kind, name, content, floats = 0, "", memoryview(b""), False
    numbers: list[int] = []
    for number, value in fields(data):
        if number == 1:
            shape += [value] if isinstance(value, int) else _packed(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8:
            name = _text(value)
        elif number == 9 or (number in (4, 10) and not isinstance(value, int)):  # raw_data; float_data, double_data
            content, floats = _bytes(value), number == 4
        elif number in (5, 7):  # int32_data, int64_data
            numbers += [value] if isinstance(value, int) else _packed(value)
    if kind not in TYPES:
        raise ValueError(f"tensor {name!r} has ONNX type {kind}; this reader knows {sorted(TYPES)}")
    if numbers:
        array = np.array([n - (1 << 64) if n >> 63 else n for n in numbers], np.int64).astype(TYPES[kind])
    else:
        array = np.frombuffer(content, "<f4" if floats else TYPES[kind])
    if array.size != math.prod(shape):
        raise ValueError(f"tensor {name!r} has {array.size} values, which do not fill the shape {tuple(shape)}")
    return name, array.reshape(shape)


def _packed(data: memoryview) -> list[int]:
    numbers, at = [], 0
    while at < len(data):
        number, at = varint(data, at)
        numbers.append(number)
    return numbers


def named_weights(graph: Graph) -> dict[str, Array]:
    """The weights under the names they had in PyTorch.

    Exporting turns a linear layer x W' + b into MatMul and Add, and W', transposed, loses its name while b keeps it:
    the weight's name is read off the bias that is added to the product.
    """
    products = {
        node.outputs[0]: node.inputs[1]
        for node in graph.nodes
        if node.kind == "MatMul" and node.inputs[1] in graph.weights
    }
    found = {name: array for name, array in graph.weights.items() if not name.startswith("onnx::")}
    for node in graph.nodes:
        if node.kind != "Add":
            continue
        product = next((name for name in node.inputs if name in products), None)
        bias = next((name for name in node.inputs if name in graph.weights and name.endswith(".bias")), None)
        if product and bias:
            found[bias.removesuffix("bias") + "weight"] = graph.weights[products[product]].T
    return found
