"""Segmentation: masks as indices, palettes and colours, the gate, losses and metrics by hand, a SegFormer folder."""

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
from acclimate.cli.main import app
from acclimate.data.masks import legend_of, packed, unpacked
from acclimate.data.rows import Columns
from acclimate.errors import UserError
from acclimate.progress import Progress
from acclimate.structured.base import Asked, labels_of
from acclimate.structured.segment import Segment
from acclimate.structured.segment_network import Part, losses, shaken

sys.path.append(str(Path(__file__).parent))
from task_examples import fit, segment_example

PIXELS = np.array([[0, 1, 1], [2, 2, 0]], np.uint8)
NAMES = {"classes": ["a", "b", "c"]}


def read(source: Any, state: Any = None) -> tuple[Any, Any]:
    return Segment().read(source, Asked(Columns(), False, Progress()), "train", state)


def folder_of(place: Path, mask: Image.Image, name: str = "a") -> Path:
    for part in ("images", "masks"):
        (place / part).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 2), (9, 9, len(name))).save(place / "images" / f"{name}.png")
    mask.save(place / "masks" / f"{name}.png")
    return place


def test_every_form_of_mask_gives_the_same_indices(tmp_path: Path) -> None:
    palette = Image.fromarray(PIXELS).convert("P")
    palette.putdata(PIXELS.ravel().tolist())
    colours = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], np.uint8)[PIXELS]
    grey = folder_of(tmp_path / "grey", Image.fromarray(PIXELS))
    coloured = folder_of(tmp_path / "coloured", Image.fromarray(colours))
    (coloured / "classes.csv").write_text("name,r,g,b\nground,0,0,0\nred,200,0,0\nblue,0,0,200\n")
    table = tmp_path / "grey" / "rows.csv"
    table.write_text("image,mask\nimages/a.png,masks/a.png\n")
    for source in (grey, folder_of(tmp_path / "palette", palette), coloured, table):
        data, audit = read(source)
        assert (audit.read, audit.kept) == (1, 1)
        assert np.array_equal(unpacked(labels_of(data)[0]), PIXELS), source
    assert audit.labels == {"0": 2, "1": 2, "2": 2} and read(coloured)[1].labels == {"ground": 2, "red": 2, "blue": 2}


def test_the_gate_names_masks_that_cannot_be_used(tmp_path: Path) -> None:
    place = folder_of(tmp_path / "x", Image.fromarray(PIXELS), "good")
    folder_of(place, Image.fromarray(np.zeros((4, 3), np.uint8)), "large")
    folder_of(place, Image.fromarray(np.full((2, 3), 7, np.uint8)), "odd")
    folder_of(place, Image.fromarray(np.full((2, 3), 255, np.uint8)), "void")
    folder_of(place, Image.fromarray(np.array([[0, 0, 0], [0, 0, 255]], np.uint8)), "bare")
    folder_of(place, Image.fromarray(PIXELS), "alone")
    (place / "masks" / "alone.png").unlink()
    folder_of(place, Image.fromarray(PIXELS), "gone")
    (place / "images" / "gone.png").unlink()
    (place / "masks" / "bad.png").write_bytes(b"x")
    Image.new("RGB", (3, 2)).save(place / "images" / "bad.png")
    (place / "classes.txt").write_text("ground\nred\nblue\n")
    data, audit = read(place)
    assert [Path(x).stem for x in data.inputs] == ["bare", "good"] and audit.read == 8
    assert audit.facts["dropped_files"] == {
        "other_size": "images/large.png", "unknown_index": "images/odd.png", "all_ignored": "images/void.png",
        "no_mask": "images/alone.png", "missing_file": "images/gone.jpg", "bad_mask": "images/bad.png",
    }  # fmt: skip
    assert {f.kind for f in audit.findings} == {"empty_mask", "ignored_pixels"}
    (place / "classes.txt").unlink()
    assert "unknown_index" in read(place, NAMES)[1].dropped and "unknown_index" not in read(place)[1].dropped


def test_masks_of_0_and_255_are_of_one_class(tmp_path: Path) -> None:
    place = folder_of(tmp_path / "x", Image.fromarray(np.array([[0, 255, 255], [0, 0, 0]], np.uint8)))
    data, audit = read(place)
    assert unpacked(labels_of(data)[0]).tolist() == [[0, 1, 1], [0, 0, 0]]
    assert [f.kind for f in audit.findings] == ["binary_mask"]


def test_a_mask_turns_with_its_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (3, 2)).save(tmp_path / "a.jpg", exif=exif)  # upright it has 2 x 3 pixels
    Image.fromarray(PIXELS).save(tmp_path / "m.png")
    (tmp_path / "rows.csv").write_text("image,mask\na.jpg,m.png\n")
    data, audit = read(tmp_path / "rows.csv")
    assert np.array_equal(unpacked(labels_of(data)[0]), np.rot90(PIXELS, -1))
    assert [f.kind for f in audit.findings] == ["turned_mask"]


def test_metrics_by_hand() -> None:
    truth = [packed(PIXELS), packed(np.array([[0, 255]], np.uint8))]
    said = [packed(np.array([[0, 1, 0], [2, 1, 0]], np.uint8)), packed(np.array([[0, 1]], np.uint8))]
    measures = Segment().measures(truth, said, NAMES)
    one = np.ones((1, 2))
    assert float(measures["pixel_accuracy"].at(one)[0]) == pytest.approx(5 / 7)
    assert float(measures["miou"].at(one)[0]) == pytest.approx((3 / 4 + 1 / 3 + 1 / 2) / 3)
    assert float(measures["dice"].at(one)[0]) == pytest.approx((6 / 7 + 2 / 4 + 2 / 3) / 3)
    assert float(measures["miou"].at(np.array([[0.0, 1.0]]))[0]) == 1.0  # class 0 alone is there
    assert Segment().errors(truth, said) == [pytest.approx(2 / 6), 0.0]


def test_metrics_are_the_librarys() -> None:
    from segmentation_models_pytorch.metrics import get_stats

    rng = np.random.default_rng(0)
    true, said = (rng.integers(0, 3, (4, 8, 8)).astype(np.uint8) for _ in range(2))
    both = Segment().measures([packed(m) for m in true], [packed(m) for m in said], NAMES)
    as_tensors = (torch.from_numpy(m.astype(np.int64)) for m in (said, true))
    tp, fp, fn, _ = (x.sum(0).double() for x in get_stats(*as_tensors, mode="multiclass", num_classes=3))
    one = np.ones((1, 4))
    assert float(both["miou"].at(one)[0]) == pytest.approx(float((tp / (tp + fp + fn)).mean()))
    assert float(both["dice"].at(one)[0]) == pytest.approx(float((2 * tp / (2 * tp + fp + fn)).mean()))


@pytest.mark.parametrize("weights", [(), (0.5, 1.0, 4.0)])
def test_the_loss_is_its_formula(weights: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 3, 2, 3), torch.tensor(np.stack([PIXELS, PIXELS])).long()
    masks[1, 0, 0] = 255
    found = losses(logits, masks, 0.5, weights).tolist()
    of_class = weights or (1.0, 1.0, 1.0)
    for row in range(2):
        kept = [(y, x) for y in range(2) for x in range(3) if masks[row, y, x] != 255]
        p = logits[row].softmax(0)
        logs = [of_class[masks[row, y, x]] * float(p[masks[row, y, x], y, x].log()) for y, x in kept]
        entropy = -sum(logs) / len(kept)
        shares = []
        for k in {int(masks[row, y, x]) for y, x in kept}:
            both = sum(float(p[k, y, x]) for y, x in kept if masks[row, y, x] == k)
            total = sum(float(p[k, y, x]) + float(masks[row, y, x] == k) for y, x in kept)
            shares.append(2 * both / total)
        assert found[row] == pytest.approx(entropy + 0.5 * (1 - sum(shares) / len(shares)), rel=1e-5)


def test_a_mask_follows_its_picture() -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 8:24] = 1
    part = Part(np.repeat(mask[..., None] * 200, 3, 2), (64, 48), mask)
    for seed in range(6):
        one = shaken(part, torch.Generator().manual_seed(seed), 0.5)
        assert one.mask is not None
        bright = one.pixels[..., 0] > 90
        assert (bright == (one.mask == 1)).mean() > 0.97


@pytest.mark.parametrize(("decoder", "epochs"), [("unet", 6), ("fpn", 3)])
@pytest.mark.real  # slow
def test_squares_are_told_from_the_ground(decoder: str, epochs: int, tmp_path: Path) -> None:
    one = segment_example(tmp_path)
    how = {"moves": "all", "num_train_epochs": epochs, "learning_rate": 5e-3, "head_learning_rate": 5e-3}
    model = fit("segment", one, tmp_path / "run", strategy="full", settings={**how, "decoder": decoder})
    assert model.scores is not None and set(model.scores.per_class) == {"ground", "red", "blue"}
    usual = model.scores.baseline["usual_place"]["value"]
    assert (model.scores.value or 0) > usual
    assert model.scores.baseline["colour"]["value"] > 0.9  # two colours on grey: nothing needs transfer


def test_a_segformer_folder_is_tuned_and_loads_again(tmp_path: Path) -> None:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[7, 3],
        strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16, num_labels=5,
    )  # fmt: skip
    SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "segformer")
    one = segment_example(tmp_path)
    settings = {"moves": "all", "side": 64, "batch_size": 8, "num_train_epochs": 1}
    model = acclimate.fit(
        str(one.train), task="segment", model=str(tmp_path / "segformer"), strategy="full", settings=settings,
        test_data=str(one.test), quiet=True, output_dir=tmp_path / "run",
    )  # fmt: skip
    assert acclimate.load(tmp_path / "run").predict(one.new) == model.predict(one.new)


def test_from_the_command_line(tmp_path: Path) -> None:
    def cli(*args: object) -> str:
        found = CliRunner().invoke(app, [str(a) for a in args], prog_name="acclimate")
        assert found.exit_code == 0, found.output
        return found.output

    one, run = segment_example(tmp_path), tmp_path / "run"
    asked = ["fit", one.train, "--task", "segmentation", "--model", one.model, "--strategy", "linear_probe"]
    cli(*asked, "--set", "side=64", "--set", "width=4", "--set", "num_train_epochs=1", "--output-dir", run)
    (one.test / "images" / "bad.png").write_bytes(b"x")
    cli("predict", run, one.test / "images", "--output", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == 9 and [row["mask"] for row in rows].count(None) == 1
    with Image.open(tmp_path / next(row["mask"] for row in rows if row["mask"])) as mask:
        assert mask.size == (64, 48) and np.asarray(mask).max() <= 2
    assert "miou" in cli("evaluate", run, one.train)
    assert "data:image/jpeg" in (run / "report.html").read_text()


def test_settings_that_cannot_be() -> None:
    for settings in ({"decoder": "deeplab"}, {"side": 8}, {"dice": -1.0}):
        with pytest.raises(UserError, match=next(iter(settings))):
            Segment(**settings)  # type: ignore[arg-type]


def test_masks_of_two_tables_lie_apart_and_their_classes_have_names(tmp_path: Path) -> None:
    model = fit("segment", segment_example(tmp_path), tmp_path / "run")
    pictures = sorted((tmp_path / "test" / "images").iterdir())
    (tmp_path / "a.csv").write_text(f"file\n{pictures[0]}\n{tmp_path}/gone.png\n")
    (tmp_path / "b.csv").write_text(f"file\n{pictures[1]}\n{pictures[2]}\n")
    found = [model.predict_parts(str(tmp_path / name)) for name in ("a.csv", "b.csv")]
    assert not set(found[0].files) & set(found[1].files)
    said = CliRunner().invoke(
        app, ["predict", str(tmp_path / "run"), str(tmp_path / "b.csv"), "-o", str(tmp_path / "no" / "m.csv")]
    )
    assert isinstance(said.exception, UserError) or said.exit_code == 2
    assert not (tmp_path / "no").exists()
    cells = next(found[0].parts)
    assert list(found[0].files) == [cells["mask"][0]] and cells["mask"][1] is None
    assert cells["shares"][0].split(":")[0] in {"ground", "red", "blue"}


def test_colours_are_bytes(tmp_path: Path) -> None:
    for line in ("blue,0,0,300", "blue"):
        (tmp_path / "classes.csv").write_text(f"ground,0,0,0\n{line}\n")
        with pytest.raises(UserError, match="three numbers from 0 to 255"):
            legend_of(tmp_path)
