"""Pictures as files hold them: colours, orientation, transparency, bit depth, damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from acclimate.data import pictures
from acclimate.data.kinds.image import IMAGE, clusters, keys
from acclimate.errors import UserError
from drawn import bars

RED = (200, 30, 40)


def saved(path: Path, mode: str = "RGB", colour: object = RED, **settings: object) -> str:
    Image.new(mode, (40, 30), colour).save(path, **settings)  # type: ignore[arg-type]
    return str(path)


def test_a_turned_photo_is_set_upright(tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 30), (0, 0, 0))
    picture.paste(RED, (0, 0, 40, 10))  # a red strip on top
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    picture.save(tmp_path / "a.png", exif=exif)
    found = pictures.opened(tmp_path / "a.png")
    assert found.size == (30, 40)
    assert found.getpixel((25, 20)) == RED and found.getpixel((3, 20)) == (0, 0, 0)
    seen = pictures.look(tmp_path / "a.png")
    assert seen.turned and seen.size == (30, 40)


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    found = pictures.opened(saved(tmp_path / "a.png", "RGBA", (*RED, 0)))
    assert found.getpixel((5, 5)) == (255, 255, 255)
    half = pictures.opened(saved(tmp_path / "b.png", "LA", (0, 128)))
    assert half.getpixel((5, 5)) == (127, 127, 127)
    assert pictures.look(tmp_path / "a.png").alpha


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    values = np.full((20, 20), 65535, np.uint16)
    values[:10] = 257 * 100
    Image.fromarray(values).save(tmp_path / "a.png")
    found = np.asarray(pictures.opened(tmp_path / "a.png"))
    assert found[0, 0].tolist() == [100] * 3 and found[15, 0].tolist() == [255] * 3
    assert pictures.look(tmp_path / "a.png").brightest == 65535


def test_cmyk_palette_and_grey_give_their_colours(tmp_path: Path) -> None:
    assert pictures.opened(saved(tmp_path / "a.tif", "CMYK", (0, 255, 255, 0))).getpixel((0, 0)) == (255, 0, 0)
    palette = Image.new("RGB", (9, 9), RED).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "b.gif")
    assert pictures.opened(tmp_path / "b.gif").getpixel((0, 0)) == RED
    assert pictures.opened(saved(tmp_path / "c.png", "L", 77)).getpixel((0, 0)) == (77, 77, 77)


def test_of_several_frames_the_first_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (255, 255, 255)), Image.new("RGB", (8, 8), (0, 0, 0))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert pictures.opened(tmp_path / "a.gif").getpixel((0, 0)) == (255, 255, 255)
    assert pictures.look(tmp_path / "a.gif").frames == 2


@pytest.mark.parametrize(
    ("array", "colour"),
    [
        (np.full((6, 6), 40, np.uint8), 40),
        (np.full((6, 6, 1), 0.5, np.float32), 128),
        (np.full((6, 6, 3), 10, np.int64), 10),
        (np.full((6, 6), True), 255),
    ],
)  # fmt: skip
def test_arrays(array: np.ndarray, colour: int) -> None:  # type: ignore[type-arg]
    assert pictures.opened(array).getpixel((0, 0)) == (colour,) * 3


@pytest.mark.parametrize("array", [np.zeros((2, 2, 7)), np.zeros(5), np.full((4, 4), 3.5), np.full((3, 3), "x")])
def test_what_is_no_picture_is_refused(array: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(UserError, match="picture"):
        pictures.opened(array)


def test_why_a_file_cannot_be_used(tmp_path: Path) -> None:
    sound = Path(saved(tmp_path / "sound.jpg"))
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture at all")
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:9000])
    (tmp_path / "folder.jpg").mkdir()
    found = {p.stem: pictures.look(p).problem for p in sorted(tmp_path.iterdir())}
    assert found == {
        "cut": "broken_file", "empty": "empty_file", "folder": "not_a_picture", "sound": "", "text": "not_a_picture",
        "whole": "",
    }  # fmt: skip
    assert pictures.look(tmp_path / "none.jpg").problem == "missing_file"
    sound.write_bytes(b"now something else")
    assert pictures.look(sound).problem == "not_a_picture"  # a file that changed is looked at again


def test_a_draft_keeps_enough_pixels(tmp_path: Path) -> None:
    Image.new("RGB", (1600, 1200), RED).save(tmp_path / "big.jpg")
    assert min(pictures.opened(tmp_path / "big.jpg", 200).size) >= 200
    assert pictures.opened(tmp_path / "big.jpg").size == (1600, 1200)
    assert pictures.look(tmp_path / "big.jpg").size == (1600, 1200)


def test_near_duplicates_are_one_cluster_and_others_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = [np.kron(rng.integers(0, 255, (12, 12, 3)), np.ones((10, 10, 1))).astype(np.uint8) for _ in range(8)]
    paths = []
    for i, scene in enumerate(scenes):
        Image.fromarray(scene).save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
    Image.fromarray(scenes[2]).resize((90, 90)).save(tmp_path / "smaller.jpg", quality=80)
    Image.fromarray(scenes[5]).save(tmp_path / "same.png")
    every = [*paths, str(tmp_path / "smaller.jpg"), str(tmp_path / "same.png")]
    number = clusters(every, keys(every)).tolist()
    assert number[:8] == list(range(8)) and number[8:] == [2, 5]


def test_small_and_plain_pictures_are_duplicates_only_when_equal() -> None:
    small, _ = bars(30)  # 24 pixels: too little to tell
    plain = [np.full((80, 80, 3), v, np.uint8) for v in (10, 11, 200)]
    every = [*small, *plain, small[0]]
    number = clusters(every, keys(every)).tolist()
    assert number == [*range(33), 0]


def test_what_python_gives_is_checked(tmp_path: Path) -> None:
    from acclimate.data.rows import Columns

    columns = Columns(file="file", kind="image")
    path = saved(tmp_path / "a.png")
    assert IMAGE.given(path, columns, 0) == path
    assert IMAGE.given(None, columns, 0) is None
    with pytest.raises(UserError, match="input 3 .*there is no file"):
        IMAGE.given(str(tmp_path / "none.png"), columns, 2)
    (tmp_path / "b.png").write_bytes(b"x")
    with pytest.raises(UserError, match="is no picture"):
        IMAGE.given(tmp_path / "b.png", columns, 0)


ODD = Path(__file__).resolve().parents[3] / "shared" / "data" / "odd" / "images"
UNUSABLE = {"broken.png", "broken_data_stream.png", "truncated_image.png"}


@pytest.mark.skipif(not ODD.is_dir(), reason="the folder of odd pictures is not here")
def test_every_odd_picture_is_read_or_named() -> None:
    files = sorted(p for p in ODD.iterdir() if p.suffix != ".txt")
    seen = {p.name: pictures.look(p) for p in files}
    assert {name for name, s in seen.items() if s.problem} == UNUSABLE
    for p in files:
        if p.name not in UNUSABLE:
            assert pictures.opened(p).size == seen[p.name].size, p.name
    upright = np.asarray(pictures.opened(ODD / "hopper.jpg"), float)
    turned = np.asarray(pictures.opened(ODD / "hopper_orientation_6.jpg").resize((128, 128)), float)
    assert np.corrcoef(upright.ravel(), turned.ravel())[0, 1] > 0.9
