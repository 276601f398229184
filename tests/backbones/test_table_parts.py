"""Pictures and sounds among the columns of a table: each through a network of its own, known by what the files hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_models as tm
import tiny_sounds as ts
from acclimate.backbones import load
from acclimate.backbones.base import Backbone
from acclimate.backbones.table import Columns
from acclimate.data.column_types import Row, rows_of
from acclimate.data.kinds import KINDS as KINDS_OF_INPUT
from acclimate.errors import UserError
from acclimate.features import Store, extract
from acclimate.run import Run
from acclimate.train.solve import Scaling

Image = pytest.importorskip("PIL.Image", reason="pictures need the `image` extra")
KINDS = {"photo": "image", "notes": "text"}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of a model of texts, of pictures and of sounds."""
    place = tmp_path_factory.mktemp("parts")
    made = {"text": tm.write("bert", place / "bert", layers=2), "image": tm.write_vit(place / "vit")}
    return {kind: str(path) for kind, path in (made | {"audio": ts.write("whisper", place / "whisper")}).items()}


def drawn(folder: Path, n: int = 6) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(n)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)
    return paths


def rows(paths: list[Path]) -> list[Row]:
    cells = [(float(i), None if i == 2 else p, f"good river {i}") for i, p in enumerate(paths)]
    return rows_of(cells, ("x", "photo", "notes"), KINDS)


def test_each_kind_is_read_by_its_own_network_in_one_order(names: dict[str, str], tmp_path: Path) -> None:
    given = rows(paths := drawn(tmp_path))
    table = load(f"columns+{names['image']}+{names['text']}").fit_rows(given)
    assert isinstance(table, Columns) and table.origin.name == "columns+vit+bert"
    assert table.groups == (2, 32, 16) and table.kinds == ("columns", "text", "image")
    found = extract(table, given, Run())
    pictures = extract(load(names["image"]), [str(p) for p in paths], Run())
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
    pictures[2] = 0  # no picture is nothing, never a black one
    np.testing.assert_allclose(found[:, 34:], pictures, atol=1e-5)
    assert found[:, 1].tolist() == [0, 0, 1, 0, 0, 0]
    for kind, at in (("columns", slice(0, 1)), ("text", slice(2, 34)), ("image", slice(34, 50))):
        only = extract(table.only(kind), given, Run())
        np.testing.assert_allclose(only[:, -len(found[0, at]) :], found[:, at], atol=1e-6)


def test_a_row_shows_its_picture_and_plays_its_sound(tmp_path: Path) -> None:
    shown = [KINDS_OF_INPUT["table"].picture(row) for row in rows(drawn(tmp_path))]  # type: ignore[misc]
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in (*shown[:2], *shown[3:])) and shown[2] == ""
    (call,) = rows_of([(1.0, ts.sounds(1)[0])], ("x", "call"))
    assert KINDS_OF_INPUT["table"].picture(call).startswith("data:image/svg")  # type: ignore[misc]
    assert KINDS_OF_INPUT["table"].played(call).startswith("data:audio/mpeg")  # type: ignore[misc]


def test_one_row_is_read_as_among_others(names: dict[str, str], tmp_path: Path) -> None:
    given = rows(drawn(tmp_path))
    table = load(f"columns+{names['image']}+{names['text']}").fit_rows(given)
    np.testing.assert_allclose(
        np.concatenate([extract(table, [row], Run()) for row in given]), extract(table, given, Run()), atol=1e-5
    )


def test_a_changed_picture_is_read_anew_and_it_alone(
    names: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = drawn(tmp_path)
    given = rows(paths)
    run = Run(cache=tmp_path / "cache")
    name = f"columns+{names['image']}+{names['text']}"
    before = Store(load(name).fit_rows(given), run).get(given)
    paths[4].write_bytes(paths[5].read_bytes())
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(paths[5])
    table = load(name).fit_rows(given)
    seen: list[Any] = []
    pictures: Backbone = table.parts["image"].backbone
    plain = type(pictures).encode_later

    def counted(self: Backbone, inputs: Any) -> Any:
        seen.extend(inputs if self is pictures else [])
        return plain(self, inputs)

    monkeypatch.setattr(type(pictures), "encode_later", counted)
    after = Store(table, run).get(given)
    assert seen == [str(paths[5])]  # what the fifth holds now is known from the sixth
    assert np.array_equal(after[:4], before[:4]) and np.array_equal(after[4, 34:], before[5, 34:])
    assert not np.array_equal(after[5, 34:], before[5, 34:])


def test_sounds_beside_numbers(names: dict[str, str]) -> None:
    sounds = ts.sounds(4)
    given = rows_of([(float(i), sound) for i, sound in enumerate(sounds)], ("x", "call"))
    assert [column.kind for column in given[0].columns] == ["number", "audio"]
    table = load(f"columns+{names['audio']}", seconds=0.5).fit_rows(given)
    assert table.parts["audio"].backbone.settings()["seconds"] == 0.5
    assert extract(table, given, Run()).shape == (4, 1 + table.parts["audio"].width)


def test_pictures_beside_numbers_are_read_at_the_size_that_is_asked_for(names: dict[str, str]) -> None:
    name = f"columns+{names['image']}+{names['text']}"
    assert load(f"columns+{names['image']}", truncation="head", precision="fp32").parts.keys() == {"image"}
    table = load(name, image_size=48)
    assert table.parts["image"].backbone.settings()["size"] == 48
    assert table.read_at.startswith("48 x 48 pixels (the model's own size is ") and not load(name).read_at


def test_what_cannot_stand_beside_columns_is_refused(names: dict[str, str]) -> None:
    with pytest.raises(UserError, match="image_size 48 is for picture models, and .*bert.* has none"):
        load(f"columns+{names['text']}", image_size=48)
    with pytest.raises(UserError, match="'vit' and 'vit' both read image; give one model a kind"):
        load(f"columns+{names['image']}+{names['image']}")
    with pytest.raises(UserError, match="max_length 8 is for text models, and .*vit has none"):
        load(f"columns+{names['image']}", max_length=8)
    with pytest.raises(UserError, match="seconds 2.0 is for sound models"):
        load(f"columns+{names['image']}+{names['text']}", seconds=2.0)


def test_groups_of_features_count_alike() -> None:
    features = np.random.default_rng(0).normal(size=(200, 12)) * np.arange(1, 13)
    scaled = Scaling.of(features, groups=(2, 10)).apply(features)
    each = (scaled**2).mean(0)
    np.testing.assert_allclose([each[:2].sum(), each[2:].sum()], [0.5, 0.5])
    np.testing.assert_array_equal(
        Scaling.of(features, groups=(12,)).apply(features), Scaling.of(features).apply(features)
    )
