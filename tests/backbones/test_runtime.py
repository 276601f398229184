"""The choice of a runtime: exact ones alone, the quickest of them, measured once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from acclimate.backbones import exported, runtime
from acclimate.backbones.runtime import FOLDED, NAMES, TORCH, Network, Reader, in_parts

PIXELS = torch.randn(10, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def network(folder: Path | None = None) -> Network:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    return Network(model.eval().requires_grad_(False), 8, "abc", folder)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds that every runtime seems to take; all but torch and folded are made of the network itself."""
    seconds = {TORCH: 1.0, FOLDED: 0.5, "onnxruntime": 0.2, "openvino": 0.3}
    made = runtime._made

    def fake(name: str, of: Network) -> runtime.Run:
        return made(name, of) if name in (TORCH, FOLDED) else of.model

    monkeypatch.setattr(runtime, "_made", fake)
    monkeypatch.setattr(runtime, "_measured", lambda runs, pixels: {name: seconds[name] for name in runs})
    return seconds


@pytest.mark.parametrize(
    ("changed", "chosen"),
    [
        ({}, "onnxruntime"),
        ({"openvino": 0.1}, "openvino"),
        ({"openvino": 0.195}, "onnxruntime"),  # not worth a change
        ({"onnxruntime": 0.6, "openvino": 0.6}, FOLDED),
        ({FOLDED: 1.1, "onnxruntime": 1.2, "openvino": 0.99}, TORCH),
    ],
)
@torch.inference_mode()
def test_the_quickest_is_taken(times: dict[str, float], changed: dict[str, float], chosen: str) -> None:
    times.update(changed)
    said: list[str] = []
    reader = Reader(network(), say=said.append)
    torch.testing.assert_close(reader(PIXELS), reader.network.model(PIXELS))
    assert reader.name == chosen
    share = 1 / times[chosen]
    assert len(said) == 1 and said[0].startswith(f"features by {chosen}: {share:.1f} times as fast as torch")
    assert [line.split(":")[0] for line in reader.describe()] == list(NAMES)


@torch.inference_mode()
def test_what_gives_other_features_is_never_taken(times: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    made = runtime._made

    def off(name: str, of: Network) -> runtime.Run:
        run = made(name, of)
        shift = {"onnxruntime": 1e-4, "openvino": float("nan")}.get(name, 0.0)
        return lambda pixels: run(pixels) + shift

    monkeypatch.setattr(runtime, "_made", off)
    reader = Reader(network())
    reader(PIXELS)
    assert reader.name == FOLDED
    assert "onnxruntime: its features differ from torch's by" in reader.describe()[2]
    assert reader.describe()[3] == "openvino: its features differ from torch's by inf of the largest"


@torch.inference_mode()
def test_what_cannot_read_the_network_is_passed_over(times: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    made = runtime._made

    def fails(name: str, of: Network) -> runtime.Run:
        if name == "onnxruntime":
            raise exported.Missing("not installed")
        if name != TORCH:
            raise RuntimeError("no such operator\nand more")
        return made(name, of)

    monkeypatch.setattr(runtime, "_made", fails)
    reader = Reader(network())
    reader(PIXELS)
    assert reader.name == TORCH
    assert reader.describe()[1:] == [
        f"{FOLDED}: cannot read this network (RuntimeError: no such operator)",
        "onnxruntime: not installed",
        "openvino: cannot read this network (RuntimeError: no such operator)",
    ]


@torch.inference_mode()
def test_a_choice_is_measured_once(times: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Reader(network(tmp_path))(PIXELS)
    kept = tmp_path / "abc" / "runtime.json"
    assert json.loads(kept.read_text())["name"] == "onnxruntime"
    times["openvino"] = 0.01  # would win a new measurement
    again = Reader(network(tmp_path))
    again(PIXELS)
    assert again.name == "onnxruntime"
    assert again.describe()[0].startswith("onnxruntime: as chosen before, features equal to 0e+00")
    monkeypatch.setattr(runtime, "_circumstances", lambda threads: {"threads": threads + 1})
    other = Reader(network(tmp_path))
    other(PIXELS)
    assert other.name == "openvino"
    kept.write_text("{")
    damaged = Reader(network(tmp_path))
    damaged(PIXELS)
    assert damaged.name == "openvino"


@torch.inference_mode()
def test_a_wanted_runtime_that_is_gone_is_chosen_anew(times: dict[str, float]) -> None:
    for wanted, got in ((FOLDED, FOLDED), ("tensor-thing", "onnxruntime")):
        reader = Reader(network(), wanted)
        reader(PIXELS)
        assert reader.name == got


@torch.inference_mode()
def test_a_cache_that_cannot_be_written_costs_nothing(times: dict[str, float], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    reader = Reader(network(tmp_path / "file"))
    reader(PIXELS)
    assert reader.name == "onnxruntime"


def test_pictures_are_read_four_at_a_time() -> None:
    seen = []

    def run(pixels: Tensor) -> Tensor:
        seen.append(len(pixels))
        return pixels.mean((2, 3))

    assert torch.equal(in_parts(run, PIXELS), PIXELS.mean((2, 3)))
    assert seen == [4, 4, 2]


@pytest.mark.parametrize("library", exported.LIBRARIES)
@torch.inference_mode()
def test_an_exported_network_gives_the_same_features(library: str, tmp_path: Path) -> None:
    for needed in ("onnx", library):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    of = network(tmp_path)
    run = exported.open_with(library, of.model, 8, of.kept)
    torch.testing.assert_close(in_parts(run, PIXELS), of.model(PIXELS), atol=1e-6, rtol=1e-5)
    file = tmp_path / "abc" / "network-2.onnx"
    before = file.read_bytes()
    assert [p.name for p in file.parent.iterdir()] == ["network-2.onnx"] and file.parent.stat().st_mode & 0o077 == 0
    file.write_bytes(b"damaged")
    run = exported.open_with(library, of.model, 8, of.kept)
    torch.testing.assert_close(in_parts(run, PIXELS), of.model(PIXELS), atol=1e-6, rtol=1e-5)
    exported.open_with(library, of.model, 8, of.kept)
    assert file.read_bytes() == before


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "find_spec", lambda name: None)
    of = network()
    with pytest.raises(exported.Missing, match="not installed; `pip install onnx onnxruntime`"):
        exported.open_with("onnxruntime", of.model, 8, None)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_any_number_of_pictures_is_read_by_parts_of_one_size(count: int) -> None:
    """A foreign library has its network for one number of pictures; those that fill up leave nothing behind."""
    parts: list[int] = []

    def run(pixels: Tensor) -> Tensor:
        parts.append(len(pixels))
        return pixels.flatten(1).sum(1, keepdim=True)

    found = exported._filled_up(run)(PIXELS[:count])
    assert torch.equal(found, PIXELS[:count].flatten(1).sum(1, keepdim=True))
    assert parts == [exported.AT_ONCE] * -(-count // exported.AT_ONCE)
