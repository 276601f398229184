"""What differs on a GPU: the same features as on the CPU, no waiting inside a step, memory that runs out, numbers and
compiled blocks chosen by trial. Without a GPU nothing of it runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import acclimate
import tiny_models as tm
from acclimate.features import extract
from acclimate.progress import Progress
from acclimate.run import Run
from acclimate.strategies import Splits
from acclimate.strategies.tune import Tune
from acclimate.train import arithmetic, loop
from acclimate.train.arithmetic import Arithmetic

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
RUN = Run(device="cuda")
FolderOf = Callable[[str], Path]


def tuned(tune: Tune, backbone: Any, run: Run = RUN, n: int = 48, valid: bool = True) -> Any:
    data = tm.rows(n)
    splits = Splits(data, data.take(range(8)) if valid else None)
    return tune.fit(tm.problem_of("classify", data, "str", backbone, run), splits, run)


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert", "distilbert", "gpt2", "llama"])
@pytest.mark.parametrize("padded", [True, False])
def test_features_are_those_of_the_cpu(kind: str, padded: bool, folder_of: FolderOf) -> None:
    backbone = tm.backbone_of(folder_of(kind))
    expected = extract(backbone, tm.TEXTS, Run())
    backbone.padded = padded
    found = extract(backbone, tm.TEXTS, RUN)
    assert next(backbone.parameters()).device.type == "cuda"
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("moves", ["all", "top:1", "lora"])
@pytest.mark.parametrize("numbers", ["no", "bf16", "fp16"])
def test_no_step_waits_for_the_device(
    moves: str, numbers: str, folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    real = loop._step

    def watched(*given: Any) -> Any:
        steps.append(1)
        if len(steps) == 1:  # allocations and kernels are set up
            return real(*given)
        torch.cuda.set_sync_debug_mode("error")
        try:
            return real(*given)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(loop, "_step", watched)
    model = tuned(Tune(moves=moves, num_train_epochs=2, mixed_precision=numbers), tm.backbone_of(folder_of("bert")))
    assert len(steps) == 6
    assert next(model.backbone.parameters()).device.type == "cpu"


@pytest.mark.parametrize("moves", ["all", "top:1", "lora"])
def test_tuning_gives_what_the_cpu_gives(moves: str, folder_of: FolderOf) -> None:
    tune = Tune(moves=moves, num_train_epochs=2, dropout=0.0, lora_dropout=0.0, mixed_precision="no")
    texts = list(tm.rows(48).inputs)
    found = [tuned(tune, tm.backbone_of(folder_of("bert")), run).outputs(texts, Run()) for run in (Run(), RUN)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_a_run_that_was_cut_goes_on(folder_of: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune = Tune(num_train_epochs=3, mixed_precision="fp16")
    texts = list(tm.rows(48).inputs)
    whole = tuned(tune, tm.backbone_of(folder_of("bert"))).outputs(texts, Run())
    run, real, steps = replace(RUN, state=tmp_path, checkpoint_every=0), loop._step, []

    def dies(*given: Any) -> Any:
        steps.append(1)
        if len(steps) == 5:
            raise OSError("killed")
        return real(*given)

    monkeypatch.setattr(loop, "_step", dies)
    with pytest.raises(OSError, match="killed"):
        tuned(tune, tm.backbone_of(folder_of("bert")), run)
    monkeypatch.setattr(loop, "_step", real)
    again = tuned(tune, tm.backbone_of(folder_of("bert")), run).outputs(texts, Run())
    np.testing.assert_allclose(whole, again, atol=1e-3)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Two gigabytes of the GPU's memory, whatever it has."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2**31 / torch.cuda.get_device_properties(0).total_memory)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


class Wide(nn.Module):
    """A network that takes a quarter of a gigabyte a row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = x[:, None, :].expand(-1, 2**22, -1) * 1.0
        return self.two(torch.tanh(self.one(wide)).mean(1))  # type: ignore[no-any-return]


def test_memory_that_runs_out_makes_smaller_parts_of_the_same_step(
    little_memory: None, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    weights = []
    for batch in ([list(range(16))], [list(range(16))]):
        net = Wide().cuda()
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, fused=True)
        at_once = loop.train(
            net,
            optimizer,
            loop.Schedule(2),
            lambda _, batch=batch: batch,  # type: ignore[misc]
            lambda at, net=net: net(rows[at].cuda()).square().mean(),  # type: ignore[misc]
            None,
            Run(device="cuda", progress=Progress(quiet=False)),
        )
        weights.append(net.one.weight.detach().cpu())
    assert torch.isfinite(weights[0]).all()
    assert at_once[-1]["rows_at_once"] < 16
    assert "out of memory with 16 rows at once: going on with 8" in capsys.readouterr().err
    torch.testing.assert_close(weights[0], weights[1])


def test_numbers_layout_and_blocks_are_chosen_by_trial(folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_WORTH_A_TRIAL", "_WORTH_COMPILING"):
        monkeypatch.setattr(arithmetic, name, 0.0)
    model = tuned(Tune(num_train_epochs=2), tm.backbone_of(folder_of("bert")))
    assert "ms a step on trial: fp32" in model.notes[-1]
    assert "compiled" in model.notes[-1]


def test_compiled_blocks_train_to_the_same_weights(folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = list(tm.rows(48).inputs)
    found = []
    warnings.simplefilter("ignore")  # of the compiler
    for chosen in (Arithmetic(), Arithmetic(padded=True, compiled=True)):
        monkeypatch.setattr("acclimate.strategies.tune.choose", lambda *_, chosen=chosen: (chosen, ""))
        tune = Tune(num_train_epochs=2, dropout=0.0)
        found.append(tuned(tune, tm.backbone_of(folder_of("bert"))).outputs(texts, Run()))
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_a_model_fitted_on_a_gpu_predicts_on_the_cpu(
    folder_of: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tm.rows(60)
    table = {"text": list(data.inputs), "label": list(data.labels or ())}
    model = acclimate.fit(
        table, label="label", model=str(folder_of("bert")), output_dir=str(tmp_path / "run"), quiet=True
    )
    on_gpu = model.predict_proba(table["text"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu = acclimate.load(tmp_path / "run").predict_proba(table["text"])
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-4)
