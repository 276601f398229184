"""Reads the weights of a CTranslate2 model file (`model.bin`), as faster-whisper ships them.

Layout: version, name of the model's specification, its revision, count of variables; then each variable as name, rank,
shape, type, bytes; then aliases (name, name of the variable it stands for). Texts have a two-byte length.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

TYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}


def read_ct2(data: bytes) -> tuple[str, dict[str, Array]]:
    """(name of the specification, all variables by name, aliases included)."""
    import numpy as np

    at = 0

    def number(code: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from("<" + code, data, at)
        at += struct.calcsize("<" + code)
        return int(value)

    def text() -> str:
        nonlocal at
        length = number("H")
        at += length
        return data[at - length : at].rstrip(b"\0").decode()

    version = number("I")
    if version not in (5, 6):
        raise ValueError(f"CTranslate2 file version {version}; this reader knows 5 and 6")
    specification = text()
    number("I")  # the specification's revision: it does not change the layout
    variables: dict[str, Array] = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, length = number("B"), number("I")
        variables[name] = np.frombuffer(data, TYPES[kind], int(np.prod(shape)), at).reshape(shape)
        if variables[name].nbytes != length:
            raise ValueError(f"variable {name!r} of shape {shape} has {length} bytes")
        at += length
    for _ in range(number("I")):
        alias, name = text(), text()
        variables[alias] = variables[name]
    return specification, variables
