from __future__ import annotations

import os
from pathlib import Path

import filelock
import numpy as np
import pytest

from acclimate.catalogue import feature_parts as parts

F32 = np.dtype(np.float32)


def keys(*numbers: int) -> parts.Keys:
    return np.frombuffer(b"".join(n.to_bytes(16, "little") for n in numbers), parts.KEY)


def put(folder: Path, *numbers: int, shift: float = 0.0) -> parts.Part:
    """The row of number n is (n, n + ½)."""
    values = (np.array(numbers, np.float32)[:, None] + np.array([0, 0.5], np.float32)) + np.float32(shift)
    return parts.write(folder, keys(*numbers), iter([values[:1], values[1:]]), 2, F32)


def content(folder: Path) -> dict[int, list[float]]:
    found = parts.read(folder, 2, F32)
    assert all(len(part.keys) == len(part.values) for part in found)
    return {
        int.from_bytes(bytes(k), "little"): v.tolist() for p in found for k, v in zip(p.keys, p.values, strict=True)
    }


def names(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.iterdir() if f.suffix in (".npy", ".tmp"))


def test_a_part_comes_back_as_it_was_written(tmp_path: Path) -> None:
    part = put(tmp_path, 3, 1, 256)
    assert isinstance(part.values, np.memmap)
    assert content(tmp_path) == {3: [3.0, 3.5], 1: [1.0, 1.5], 256: [256.0, 256.5]}
    assert np.load(tmp_path / f"{part.name}.values.npy").dtype == np.float32
    assert np.load(tmp_path / f"{part.name}.keys.npy").shape == (3, 16)


@pytest.mark.parametrize(("width", "dtype"), [(3, "float32"), (2, "float16"), (2, "float64")])
def test_other_widths_and_types_are_passed_over(width: int, dtype: str, tmp_path: Path) -> None:
    put(tmp_path, 1)
    assert parts.read(tmp_path, width, np.dtype(dtype)) == []


def test_few_parts_stay_as_they_are(tmp_path: Path) -> None:
    for n in range(parts.MOST):
        put(tmp_path, n)
    before = names(tmp_path)
    assert not parts.tidy(tmp_path, 2, F32)
    assert names(tmp_path) == before


def test_many_small_parts_become_one_and_open_ones_stay_readable(tmp_path: Path) -> None:
    opened = [put(tmp_path, n, n + 100) for n in range(parts.MOST + 1)]
    put(tmp_path, 3, 500, shift=0.25)  # another process has computed row 3 as well
    before = content(tmp_path)
    before.pop(3)
    assert parts.tidy(tmp_path, 2, F32)
    assert len(names(tmp_path)) == 2
    after = content(tmp_path)
    assert after.pop(3) in ([3.0, 3.5], [3.25, 3.75])
    assert after == before
    assert [part.values[0].tolist() for part in opened] == [[n, n + 0.5] for n in range(parts.MOST + 1)]


def test_large_parts_are_not_copied_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SMALL", 3)
    large = put(tmp_path, 1001, 1002, 1003)
    for n in range(parts.MOST + 1):
        put(tmp_path, n)
    assert parts.tidy(tmp_path, 2, F32)
    assert len(names(tmp_path)) == 4
    assert f"{large.name}.keys.npy" in names(tmp_path)
    assert len(content(tmp_path)) == parts.MOST + 4


def test_a_merge_killed_before_it_removed_the_old_parts_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(parts.MOST + 1):
        put(tmp_path, n)

    def killed(self: Path, missing_ok: bool = False) -> None:
        if self.name.endswith(".npy"):
            raise KeyboardInterrupt
        os.unlink(self) if self.exists() or not missing_ok else None

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "unlink", killed)
        parts.tidy(tmp_path, 2, F32)
    expected = {n: [n, n + 0.5] for n in range(parts.MOST + 1)}
    assert len(names(tmp_path)) == 2 * parts.MOST + 4
    assert content(tmp_path) == expected
    assert parts.tidy(tmp_path, 2, F32)
    assert len(names(tmp_path)) == 2
    assert content(tmp_path) == expected


def test_a_reader_in_the_middle_of_a_merge_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(parts.MOST + 1):
        put(tmp_path, n)
    load, merged = np.load, []

    def slow(path: Path, **how: object) -> object:
        if not merged:
            merged.append(True)
            with monkeypatch.context() as patched:
                patched.setattr(np, "load", load)
                parts.tidy(tmp_path, 2, F32)
        return load(path, **how)

    monkeypatch.setattr(np, "load", slow)
    assert len(content(tmp_path)) == parts.MOST + 1


def test_only_one_process_tidies(tmp_path: Path) -> None:
    for n in range(parts.MOST + 1):
        put(tmp_path, n)
    with filelock.FileLock(tmp_path / ".tidy.lock"):
        assert not parts.tidy(tmp_path, 2, F32)
    assert parts.tidy(tmp_path, 2, F32)


def test_what_is_not_whole_goes_once_it_is_old(tmp_path: Path) -> None:
    good, cut, alone = put(tmp_path, 1), put(tmp_path, 2), put(tmp_path, 3)
    broken = tmp_path / f"{cut.name}.values.npy"
    broken.write_bytes(broken.read_bytes()[:-4])
    (tmp_path / f"{alone.name}.keys.npy").unlink()
    (tmp_path / ".x.values.npy.12.tmp").write_bytes(b"half")
    before = names(tmp_path)
    assert not parts.tidy(tmp_path, 2, F32)
    assert names(tmp_path) == before, "it may be being written"
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    parts.tidy(tmp_path, 2, F32)
    assert names(tmp_path) == [f"{good.name}.keys.npy", f"{good.name}.values.npy"]
    assert content(tmp_path) == {1: [1.0, 1.5]}


def test_the_first_of_each() -> None:
    assert parts.first_of_each(keys(5, 2, 5, 1, 2)).tolist() == [3, 1, 0]
    assert parts.first_of_each(keys()).tolist() == []
