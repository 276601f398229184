"""Pictures of coloured squares with their boxes, and a tiny network that reads pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}


def timm_folder(folder: Path) -> Path:
    """A timm folder of a tiny network of random weights."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    model = timm.create_model("test_efficientnet", pretrained=False, num_classes=0)
    config = {"architecture": "test_efficientnet", "num_classes": 0, "pretrained_cfg": {"input_size": [3, 64, 64]}}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    return folder


def squares(folder: Path, rows: int, seed: int) -> Path:
    """Pascal VOC: grey pictures with one to three squares, each red or blue."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    for i in range(rows):
        pixels = np.full((48, 64, 3), 128, np.uint8)
        objects = []
        for place in rng.permutation(3)[: int(rng.integers(1, 4))]:
            word = str(rng.choice(["red", "blue"]))
            x, y, side = int(place) * 21 + 1, int(rng.integers(0, 30)), int(rng.integers(12, 18))
            pixels[y : y + side, x : x + side] = COLOURS[word]
            corners = "".join(
                f"<{k}>{v}</{k}>"
                for k, v in zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + side, y + side), strict=True)
            )
            objects.append(f"<object><name>{word}</name><bndbox>{corners}</bndbox></object>")
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{seed}_{i:03d}.png")
        size = "<size><width>64</width><height>48</height></size>"
        (folder / "Annotations" / f"{seed}_{i:03d}.xml").write_text(
            f"<annotation>{size}{''.join(objects)}</annotation>"
        )
    return folder


def masked_squares(folder: Path, rows: int, seed: int) -> Path:
    """images/ and masks/: grey pictures with squares, index 1 where they are red and 2 where they are blue."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(rows):
        pixels, mask = np.full((48, 64, 3), 128, np.uint8), np.zeros((48, 64), np.uint8)
        for place in rng.permutation(3)[: int(rng.integers(1, 4))]:
            index = int(rng.integers(1, 3))
            x, y, side = int(place) * 21 + 1, int(rng.integers(0, 30)), int(rng.integers(12, 18))
            pixels[y : y + side, x : x + side] = COLOURS["red" if index == 1 else "blue"]
            mask[y : y + side, x : x + side] = index
        noisy = np.clip(pixels + rng.normal(0, 5, pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "images" / f"{seed}_{i:03d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{seed}_{i:03d}.png")
    (folder / "classes.txt").write_text("ground\nred\nblue\n")
    return folder
