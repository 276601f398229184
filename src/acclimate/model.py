"""A fitted model: backbone, head and decoder, with everything needed to judge a new row; saved without pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acclimate.backbones.base import Backbone
from acclimate.errors import UserError
from acclimate.features import ROWS_A_PART, Features, Store, extract
from acclimate.files import json_text, whole_folder
from acclimate.metrics.digest import slices
from acclimate.plain import Plain, sparse
from acclimate.plain import load as load_plain
from acclimate.plain import save as save_plain
from acclimate.run import Run
from acclimate.tasks import TASKS, Multitask
from acclimate.tasks.answered import joined
from acclimate.tasks.base import Floats, Task
from acclimate.tasks.decoder import Decoder
from acclimate.tasks.heads import HEADS, Head

FORMAT = 1
_FILE = "acclimate.json"


@dataclass(frozen=True)
class Predictor:
    """What was learned. `logits -> outputs -> decide -> answers` are the steps from a raw input to an answer."""

    task: Task
    decoder: Decoder
    head: Head
    backbone: Backbone | None = None
    plain: Plain | None = None  # features without transfer: beside those of the backbone, or alone
    strategy: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    trained: tuple[str, ...] = ()  # names of the parameters that moved, the head's included
    history: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    adapter: dict[str, Tensor] | None = None  # low-rank weights before merging, for those who want them alone
    adapter_config: dict[str, Any] | None = None

    def logits(self, inputs: Sequence[Any], run: Run | None = None, store: Store | None = None) -> Floats:
        """Logits (n, k), float64. `store` gives cached features where the backbone is frozen."""
        return joined(list(self.parts(inputs, run, store)))

    def parts(self, inputs: Sequence[Any], run: Run | None = None, store: Store | None = None) -> Iterator[Floats]:
        """The same in parts, one after the other, so that neither all features nor all logits are held at once.

        8,192 rows a part; above 100 classes as many as have a million logits.
        """
        return (logits for _, logits in self.seen(inputs, run, store))

    def seen(
        self, inputs: Sequence[Any], run: Run | None = None, store: Store | None = None
    ) -> Iterator[tuple[Features, Floats]]:
        """Features and logits of the same rows, in such parts."""
        self.head.eval().to("cpu")
        width = self.task.width(self.decoder)
        for features, some in self._features(inputs, run or Run(), store):
            words = None if self.plain is None else self.plain.transform(some)
            for part in slices(len(some), width):
                mine = None if words is None else sparse(words[part], torch.float32)
                yield features[part], self._judged(features[part], mine)

    def _features(
        self, inputs: Sequence[Any], run: Run, store: Store | None
    ) -> Iterator[tuple[Features, Sequence[Any]]]:
        """Features of 8,192 rows at a time, and the rows."""
        known = store is not None and store.backbone is self.backbone
        if known and store is not None:
            store.prepare(inputs)
        silent = self.backbone is None or known
        with nullcontext(_nothing) if silent else run.progress.steps("features", len(inputs)) as advance:
            for start in range(0, max(1, len(inputs)), ROWS_A_PART):  # no row at all is one empty part
                some = inputs[start : start + ROWS_A_PART]
                if self.backbone is None:
                    yield np.zeros((len(some), 0), np.float32), some
                elif known and store is not None:
                    yield store.get(some), some
                else:
                    yield extract(self.backbone, some, run, nullcontext(advance)), some

    def _judged(self, features: Features, words: Tensor | None) -> Floats:
        """Logits of rows whose features and words are known."""
        with torch.inference_mode():
            found = np.asarray(self.head(torch.from_numpy(features), words).double().numpy())
        if not np.isfinite(found).all():
            raise UserError(
                f"{int((~np.isfinite(found).all(1)).sum())} of {len(found)} rows got answers that are no numbers: the "
                "weights are damaged or training diverged; copy the model again or fit anew"
            )
        return found

    def outputs(self, inputs: Sequence[Any], run: Run | None = None, store: Store | None = None) -> Floats:
        """Probabilities (n, k), or values (n,)."""
        return self.task.outputs(self.logits(inputs, run, store), self.decoder)

    def with_decoder(self, decoder: Decoder) -> Predictor:
        """The same weights read by another decoder."""
        return replace(self, decoder=decoder)

    # -- the saved bundle ------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write the bundle into a new folder: safetensors and JSON alone. It appears whole or not at all."""
        target = Path(folder)
        with whole_folder(target) as temporary:
            self._write(temporary)
        return target

    def _write(self, folder: Path) -> None:
        from safetensors.torch import save_file

        save_file({k: v.contiguous() for k, v in self.head.state_dict().items()}, folder / "head.safetensors")
        if self.backbone is not None:
            (folder / "backbone").mkdir()
            self.backbone.save(folder / "backbone")
        if self.plain is not None:
            save_plain(self.plain, folder)
        if self.adapter is not None:
            (folder / "adapter").mkdir()
            save_file(self.adapter, folder / "adapter" / "adapter_model.safetensors")
            text = json_text(self.adapter_config, indent=1)
            (folder / "adapter" / "adapter_config.json").write_text(text, encoding="utf-8")
        (folder / _FILE).write_text(json_text(self._about(), indent=1), encoding="utf-8")

    def _about(self) -> dict[str, Any]:
        base = self.backbone
        return {
            "format": FORMAT,
            "task": self.task.name,
            "decoder": self.decoder.to_json(),
            "head": {"kind": self.head.kind, "shape": self.head.shape},
            "strategy": self.strategy,
            "settings": self.settings,
            "trained": self.trained,
            "base_model": None
            if base is None
            else {"name": base.origin.name, "licence": base.origin.licence, "source": base.origin.source},
            "modality": None if base is None else base.modality,
            "preprocessing": None if base is None else base.settings(),
            "holds_training_data": holds(self),
        }


def _nothing(done: int) -> None:
    """Progress of what takes no time."""


def holds(predictor: Predictor) -> str:
    """What of the training data a bundle carries, in words; empty if nothing but fitted weights."""
    if any(getattr(part, "kind", "") in ("knn", "in_context") for part in predictor.head.modules()):
        return "the features of every training row"
    return "" if predictor.plain is None else predictor.plain.holds


def load(folder: str | Path) -> Predictor:
    """Read a bundle. Needs no network, and runs on the CPU whatever it was trained on."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    about = read_about(folder)
    try:
        decoder = Decoder.from_json(about["decoder"])
        task = Multitask.read(decoder) if decoder.parts else TASKS[about["task"]]
        head = HEADS[about["head"]["kind"]](**about["head"]["shape"])
        strategy, settings, trained = str(about["strategy"]), dict(about["settings"]), tuple(about["trained"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{folder / _FILE} is damaged ({error!r}); copy the bundle again or fit anew") from error
    try:
        head.load_state_dict(load_file(folder / "head.safetensors"))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder}: head.safetensors does not fit acclimate.json: {error}") from error
    return Predictor(
        task,
        decoder,
        head.eval(),
        _load_backbone(folder / "backbone"),
        load_plain(folder),
        strategy,
        settings,
        trained,
        **_load_adapter(folder / "adapter"),
    )


def _load_adapter(folder: Path) -> dict[str, Any]:
    """The low-rank weights beside the merged ones, so that a bundle that is saved again is whole."""
    from safetensors.torch import load_file

    if not folder.is_dir():
        return {}
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return {"adapter": load_file(folder / "adapter_model.safetensors"), "adapter_config": config}


def _load_backbone(folder: Path) -> Backbone | None:
    if not folder.is_dir():
        return None
    from acclimate.backbones import load as load_backbone

    return load_backbone(str(folder))


def read_about(folder: Path) -> dict[str, Any]:
    """The bundle's JSON, with one clear error where the folder is no bundle."""
    try:
        about: dict[str, Any] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{folder} is not a model saved by acclimate: it holds no {_FILE}") from error
    except ValueError as error:
        raise UserError(f"{folder / _FILE} is damaged: {error}; copy the bundle again or fit anew") from error
    if not isinstance(about, dict):
        raise UserError(f"{folder / _FILE} is damaged: it holds no object; copy the bundle again or fit anew")
    if about.get("format") != FORMAT:
        raise UserError(
            f"{folder} has bundle format {about.get('format')!r}; this version reads {FORMAT}: update acclimate"
        )
    return about
