"""Series from files, cells and arrays: what is read, what is dropped and why, and what is not taken for a series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny_series as ts
from acclimate.api.inspecting import inspect
from acclimate.data.columns import guess
from acclimate.data.kinds.series import SERIES
from acclimate.data.read import read
from acclimate.data.rows import Columns
from acclimate.data.series import Series, look, resampled
from acclimate.data.series_tables import gathered
from acclimate.errors import UserError
from acclimate.progress import Progress


def test_an_npz_file_is_a_table_of_series_with_its_labels(tmp_path: Path) -> None:
    table = read(ts.npz(tmp_path / "s.npz", 6))
    found = guess(table, Columns())
    assert (found.columns.kind, found.columns.file, found.columns.label) == ("series", "series", "label")
    rows = SERIES.read(table, found.columns, Progress()).inputs
    np.testing.assert_array_equal(rows[3].values, ts.series(6)[0][3])
    assert rows[3].rate == 50


def test_labels_of_another_length_than_the_series_are_one_error(tmp_path: Path) -> None:
    values, labels = ts.series(6)
    path = tmp_path / "s.npz"
    np.savez(path, values=values, y=np.array(labels[:5]), classes=np.array(["slow", "fast"]))
    said = r"s\.npz: y has 5 entries and values \(6, 2, 40\) holds 6 series; give it one entry a series"
    for columns in (Columns(), Columns(label="y")):
        with pytest.raises(UserError, match=said):
            guess(read(path), columns)
    np.savez(path, values=values, y=np.array(labels)[:, None], classes=np.array(["slow", "fast"]))
    assert list(read(path).columns) == ["series", "y"]
    np.savez(path, values=values[:, 0], label=np.array(labels))
    with pytest.raises(UserError, match=r"label has 6 entries and values \(6, 40\) holds 1 series"):
        guess(read(path), Columns())


def test_every_way_of_writing_gives_the_same_series(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    values, labels = ts.series(6)
    lists = {"a": [list(v[0]) for v in values], "b": [list(v[1]) for v in values], "kind": labels}
    pq.write_table(pa.table(lists), tmp_path / "cells.parquet")
    for kind in ("slow", "fast"):
        (tmp_path / "folder" / kind).mkdir(parents=True)
    for i, (one, label) in enumerate(zip(values, labels, strict=True)):
        np.savez(tmp_path / "folder" / label / f"{i}.npz", one)
    np.savez(tmp_path / "all.npz", X=values, y=np.array(labels))
    sources = {
        "cells": (tmp_path / "cells.parquet", Columns(label="kind", kind="series")),
        "long": (ts.long(tmp_path / "long.csv", 6), Columns(label="kind", kind="series", id="run", time="t")),
        "folder": (tmp_path / "folder", Columns()),
        "npz": (tmp_path / "all.npz", Columns()),
        "frame": ({"x": list(values), "y": labels}, Columns(kind="series", file="x")),
    }
    for name, (source, columns) in sources.items():
        table = gathered(read(source), columns)
        columns = guess(table, columns).columns
        rows = SERIES.read(table, columns, Progress()).inputs
        said = dict(
            zip(map(str, [np.round(r.values, 4).tobytes() for r in rows]), table.columns[columns.label], strict=True)
        )
        wanted = dict(zip(map(str, [np.round(v, 4).tobytes() for v in values]), labels, strict=True))
        if name == "long":  # written with six digits
            assert sorted(said.values()) == sorted(wanted.values())
            assert all(np.allclose(sorted(r.values[0])[0], r.values[0].min()) for r in rows)
            by_run = dict(zip(table.columns["run"], rows, strict=True))
            np.testing.assert_allclose(by_run["r4"].values, values[4], atol=1e-6)
        else:
            assert said == wanted, name


def test_sounds_pictures_tables_and_embeddings_stay_what_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = ["a", "b"] * 10
    embedding = {"v": [list(map(float, rng.normal(size=16))) for _ in label], "label": label}
    assert guess(read(embedding), Columns()).columns.kind != "series"
    numbers = {"x": list(map(float, rng.normal(size=20))), "z": list(range(20)), "label": label}
    assert guess(read(numbers), Columns()).columns.kind == "table"
    picture = {"p": [rng.random((8, 8)) for _ in label], "label": label}
    assert guess(read(picture), Columns()).columns.kind == "image"
    boxes = {"b": [[0, 1, 2, 3]] * 20, "c": [[4, 5, 6, 7]] * 20, "text": ["some words here"] * 20, "label": label}
    assert guess(read(boxes), Columns()).columns.kind == "text"


def test_channels_of_a_sound_file_are_kept_apart(tmp_path: Path) -> None:
    sf = pytest.importorskip("soundfile", reason="sounds need the `audio` extra")
    values = 0.5 * ts.series(1, channels=3)[0][0]
    sf.write(tmp_path / "x.wav", values.T, 400, subtype="FLOAT")
    seen = look(tmp_path / "x.wav").series
    assert seen is not None and seen.rate == 400
    np.testing.assert_allclose(seen.values, values, atol=1e-6)
    for kind in ("slow", "fast"):
        (tmp_path / "w" / kind).mkdir(parents=True)
        sf.write(tmp_path / "w" / kind / "1.wav", values.T, 400, subtype="FLOAT")
    assert guess(read(tmp_path / "w"), Columns()).columns.kind == "audio"
    assert guess(read(tmp_path / "w"), Columns(kind="series")).columns.kind == "series"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([[1.0, 2.0], [1.0]], "uneven_channels"),
        (["a", "b"], "bad_series"),
        (np.zeros((2, 0)), "no_steps"),
        (np.full((2, 5), np.nan), "no_numbers"),
        (np.zeros((2, 2, 2)), "bad_series"),
        ("nowhere.npz", "missing_file"),
    ],
)
def test_what_cannot_be_used_has_a_reason(value: object, reason: str) -> None:
    assert (look(value).series, look(value).reason) == (None, reason)


def test_the_gate_accounts_for_every_row_and_names_what_is_odd(tmp_path: Path) -> None:
    values, labels = ts.series(12)
    cells: list[object] = [*values[:8], values[8][:1], np.full((2, 40), np.nan), None, [[1.0], [2.0, 3.0]]]
    cells[1] = np.where(np.arange(40) % 3 == 0, np.nan, values[1])
    cells[2] = np.vstack([values[2][0], np.ones(40)])
    account = inspect({"x": cells, "label": labels}, modality="series", file_column="x", rate=10.0).audit
    assert (account.read, account.kept) == (12, 8)
    assert account.dropped == {
        "blank_input": (11,), "uneven_channels": (12,), "no_numbers": (10,), "other_channels": (9,)
    }  # fmt: skip
    found = {one.kind: one for one in account.findings}
    assert found["missing_values"].lines == (2,) and found["missing_values"].severity == "warning"
    assert found["constant_channel"].lines == (3,) and "at 10 Hz" in found["series_length"].message
    assert "no_rate" not in found


def test_a_label_that_changes_within_a_series_is_refused(tmp_path: Path) -> None:
    rows = {"run": ["a", "a", "b", "b"], "v": [1.0, 2.0, 3.0, 5.0], "y": ["p", "q", "p", "p"]}
    with pytest.raises(UserError, match="'y' has several values in the lines of 'a'"):
        gathered(read(rows), Columns(kind="series", id="run", label="y"))


def test_resampling_keeps_waves_and_gaps() -> None:
    at = np.arange(200) / 100
    wave = np.sin(2 * np.pi * 3 * at)
    half = resampled(Series(wave[None], 100.0), 50.0)[0]
    np.testing.assert_allclose(half[5:-5], wave[::2][5:-5], atol=0.02)
    holed = wave.copy()
    holed[50:60] = np.nan
    found = resampled(Series(holed[None], 100.0), 50.0)[0]
    assert np.isnan(found[26:29]).all() and np.isfinite(found[:24]).all()
    np.testing.assert_allclose(found[:24], wave[:48:2], atol=1e-9)
    same = Series(holed[None], 0.0)
    assert resampled(same, 50.0) is same.values  # nobody said its rate


def test_equal_series_have_equal_keys_whatever_they_lie_in() -> None:
    one = ts.series(1)[0][0]
    keys = SERIES.keys([Series(one, 5.0), Series(one.copy(), 5.0), Series(one, 6.0), Series(one + 1, 5.0)])
    assert keys[0] == keys[1] and len(set(keys)) == 3
