"""Where training stands, on disk: a run that was killed goes on as if nothing had happened, bit for bit.

A checkpoint is a folder STEP-EPOCH of `weights`, `optimizer` and `best` (safetensors) and `place.json`, which comes
last and holds their checksums. It is written under a hidden name and renamed, so that it is there whole or not at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acclimate import ranks
from acclimate.files import flush_folder, json_text, write_text
from acclimate.interrupt import AtOnce
from acclimate.run import Run

FORMAT = 1
KEPT = 2  # the newest, and one to fall back to should it be damaged
_SHARE = 20  # writing may take a twentieth of the time at most
Tensors = dict[str, Tensor]


@dataclass
class Place:
    """Where training stands between two steps."""

    step: int = 0
    epoch: int = 0  # epochs that are done
    batch: int = 0  # batches of the present epoch that are done
    loss: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))  # of this epoch's steps, summed
    bad: Tensor = field(default_factory=lambda: torch.tensor(math.inf))  # the first step that was not finite
    most: int | None = None  # rows that go through the network at once, where memory was too small for a batch
    history: list[dict[str, Any]] = field(default_factory=list)

    def note(self, batches: int, loss: Tensor, norm: Tensor) -> None:
        """One step is done. Nothing is read here: that would wait for the device."""
        self.step, self.batch = self.step + 1, self.batch + batches
        self.loss = self.loss.to(loss.device) + loss
        fine = torch.isfinite(loss) & torch.isfinite(norm)
        here = torch.zeros_like(norm).masked_fill(fine, math.inf) + self.step
        self.bad = torch.minimum(self.bad.to(norm.device), here)

    def first_bad(self) -> int | None:
        """The first step whose loss or gradient was not finite."""
        bad = float(self.bad)
        return None if math.isinf(bad) else int(bad)

    def enter(self, train_loss: float | None, valid_loss: float | None) -> None:
        """An entry in the history: the start, or the end of an epoch."""
        if train_loss is not None:
            self.epoch, self.batch, self.loss = self.epoch + 1, 0, torch.zeros_like(self.loss)
        entry = {"step": self.step, "epoch": self.epoch, "train_loss": train_loss, "valid_loss": valid_loss}
        self.history.append(entry if self.most is None else {**entry, "rows_at_once": self.most})


class Best:
    """The moving weights at the lowest held-out loss so far; NaN is never lowest."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.value = math.inf
        self.weights: Tensors = {}

    def offer(self, value: float) -> None:
        """Keep the present weights if `value` is the lowest."""
        if value < self.value:
            self.value = value
            for name, tensor in moving_state(self.network).items():
                if name in self.weights:
                    self.weights[name].copy_(tensor)  # two copies at once would take twice the memory
                else:
                    self.weights[name] = tensor.clone()

    def restore(self) -> None:
        """Put the best weights back."""
        if self.weights:
            self.network.load_state_dict(self.weights, strict=False)


def moving_state(network: nn.Module) -> Tensors:
    """What training changes: the parameters that move, and every buffer that is saved."""
    names = {n for n, p in network.named_parameters() if p.requires_grad} | {n for n, _ in network.named_buffers()}
    return {name: tensor.detach() for name, tensor in network.state_dict().items() if name in names}


def random_state(device: torch.device) -> Tensors:
    """The state of the generators that dropout draws from."""
    state = {"cpu": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def set_random_state(state: Tensors, device: torch.device) -> None:
    """Back to where `random_state` was taken."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


class Checkpoints:
    """The checkpoints of one training in `run.state`, the newest two. `what` names what is trained: one of anything
    else is ignored. Without `run.state` nothing is written."""

    def __init__(
        self,
        run: Run,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        best: Best,
        what: str,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.run, self.network, self.optimizer, self.best, self.scaler = run, network, optimizer, best, scaler
        self.device = next(network.parameters()).device
        self.kept: list[Path] = []  # oldest first
        groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        shapes = {n: [list(t.shape), str(t.dtype)] for n, t in moving_state(network).items()}
        described = json.dumps([what, type(optimizer).__name__, groups, shapes, run.seed], default=str)
        self.what = hashlib.sha256(described.encode()).hexdigest()
        self._written = time.monotonic()
        self._cost = 0.0

    def due(self) -> bool:
        """Whether it is time for the next one."""
        every = self.run.checkpoint_every
        wait = 0.0 if every <= 0 else max(every, _SHARE * self._cost)
        return self.run.state is not None and ranks.agreed(time.monotonic() - self._written >= wait)

    @contextmanager
    def at_interrupt(self, place: Place) -> Iterator[None]:
        """Ctrl-C inside the block, which must come between two steps, leaves a checkpoint behind."""
        try:
            yield
        except AtOnce:
            raise
        except KeyboardInterrupt:
            self.save(place)
            raise

    def save(self, place: Place) -> None:
        """Write a checkpoint and remove all but the newest two. A full disk ends the checkpoints, not the run."""
        self._written = start = time.monotonic()
        if self.run.state is None or not ranks.first():
            return
        folder = self.run.state / f"{place.step:09d}-{place.epoch:04d}"
        if self.kept[-1:] == [folder] or place.first_bad() is not None:
            return
        temporary = folder.with_name(f".{folder.name}.part")
        try:
            tensors, values = self._contents()
            if self._room(tensors, folder.parent):
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
                stands = {name: getattr(place, name) for name in ("step", "epoch", "batch", "most", "history")}
                about = {"format": FORMAT, "what": self.what, **stands, "loss": float(place.loss), **values}
                _write(temporary, tensors, about)
                shutil.rmtree(folder, ignore_errors=True)  # a damaged one
                os.replace(temporary, folder)
                flush_folder(folder.parent)
                self.kept.append(folder)
                self._prune(KEPT)
        except Exception as error:
            if not isinstance(error, OSError) and type(error).__name__ != "SafetensorError":
                raise
            self.run.cannot_keep(error)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._written = time.monotonic()
        self._cost = self._written - start

    def _contents(self) -> tuple[dict[str, Tensors], dict[str, Any]]:
        state = self.optimizer.state_dict()["state"]
        flat = {f"{at}.{name}": value for at, values in state.items() for name, value in values.items()}
        tensors = {
            "weights": moving_state(self.network),
            "optimizer": {k: v for k, v in flat.items() if isinstance(v, Tensor)},
            "best": self.best.weights,
        }
        random = {k: base64.b64encode(v.numpy().tobytes()).decode() for k, v in random_state(self.device).items()}
        plain = {k: v for k, v in flat.items() if not isinstance(v, Tensor)}
        scale = None if self.scaler is None else self.scaler.state_dict()
        return tensors, {"best": self.best.value, "random": random, "optimizer": plain, "scale": scale}

    def _room(self, tensors: dict[str, Tensors], folder: Path) -> bool:
        """Whether the disk has room to spare, if need be once the older checkpoints are gone."""
        folder.mkdir(parents=True, exist_ok=True)
        need = 1.2 * sum(t.nbytes for part in tensors.values() for t in part.values())
        if shutil.disk_usage(folder).free < need:
            self._prune(1)
        free = shutil.disk_usage(folder).free
        if free < need:
            self.run.progress.say_once(
                f"no checkpoints: one needs {need / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free in {folder}"
            )
        return free >= need

    def _found(self) -> list[Path]:
        """Checkpoints, newest first."""
        return [] if self.run.state is None else sorted(self.run.state.glob("[0-9]*-[0-9]*"), reverse=True)

    def _prune(self, keep: int) -> None:
        """Remove all but the newest of this fit; damaged ones and those of another fit go too."""
        self.kept = self.kept[-keep:]
        for folder in self._found():
            if folder not in self.kept:
                shutil.rmtree(folder, ignore_errors=True)

    def resume(self) -> Place:
        """Put network, optimiser, best weights and random state back to the newest good checkpoint, if there is one."""
        for folder in ranks.by_first(self._found):
            about, tensors = _read(folder)
            if about is None or about["what"] != self.what:
                self.run.progress.say(f"{folder} is {'damaged' if about is None else 'of another fit'}: left aside")
                continue
            self._put_back(about, tensors)
            self.kept = [folder]
            self.run.progress.say(f"going on from step {about['step']} ({folder})")
            stands = {name: about[name] for name in ("step", "epoch", "batch", "most", "history")}
            loss = math.nan if about["loss"] is None else about["loss"]
            return Place(loss=torch.tensor(loss, dtype=torch.float64), **stands)
        return Place()

    def _put_back(self, about: dict[str, Any], tensors: dict[str, Tensors]) -> None:
        self.network.load_state_dict(tensors["weights"], strict=False)
        state: dict[int, dict[str, Any]] = {}
        for name, value in {**tensors["optimizer"], **about["optimizer"]}.items():
            at, _, key = name.partition(".")
            state.setdefault(int(at), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        if self.scaler is not None and about.get("scale"):
            self.scaler.load_state_dict(about["scale"])
        self.best.value = math.inf if about["best"] is None else about["best"]  # none yet: JSON knows no infinity
        self.best.weights = {name: tensor.to(self.device) for name, tensor in tensors["best"].items()}
        drawn = {k: bytearray(base64.b64decode(v)) for k, v in about["random"].items()}
        set_random_state({k: torch.frombuffer(v, dtype=torch.uint8) for k, v in drawn.items()}, self.device)


def _write(folder: Path, tensors: dict[str, Tensors], about: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    sums = {}
    for name, part in tensors.items():
        path = folder / f"{name}.safetensors"
        save_file({k: _own(v) for k, v in part.items()}, path)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        sums[name] = _checksum(path)
    write_text(folder / "place.json", json_text({**about, "sums": sums}))


def _own(tensor: Tensor) -> Tensor:
    """In memory of its own, as safetensors wants it: buffers may be views of each other."""
    whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if whole else tensor.clone(memory_format=torch.contiguous_format)


def _read(folder: Path) -> tuple[dict[str, Any] | None, dict[str, Tensors]]:
    """A checkpoint's values and tensors; None where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        about: dict[str, Any] = json.loads((folder / "place.json").read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            return None, {}
        tensors = {}
        for name, total in about["sums"].items():
            path = folder / f"{name}.safetensors"
            if _checksum(path) != total:
                return None, {}
            tensors[name] = {
                k: v.clone() for k, v in load_file(path).items()
            }  # not tied to a file that will be removed
        return about, tensors
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None, {}


def _checksum(path: Path) -> int:
    total = 0
    with open(path, "rb") as file:
        while part := file.read(1 << 22):
            total = zlib.crc32(part, total)
    return total
