"""What tells one raw input from another: a hash of its content, never of a name that may change its meaning."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from acclimate.errors import UserError

SIZE = 16  # bytes of a key
T = TypeVar("T")
FROM_FILES = ("image", "audio")  # modalities where a text is the path of a file


def key_of(value: Any, modality: str = "text") -> bytes:
    """A 16-byte hash of the content of one raw input: text, pairs, bytes, arrays, pictures, and files by their bytes.

    A path is read (once, until the file changes). A text is a path where `modality` is image or audio.
    """
    if isinstance(value, Path) or (isinstance(value, str) and modality in FROM_FILES):
        return _file(os.fspath(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _hash(b"bytes", value)
    if type(value).__module__.partition(".")[0] == "PIL":
        return _picture(value)
    try:
        plain = _json(value, modality).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(plain, digest_size=SIZE).digest()  # JSON holds no NUL, so it is none of the other kinds
    except TypeError:  # not made of plain values alone
        return _parts(value, modality)


def _json(value: Any, modality: str) -> str:
    if modality in FROM_FILES and isinstance(value, (list, tuple, dict)) and _holds_text(value):
        raise TypeError  # of several files, for example
    return json.dumps(value, ensure_ascii=False)


def _holds_text(value: Any) -> bool:
    return any(isinstance(part, str) for part in (value.values() if isinstance(value, dict) else value))


def _parts(value: Any, modality: str) -> bytes:
    """Lists and dicts by the keys of what they hold; arrays and tensors by type, shape and numbers."""
    if isinstance(value, (list, tuple)):
        return _hash(b"list", b"".join(key_of(part, modality) for part in value))
    if isinstance(value, dict):
        named = [key_of(name) + key_of(part, modality) for name, part in value.items()]
        return _hash(b"dict", b"".join(sorted(named)))
    import numpy as np

    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        array = np.ascontiguousarray(value)
        return _hash(f"array {array.dtype.str} {np.shape(value)}".encode(), array.reshape(-1).view(np.uint8).data)
    raise UserError(
        f"an input of type {type(value).__name__} cannot be told from others by its content; "
        "give text, bytes, a path, an array or a picture"
    )


def _picture(picture: Any) -> bytes:
    """A Pillow image by mode, size, pixels and (where it has one) the palette that gives pixels their colour."""
    palette = picture.palette
    colours = b"" if palette is None else f"{palette.mode} ".encode() + bytes(palette.palette)
    return _hash(f"picture {picture.mode} {picture.size}".encode(), colours, picture.tobytes())


def once_a_file(make: Callable[[Any], T], most: int) -> Callable[[Any], T]:
    """`make`, called once for a file as long as its size and times stay, and every time for what is no path.

    The newest `most` results are kept. OSError where there is no such file.
    """

    @lru_cache(maxsize=most)
    def of_file(path: str, size: int, written: int, changed: int) -> T:
        return make(path)

    def of(value: Any) -> T:
        if not isinstance(value, (str, os.PathLike)):
            return make(value)
        facts = os.stat(value)  # the time of the last change also moves where a copy keeps the older time
        return of_file(os.fspath(value), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)

    return of


def _file(path: str) -> bytes:
    try:
        return _hash_of_file(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read: {reason}; check the path") from error


def _hashed(path: str) -> bytes:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(b"file\0", digest_size=SIZE))
    return digest.digest()


_hash_of_file = once_a_file(_hashed, 1 << 18)


def _hash(kind: bytes, *contents: Any) -> bytes:
    digest = hashlib.blake2b(kind + b"\0", digest_size=SIZE)
    for content in contents:
        digest.update(len(content).to_bytes(8, "little") if len(contents) > 1 else b"")
        digest.update(content)
    return digest.digest()
