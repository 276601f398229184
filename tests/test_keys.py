from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from acclimate import keys
from acclimate.errors import UserError
from acclimate.keys import key_of


def test_keys_tell_inputs_apart(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    values = ["a", "b", '["a", "b"]', ("a", "b"), ("b", "a"), ("ab", ""), "\ud800", "", None, 1, 1.5, "1", "null"]
    values += [b"a", b"b", b'"a"', tmp_path / "a", np.array([97], np.uint8), [b"a"], [b"a", "b"], {"x": b"a"}]
    found = [key_of(value) for value in values]
    assert len(set(found)) == len(values)
    assert {len(key) for key in found} == {16}


def test_the_key_of_a_text_is_what_it_always_was() -> None:
    """Else features kept by an earlier release would be computed again, and the old ones lie around."""
    assert key_of("a") == hashlib.blake2b(b'"a"', digest_size=16).digest()
    assert key_of(("a", "b")) == key_of(["a", "b"]) == hashlib.blake2b(b'["a", "b"]', digest_size=16).digest()


def test_a_file_counts_by_its_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "1.png", tmp_path / "2.png"
    first.write_bytes(b"one")
    second.write_bytes(b"one")
    before = key_of(first)
    assert key_of(second) == before == key_of(str(first), "image") == key_of(str(first), "audio")
    assert key_of(str(first)) != before, "for a text model a path is a text"
    first.write_bytes(b"other")
    assert key_of(first) != before
    first.write_bytes(b"two")  # of the same length
    os.utime(first, ns=(1, 1))
    assert key_of(first) not in (before, key_of(second))


def test_a_file_is_read_once_while_it_stays(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    read: list[object] = []
    once = keys.once_a_file(read.append, 10)
    for _ in range(3):
        once(tmp_path / "x")
    assert read == [str(tmp_path / "x")]
    (tmp_path / "x").write_bytes(b"y")
    once(tmp_path / "x")
    assert len(read) == 2
    once(b"no path")
    once(b"no path")
    assert len(read) == 4


def test_a_list_of_files_counts_by_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    pair = [str(tmp_path / "x"), 3]
    before = key_of(pair, "image")
    (tmp_path / "x").write_bytes(b"longer")
    assert key_of(pair, "image") != before
    assert key_of(pair) == key_of(pair)


def test_a_picture_counts_by_size_mode_pixels_and_palette(tmp_path: Path) -> None:
    grey = Image.new("L", (4, 2), 7)
    grey.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        assert key_of(opened) == key_of(grey)
    coloured = [Image.new("P", (4, 2), 1), Image.new("P", (4, 2), 1)]
    coloured[0].putpalette([0, 0, 0, 255, 0, 0])
    coloured[1].putpalette([0, 0, 0, 0, 255, 0])
    pictures = [grey, Image.new("L", (2, 4), 7), Image.new("L", (4, 2), 8), Image.new("RGB", (4, 2), (7, 7, 7))]
    assert len({key_of(picture) for picture in [*pictures, *coloured]}) == 6


def test_arrays_count_by_type_shape_and_numbers() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    others = [array.reshape(3, 2), array.astype(np.float64), array + 1, array.view(np.int32), np.float32(0), array[:0]]
    assert len({key_of(value) for value in [array, *others]}) == 7
    assert key_of(np.asfortranarray(array)) == key_of(array) == key_of(torch.from_numpy(array))
    assert key_of((array, 16_000)) != key_of((array, 8_000))
    assert key_of({"a": array, "b": 1}) == key_of({"b": 1, "a": array})


def test_what_has_no_content_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"of type object cannot be told from others"):
        key_of(object())
    with pytest.raises(UserError, match=r"of type ndarray cannot be told"):
        key_of(np.array([object()]))
    with pytest.raises(UserError, match=r"gone\.png cannot be read: No such file or directory; check the path"):
        key_of(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"cannot be read"):
        key_of("a\0b", "image")
