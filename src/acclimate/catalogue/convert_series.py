"""Series: the forecaster of the package fracast, and sets of labelled and unlabelled series."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from acclimate.catalogue.plain import Archives, Needed, save_weights, write_json
from acclimate.catalogue.unpack import Tables, write_csv


def fracast(archives: Archives, out: Path, _needed: Needed) -> None:
    """The weights in single precision, under their own names, and the sizes that the network is made with."""
    from safetensors.numpy import load

    model = json.loads(archives[0].read("fracast/weights/config.json"))["model"]
    weights = load(archives[0].read("fracast/weights/model.safetensors"))
    for name, wanted in (
        ("share_stages", True), ("causal", True), ("separable_conv", True), ("dilation_base", 2),
        ("scale_cond", "film"), ("recency_encoding", True), ("periodic_phase", True), ("head_kind", "gather"),
        ("head_output_mode", "direct"), ("head_future_conv", True), ("periodic_harmonics", 1), ("head_layers", 1),
    ):  # fmt: skip
        if model[name] != wanted:
            raise ValueError(f"{name} is {model[name]!r}, and the network that is known here has {wanted!r}")
    sizes = {
        "width": model["d_model"],
        "kernel": model["kernel_size"],
        "stages": model["n_stages"],
        "hidden": weights["core.block.ffn.down.weight"].shape[1],
        "scale_dim": model["scale_cond_dim"],
        "context": model["W"],
        "horizon": model["horizon"],
        "quantiles": model["quantiles"],
        "periods": model["periodic_topk"],
        "alpha": model["periodic_alpha"],
        "head_hidden": model["head_d_ff"],
        "smoothing": model["head_fc_layers"],
    }
    save_weights(weights, out)
    write_json(out / "config.json", {"model_type": "fracast", "sizes": sizes})


def vowels(archives: Archives, out: Path) -> Tables:
    """Two vowels by nine men: 12 coefficients, 7 to 29 steps each; a line a step, the recordings named."""
    found: Tables = {}
    for part in ("train", "test"):
        text = archives[0].read(f"JapaneseVowels/JapaneseVowels_{part.upper()}.ts").decode("utf-8")
        rows: list[tuple[Any, ...]] = []
        lines = [line for line in text.splitlines() if line and line[0] not in "#@"]
        for number, line in enumerate(lines, 1):
            *channels, speaker = line.split(":")
            values = [channel.split(",") for channel in channels]
            if len({len(channel) for channel in values}) != 1:
                raise ValueError(f"recording {number} of {part} has channels of unlike lengths")
            steps = zip(*values, strict=True)
            rows += [(f"{part}{number}", at, *step, f"speaker {speaker}") for at, step in enumerate(steps)]
        columns = ("recording", "step", *(f"c{j + 1}" for j in range(12)), "speaker")
        found[f"{part}.csv"] = write_csv(out / f"{part}.csv", columns, rows)
    return found


def daphnet(archives: Archives, out: Path) -> Tables:
    """Nine accelerometer channels on ankle, leg and trunk of a person with Parkinson's disease, 64 steps a second."""
    lines = archives[0].read("Daphnet_S06R02E0/S06R02E0.csv").decode("utf-8").splitlines()
    head, *body = [line.split(",") for line in lines if line]
    channels = head[1:-1]
    rows = [(at, *cells[1:-1]) for at, cells in enumerate(body)]
    return {"walk.csv": write_csv(out / "walk.csv", ("step", *channels), rows)}
