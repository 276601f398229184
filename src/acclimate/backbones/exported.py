"""A frozen network written as an ONNX file once, and read by ONNX Runtime or OpenVINO where they are installed."""

from __future__ import annotations

import os
import tempfile
import uuid
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LIBRARIES = ("onnxruntime", "openvino")
AT_ONCE = 2  # pictures: more, and what lies between two layers no longer fits the processor's cache
_FILE = f"network-{AT_ONCE}.onnx"


class Missing(Exception):
    """A library is not installed: the sentence says which."""


def open_with(library: str, model: nn.Module, size: int, folder: Path | None) -> Callable[[Tensor], Tensor]:
    """The network as `library` reads it, on as many threads as PyTorch uses; `folder` keeps the exported file."""
    if find_spec(library) is None:
        raise Missing(f"not installed; `pip install onnx {library}` may make features quicker")
    opened = _by_onnxruntime if library == "onnxruntime" else _by_openvino
    kept = None if folder is None else _kept(model, size, folder)
    if kept is not None:
        try:
            return opened(kept)
        except Exception:  # damaged, or of a version that this library cannot read: written once more
            kept.unlink(missing_ok=True)
            kept = _kept(model, size, kept.parent)
    if kept is not None:
        return opened(kept)
    with tempfile.TemporaryDirectory() as temporary:
        return opened(_written(model, size, Path(temporary)))


def private_folder(folder: Path) -> None:
    """Make the folder, for its owner alone: weights may have been learned from private texts or pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)


def _kept(model: nn.Module, size: int, folder: Path) -> Path | None:
    """The file in the cache; None where it cannot be written there."""
    path = folder / _FILE
    if path.is_file():
        return path
    try:
        private_folder(folder)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{uuid.uuid4().hex}") as temporary:
            os.replace(_written(model, size, Path(temporary)), path)
    except OSError:
        return None
    return path


def _written(model: nn.Module, size: int, folder: Path) -> Path:
    """Trace the network and write it as one file, for AT_ONCE pictures: a fixed number is a fifth quicker than any.

    The older exporter takes a tenth of the time and needs no package but onnx; where it fails, the newer one is tried.
    """
    if find_spec("onnx") is None:
        raise Missing("not usable without onnx, which writes the file that it reads; pip install onnx")
    path, names = folder / _FILE, {"input_names": ["pixels"], "output_names": ["features"]}
    export: Any = torch.onnx.export
    example = (torch.zeros(AT_ONCE, 3, size, size),)
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the exporter's own future, and on shapes that are fixed here
        try:
            export(model, example, str(path), **names, dynamo=False)
        except Exception:
            export(model, example, str(path), **names, dynamo=True, external_data=False, verbose=False)
    return path


def _by_onnxruntime(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return _filled_up(lambda pixels: torch.from_numpy(session.run(None, {"pixels": pixels.numpy()})[0]))


def _by_openvino(path: Path) -> Callable[[Tensor], Tensor]:
    import openvino

    core = openvino.Core()
    # Without the hint OpenVINO computes in 16 bits wherever the processor can.
    how = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(path), "CPU", how)
    return _filled_up(lambda pixels: torch.from_numpy(compiled(pixels.numpy())[0].copy()))


def _filled_up(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """For any number of pictures: black ones fill up the last AT_ONCE, and their features are dropped."""

    def filled(pixels: Tensor) -> Tensor:
        missing = -len(pixels) % AT_ONCE
        whole = functional.pad(pixels, (0, 0) * 3 + (0, missing)).contiguous() if missing else pixels.contiguous()
        return torch.cat([run(part) for part in torch.split(whole, AT_ONCE)])[: len(pixels)]

    return filled
