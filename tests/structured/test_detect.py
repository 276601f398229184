"""Detection: every form of boxes, the gate, average precision beside the library's, both detectors, a DETR folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import acclimate
from acclimate.data.boxes import Box
from acclimate.data.rows import Columns
from acclimate.errors import UserError
from acclimate.metrics.detection import RECALLS, average_precision, match, matches_of
from acclimate.progress import Progress
from acclimate.structured.base import Asked, labels_of
from acclimate.structured.detect import Detect
from acclimate.structured.detect_network import Part, shaken
from tiny_scenes import squares, timm_folder

sys.path.append(str(Path(__file__).parent))
from task_examples import detect_example, fit


def read(source: Any) -> tuple[dict[str, tuple[Box, ...]], Any]:
    data, audit = Detect().read(source, Asked(Columns(), False, Progress()), "train")
    return {Path(x).name: boxes for x, boxes in zip(data.inputs, labels_of(data), strict=True)}, audit


def picture(path: Path, wide: int = 64, high: int = 48, orientation: int = 1) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(len(str(path))).integers(0, 255, (high, wide, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return str(path)


BOXES = (Box(10, 12, 30, 28, "red"), Box(40, 8, 60, 40, "blue"))


def in_every_form(folder: Path) -> dict[str, Any]:
    """The same picture and boxes as VOC, COCO, YOLO with classes.txt and with data.yaml, and both kinds of table."""
    for name in ("voc/JPEGImages", "coco/images", "yolo/images", "data/train/images", "table"):
        picture(folder / name / "a.jpg")
    corners = [f"<xmin>{b.x1}</xmin><ymin>{b.y1}</ymin><xmax>{b.x2}</xmax><ymax>{b.y2}</ymax>" for b in BOXES]
    objects = "".join(
        f"<object><name>{b.label}</name><bndbox>{c}</bndbox></object>" for b, c in zip(BOXES, corners, strict=True)
    )
    (folder / "voc" / "Annotations").mkdir()
    size = "<size><width>64</width><height>48</height></size>"
    (folder / "voc" / "Annotations" / "a.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    coco = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 64, "height": 48}],
        "categories": [{"id": 3, "name": "red"}, {"id": 9, "name": "blue"}],
        "annotations": [
            {"image_id": 7, "category_id": 9 - 6 * (b.label == "red"), "bbox": [b.x1, b.y1, b.x2 - b.x1, b.y2 - b.y1]}
            for b in BOXES
        ],
    }  # fmt: skip
    (folder / "coco" / "boxes.json").write_text(json.dumps(coco))
    lines = [
        f"{i} {(b.x1 + b.x2) / 128} {(b.y1 + b.y2) / 96} {(b.x2 - b.x1) / 64} {(b.y2 - b.y1) / 48}"
        for i, b in enumerate(BOXES)
    ]
    for place in ("yolo/labels", "data/train/labels"):
        (folder / place).mkdir()
        (folder / place / "a.txt").write_text("\n".join(lines))
    (folder / "yolo" / "classes.txt").write_text("red\nblue\n")
    (folder / "data" / "data.yaml").write_text("train: ../train/images\nnames: [red, blue]\n")
    rows = [f"a.jpg,{b.x1},{b.y1},{b.x2},{b.y2},{b.label}" for b in BOXES]
    (folder / "table" / "boxes.csv").write_text("path,x1,y1,x2,y2,label\n" + "\n".join(rows) + "\n")
    held = [{"box": list(b[:4]), "label": b.label} for b in BOXES]
    names = ["voc", "coco", "coco/boxes.json", "yolo", "data", "table/boxes.csv"]
    in_python = [{"file": str(folder / "table" / "a.jpg"), "boxes": held}]
    return {**{name: folder / name for name in names}, "rows in Python": in_python}


def test_every_form_gives_the_same_boxes(tmp_path: Path) -> None:
    for name, path in in_every_form(tmp_path).items():
        found, audit = read(path)
        assert list(found) == ["a.jpg"], name
        for box, expected in zip(found["a.jpg"], BOXES, strict=True):
            assert box.label == expected.label and np.allclose(box[:4], expected[:4], atol=1e-3), name
        assert (audit.read, audit.kept) == (1, 1)


def test_a_list_of_voc_names_reads_those_alone(tmp_path: Path) -> None:
    squares(tmp_path / "voc", 5, 0)
    (tmp_path / "voc" / "ImageSets" / "Main").mkdir(parents=True)
    path = tmp_path / "voc" / "ImageSets" / "Main" / "train.txt"
    path.write_text("0_001\n0_003\n")
    assert sorted(read(path)[0]) == ["0_001.png", "0_003.png"]


def test_the_gate_counts_boxes_and_names_pictures(tmp_path: Path) -> None:
    lines = ["path,x1,y1,x2,y2,label"]
    for name in ("good", "outside", "only", "wrong", "empty"):
        picture(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    lines += ["good.png,1,1,20,20,a", "good.png,1,1,20,20,a", "good.png,50,30,80,60,a", "good.png,5,5,5,9,a"]
    lines += ["outside.png,100,100,120,120,a", "outside.png,3,3,9,9,b", "only.png,70,1,90,9,a", "wrong.png,1,x,3,4,a"]
    lines += ["empty.png,,,,,", "broken.png,1,1,2,2,a", "missing.png,1,1,2,2,a"]
    (tmp_path / "boxes.csv").write_text("\n".join(lines) + "\n")
    found, audit = read(tmp_path / "boxes.csv")
    assert found["good.png"] == (Box(1, 1, 20, 20, "a"), Box(50, 30, 64, 48, "a"))
    assert found["outside.png"] == (Box(3, 3, 9, 9, "b"),) and found["empty.png"] == ()
    assert audit.dropped == {
        "no_usable_box": (8,), "bad_box": (9,), "not_a_picture": (11,), "missing_file": (12,)
    }  # fmt: skip
    assert audit.read == audit.kept + 4 == 7
    counts = {f.kind: f.count for f in audit.findings}
    assert counts == {"clipped_box": 1, "box_outside": 2, "empty_box": 1, "double_box": 1, "no_box": 1}


def test_what_annotations_say_of_the_picture_is_checked(tmp_path: Path) -> None:
    voc = squares(tmp_path / "voc", 3, 0)
    (voc / "Annotations" / "0_000.xml").unlink()
    (voc / "Annotations" / "0_001.xml").write_text("<annotation><object>")
    text = (voc / "Annotations" / "0_002.xml").read_text()
    (voc / "Annotations" / "0_002.xml").write_text(text.replace("<width>64", "<width>640"))
    (voc / "Annotations" / "gone.xml").write_text("<annotation></annotation>")
    found, audit = read(voc)
    assert not found and audit.read == 4
    assert {reason: len(lines) for reason, lines in audit.dropped.items()} == {
        "no_annotation": 1, "bad_annotation": 1, "other_size": 1, "missing_file": 1
    }  # fmt: skip
    assert audit.facts["dropped_files"]["missing_file"].endswith("gone.jpg")
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"images": [], "categories": [], "annotations": [{"image_id": 5}]}))
    assert read(path)[1].dropped == {"no_picture": (1,)}


def test_boxes_turn_with_the_picture(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg", orientation=6)  # stored 64 x 48, upright 48 x 64
    image = {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}
    coco = {
        "images": [image],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 4], "iscrowd": 0}],
    }
    (tmp_path / "c.json").write_text(json.dumps(coco))
    found, audit = read(tmp_path / "c.json")
    assert found["a.jpg"] == (Box(44, 0, 48, 10, "a"),)  # the upper left corner comes to the upper right
    assert [f.kind for f in audit.findings] == ["turned_box"]
    image.update(width=48, height=64)
    (tmp_path / "c.json").write_text(json.dumps(coco))
    assert read(tmp_path / "c.json")[0]["a.jpg"] == (Box(0, 0, 10, 4, "a"),)


def drawn_boxes(n: int, seed: int) -> tuple[list[tuple[Box, ...]], list[tuple[Box, ...]]]:
    rng = np.random.default_rng(seed)
    truth, answers = [], []
    for _ in range(n):
        true, said = [], []
        for _ in range(int(rng.integers(0, 6))):
            x, y, w, h = rng.uniform(0, 60), rng.uniform(0, 60), rng.uniform(5, 30), rng.uniform(5, 30)
            true.append(Box(x, y, x + w, y + h, str(rng.choice(["a", "b"]))))
            for _ in range(int(rng.integers(0, 3))):
                dx, dy, dw = rng.normal(0, 2, 3)
                label = true[-1].label if rng.random() < 0.8 else "b"
                said.append(Box(x + dx, y + dy, x + w + dw, y + h, label, float(np.round(rng.random(), 3))))
        truth.append(tuple(true))
        answers.append(tuple(said))
    return truth, answers


def by_library(truth: list[tuple[Box, ...]], answers: list[tuple[Box, ...]], of: list[int]) -> list[float]:
    """mAP, mAP at 0.5 and 0.75 of faster-coco-eval, of these pictures (again and again where named so)."""
    from faster_coco_eval import COCO, COCOeval_faster

    codes = {"a": 1, "b": 2}
    boxes, said = [], []
    for i, k in enumerate(of):
        for b in truth[k]:
            size = [b.x1, b.y1, b.x2 - b.x1, b.y2 - b.y1]
            about = {"bbox": size, "area": size[2] * size[3], "iscrowd": 0, "category_id": codes[b.label]}
            boxes.append({**about, "id": len(boxes) + 1, "image_id": i + 1})
        for b in answers[k]:
            size = [b.x1, b.y1, b.x2 - b.x1, b.y2 - b.y1]
            said.append({"bbox": size, "score": b.score, "category_id": codes[b.label], "image_id": i + 1})
    images = [{"id": i + 1, "width": 200, "height": 200} for i in range(len(of))]
    names = [{"id": i, "name": name} for name, i in codes.items()]
    true = COCO({"images": images, "annotations": boxes, "categories": names})
    judge = COCOeval_faster(true, true.loadRes(said), "bbox", print_function=lambda *_: None)
    judge.run()
    return [float(v) for v in judge.stats[:3]]


def test_average_precision_is_the_librarys_on_rows_and_on_resamples() -> None:
    truth, answers = drawn_boxes(40, 0)
    measures = Detect().measures(truth, answers, {"classes": ["a", "b"]})
    rng = np.random.default_rng(1)
    weights = np.stack([np.ones(40), np.bincount(rng.integers(40, size=40), minlength=40)]).astype(float)
    for row in weights:
        of = [i for i, w in enumerate(row) for _ in range(int(w))]
        expected = by_library(truth, answers, of)
        found = [float(measures[name].at(row[None])[0]) for name in ("map", "map_50", "map_75")]
        assert found == pytest.approx(expected, abs=2e-3 if (row > 1).any() else 1e-9)  # equal scores: any order
    assert 0.1 < float(measures["map"].at(weights)[0]) < 0.9


def test_one_hit_of_two_by_hand() -> None:
    true = [(Box(0, 0, 10, 10, "a"), Box(20, 0, 30, 10, "a"))]
    said = [(Box(0, 0, 10, 8, "a", 0.9), Box(50, 50, 60, 60, "a", 0.8))]  # overlap 0.8
    found = average_precision(matches_of(true, said, "a"), np.ones((1, 1)))[0]
    half = float((RECALLS <= 0.5).mean())
    assert found == pytest.approx([half] * 7 + [0.0] * 3)
    assert match(np.zeros((0, 4)), np.zeros((2, 4))).shape == (10, 0)
    assert np.isnan(average_precision(matches_of(true, said, "b"), np.ones((1, 1)))).all()
    assert Detect().errors(true, said) == [2.0]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny timm folder."""
    return timm_folder(tmp_path_factory.mktemp("tiny") / "timm")


def test_boxes_follow_when_a_picture_is_mirrored_or_cut() -> None:
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[10:20, 8:24] = 255
    part = Part(pixels, (64, 48), np.array([[8, 10, 24, 20]], np.float32), np.array([0]))
    mirrored = set()
    for seed in range(12):
        one = shaken(part, torch.Generator().manual_seed(seed), 0.5)
        assert one.boxes is not None and one.boxes.shape == (1, 4)
        bright = np.argwhere(one.pixels[..., 0] > 100)
        (top, left), (bottom, right) = bright.min(0), bright.max(0) + 1
        assert np.abs(one.boxes[0] - [left, top, right, bottom]).max() <= 2.5
        mirrored.add(bool(left > 32))
    assert mirrored == {True, False}


@pytest.mark.parametrize(("detector", "epochs"), [("fcos", 6), ("faster_rcnn", 4)])
@pytest.mark.real  # slow
def test_squares_are_found(detector: str, epochs: int, tiny: Path, tmp_path: Path) -> None:
    one = detect_example(tmp_path)
    how = {"moves": "all", "num_train_epochs": epochs, "learning_rate": 3e-3, "head_learning_rate": 3e-3}
    model = fit("detect", one, tmp_path / "run", strategy="full", settings={**how, "detector": detector})
    assert model.scores is not None
    usual = model.scores.baseline["usual_places"]["value"]
    assert (model.scores.value or 0) > usual and (model.scores.estimates["map_50"].value or 0) > 0.3
    assert set(model.scores.per_class) == {"red", "blue"}


def test_rows_do_not_change_each_others_loss(tiny: Path, tmp_path: Path) -> None:
    one = detect_example(tmp_path)
    task = Detect(side=64, width=32, convs=1)
    data, _ = task.read(one.train, Asked(Columns(), False, Progress()), "train")
    torch.manual_seed(0)
    network = task.network(str(tiny), task.learn(data), {}).eval()
    rows = network.encode(data.inputs[:3], labels_of(data)[:3])
    with torch.no_grad():
        together = network(network.collate(rows))
        alone = torch.cat([network(network.collate([row])) for row in rows])
    assert torch.allclose(together, alone, rtol=1e-4) and together.shape == (3,)


def test_a_detr_folder_is_tuned_and_loads_again(tmp_path: Path) -> None:
    from transformers import DetrImageProcessor, YolosConfig, YolosForObjectDetection

    torch.manual_seed(0)
    config = YolosConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=[64, 64],
        patch_size=16, num_detection_tokens=6, num_labels=5,
    )  # fmt: skip
    folder = tmp_path / "yolos"
    YolosForObjectDetection(config).save_pretrained(folder)
    DetrImageProcessor().save_pretrained(folder)
    one = detect_example(tmp_path)
    settings = {"moves": "all", "side": 64, "batch_size": 8, "num_train_epochs": 2, "score_threshold": 0.0}
    model = acclimate.fit(
        str(one.train), task="detect", model=str(folder), strategy="full", settings=settings, quiet=True,
        test_data=str(one.test), output_dir=tmp_path / "run",
    )  # fmt: skip
    again = acclimate.load(tmp_path / "run")
    assert again.predict(one.new) == model.predict(one.new)
    assert {box.label for row in model.predict(one.new) for box in row} <= {"red", "blue"}


def test_from_the_command_line(tiny: Path, tmp_path: Path) -> None:
    from acclimate.cli.main import app

    def cli(*args: object) -> str:
        found = CliRunner().invoke(app, [str(a) for a in args], prog_name="acclimate")
        assert found.exit_code == 0, found.output
        return found.output

    one, run = detect_example(tmp_path), tmp_path / "run"
    how = ["--set", "side=64", "--set", "width=32", "--set", "convs=1", "--set", "num_train_epochs=1"]
    asked = ["fit", one.train, "--task", "detection", "--model", tiny, "--strategy", "linear_probe"]
    cli(*asked, *how, "--set", "told_threshold=0.0", "--output-dir", run)
    pictures = one.test / "JPEGImages"
    (pictures / "bad.png").write_bytes(b"x")
    cli("predict", run, pictures, "--output", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == 9 and sum(row["boxes"] is None for row in rows) == 1
    boxes = json.loads(next(row["boxes"] for row in rows if row["boxes"]))
    assert set(boxes[0]) == {"box", "label", "score"}
    assert "map" in cli("evaluate", run, one.train)
    assert "data:image/jpeg" in (run / "report.html").read_text()


def test_settings_that_cannot_be() -> None:
    for settings in ({"detector": "yolo"}, {"width": 40}, {"side": 8}, {"nms": 2.0}):
        with pytest.raises(UserError, match=next(iter(settings))):
            Detect(**settings)  # type: ignore[arg-type]


def coco(folder: Path, **held: Any) -> str:
    """A COCO file beside its picture."""
    picture(folder / "images" / "a.jpg")
    usual = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": [{"id": 1, "name": "red"}]}
    (folder / "x.json").write_text(json.dumps({**usual, **held}))
    return str(folder / "x.json")


def test_coco_that_contradicts_itself_is_named(tmp_path: Path) -> None:
    box = {"category_id": 1, "bbox": [2, 3, 10, 10]}
    twice = [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "a.jpg"}, {"id": 2}]
    rows = [{"image_id": 1, **box}, {"image_id": 9, **box}]
    found, audit = read(coco(tmp_path / "a", images=twice, annotations=rows))
    assert found == {"a.jpg": (Box(2, 3, 12, 13, "red"),)}
    assert audit.dropped == {"twice_listed": (2,), "missing_file": (3,), "no_picture": (4,)}
    _, audit = read(coco(tmp_path / "b", annotations=[{"image_id": 1, **box, "category_id": 5}]))
    assert audit.dropped == {"unknown_class": (1,)}
    for held in ({"images": None}, {"annotations": [3]}, {"categories": {}}):
        with pytest.raises(UserError, match="is no list of objects"):
            read(coco(tmp_path / "c", **held))


def test_outlines_of_yolo_are_read_as_the_boxes_round_them(tmp_path: Path) -> None:
    for name, line in (
        ("a", "0 0.25 0.25 0.5 0.25 0.5 0.75"),
        ("b", "0 .5 .5 .5 .5 .9"),
        ("c", "0 .5 .5 .5 .5 .5 .5 .5"),
    ):
        picture(tmp_path / "images" / f"{name}.jpg")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{name}.txt").write_text(line)
    (tmp_path / "classes.txt").write_text("red")
    found, audit = read(str(tmp_path))
    assert found == {"a.jpg": (Box(16, 12, 32, 36, "red"),), "b.jpg": (Box(16, 12, 48, 36, "red"),)}
    assert list(audit.dropped) == ["bad_box"]


def test_shares_of_the_sides_are_no_pixels(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    (tmp_path / "t.csv").write_text("path,x1,y1,x2,y2,label\na.jpg,0.1,0.1,0.5,0.5,red\n")
    with pytest.raises(UserError, match="between 0 and 1"):
        read(str(tmp_path / "t.csv"))
