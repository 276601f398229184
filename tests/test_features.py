from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models
from acclimate import features
from acclimate.backbones.base import Encoded
from acclimate.backbones.text import TextBackbone
from acclimate.catalogue import feature_parts as parts
from acclimate.errors import UserError
from acclimate.features import Index, Store, extract
from acclimate.progress import Progress
from acclimate.run import Run

TEXTS = ["good day", "bad river", "table", "我们好", "stone and paper and window"]


class Counted:
    """Counts the rows that reach the network."""

    def __init__(self, backbone: TextBackbone) -> None:
        self.rows = 0
        backbone.register_forward_pre_hook(self._count)

    def _count(self, module: object, args: tuple[dict[str, torch.Tensor]]) -> None:
        self.rows += len(args[0]["rows"])


@pytest.fixture
def counted(bert: TextBackbone) -> Counted:
    return Counted(bert)


def test_extract_keeps_the_order_of_the_inputs(bert: TextBackbone) -> None:
    got = extract(bert, TEXTS, Run())
    alone = np.concatenate([extract(bert, [t], Run()) for t in TEXTS])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, alone, atol=2e-6)


def test_extract_reads_a_network_in_training_mode_without_dropout(bert: TextBackbone) -> None:
    bert.requires_grad_(True)
    bert.train()
    first = extract(bert, TEXTS, Run())
    assert np.array_equal(first, extract(bert, TEXTS, Run()))


def test_every_distinct_input_is_computed_once(bert: TextBackbone, counted: Counted) -> None:
    store = Store(bert, Run())
    first = store.get([*TEXTS, *TEXTS])
    assert counted.rows == len(TEXTS)
    assert np.array_equal(first[: len(TEXTS)], first[len(TEXTS) :])
    again = store.get(TEXTS[::-1])
    assert counted.rows == len(TEXTS)
    assert np.array_equal(again, first[: len(TEXTS)][::-1])


def test_a_changed_row_is_computed_alone(bert: TextBackbone, counted: Counted) -> None:
    store = Store(bert, Run())
    before = store.get(TEXTS)
    after = store.get(["good daY!", *TEXTS[1:]])
    assert counted.rows == len(TEXTS) + 1
    assert np.array_equal(before[1:], after[1:])


def test_a_second_store_reads_what_the_first_wrote(bert: TextBackbone, counted: Counted, tmp_path: Path) -> None:
    run = Run(cache=tmp_path / "features")
    first = Store(bert, run).get(TEXTS)
    assert counted.rows == len(TEXTS)
    other = bert.clone()
    count = Counted(other)
    store = Store(other, run)
    assert np.array_equal(store.get(TEXTS), first)
    assert count.rows == 0
    store.get([*TEXTS, "window"])
    assert count.rows == 1


def test_the_folder_is_for_its_owner_alone(bert: TextBackbone, tmp_path: Path) -> None:
    store = Store(bert, Run(cache=tmp_path / "features"))
    store.get(TEXTS)
    assert store.folder is not None
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    files = [*store.folder.iterdir(), *store.folder.parent.glob(".*")]
    assert {f.name.lstrip(".").partition(".")[2] for f in files} >= {"json", "keys.npy", "use", "values.npy"}
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}


def test_no_text_can_be_read_from_the_folder(bert: TextBackbone, tmp_path: Path) -> None:
    Store(bert, Run(cache=tmp_path)).get(["good stone"])
    assert not any(b"stone" in f.read_bytes() for f in tmp_path.rglob("*.npy"))


@pytest.mark.parametrize("damage", ["cut keys", "cut values", "no values", "no keys", "fewer keys", "text"])
def test_damaged_files_are_passed_over(damage: str, bert: TextBackbone, counted: Counted, tmp_path: Path) -> None:
    run = Run(cache=tmp_path)
    store = Store(bert, run)
    first = store.get(TEXTS)
    assert store.folder is not None
    keys, values = sorted(store.folder.glob("*.npy"))
    if damage.startswith("cut"):
        file = keys if "keys" in damage else values
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif damage.startswith("no"):
        (keys if "keys" in damage else values).unlink()
    elif damage == "fewer keys":
        np.save(keys, np.load(keys)[:-1])
    else:
        keys.write_text("not an array")
    again = Store(bert, run).get(TEXTS)
    assert counted.rows == 2 * len(TEXTS)
    assert np.array_equal(again, first)


def test_a_file_being_written_is_not_there_yet(bert: TextBackbone, counted: Counted, tmp_path: Path) -> None:
    run = Run(cache=tmp_path)
    store = Store(bert, run)
    assert store.folder is not None
    (store.folder / ".abc.keys.tmp").write_bytes(b"\x93NUMPY")
    assert Store(bert, run).get(TEXTS).shape == (5, 32)
    assert counted.rows == len(TEXTS)


def test_other_weights_are_another_folder(bert: TextBackbone, tmp_path: Path) -> None:
    run = Run(cache=tmp_path)
    first = Store(bert, run)
    first.get(TEXTS)
    other = bert.clone()
    with torch.no_grad():
        next(iter(other.parameters())).mul_(1.5)
    second = Store(other, run)
    assert first.folder != second.folder
    assert not np.allclose(first.get(TEXTS), second.get(TEXTS))


def test_a_store_freezes_its_backbone(bert: TextBackbone) -> None:
    bert.requires_grad_(True)
    store = Store(bert, Run())
    assert not any(p.requires_grad for p in store.backbone.parameters())


def test_batches_change_features_by_rounding_alone(bert: TextBackbone) -> None:
    texts = list(tiny_models.rows(70).inputs)
    together = extract(bert, texts, Run())
    apart = np.concatenate([extract(bert, texts[i : i + 9], Run()) for i in range(0, 70, 9)])
    np.testing.assert_allclose(together, apart, atol=1e-5)


def in_parts(bert: TextBackbone, run: Run, dies_after: int | None = None) -> Store:
    """A store whose network fails at the batch of that number."""
    calls = [0]

    def fail(module: object, args: object) -> None:
        calls[0] += 1
        if dies_after is not None and calls[0] > dies_after:
            raise KeyboardInterrupt

    other = bert.clone()
    other.register_forward_pre_hook(fail)
    return Store(other, run)


def test_a_killed_extraction_keeps_its_parts_and_ends_with_the_same_bits(
    bert: TextBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "ROWS_A_PART", 4)
    texts = list(tiny_models.rows(15).inputs)
    whole = in_parts(bert, Run(cache=tmp_path / "whole")).get(texts)
    run = Run(cache=tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        in_parts(bert, run, dies_after=2).get(texts)
    other = bert.clone()
    count = Counted(other)
    assert np.array_equal(Store(other, run).get(texts), whole)
    assert count.rows == 15 - 2 * 4


def test_prepare_keeps_what_get_reads(bert: TextBackbone, counted: Counted, tmp_path: Path) -> None:
    store = Store(bert, Run(cache=tmp_path))
    store.prepare(TEXTS)
    assert counted.rows == len(TEXTS)
    assert np.array_equal(store.get(TEXTS), Store(bert, Run(cache=tmp_path)).get(TEXTS))
    assert counted.rows == len(TEXTS)


def test_values_of_a_kept_part_are_mapped(bert: TextBackbone, tmp_path: Path) -> None:
    on_disk, in_memory = Store(bert, Run(cache=tmp_path)), Store(bert, Run())
    assert np.array_equal(on_disk.get(TEXTS), in_memory.get(TEXTS))
    assert [isinstance(part.values, np.memmap) for part in on_disk._index.parts] == [True]
    assert [isinstance(part.values, np.memmap) for part in in_memory._index.parts] == [False]


def test_half_precision_is_rounded_the_same_before_and_after_the_disk(bert: TextBackbone, tmp_path: Path) -> None:
    exact = Store(bert, Run(cache=tmp_path))
    rounded = exact.get(TEXTS).astype(np.float16).astype(np.float32)
    for cache in (tmp_path, tmp_path, None):
        store = Store(bert, Run(cache=cache, feature_dtype="fp16"))
        found = store.get(TEXTS)
        assert found.dtype == np.float32
        assert np.array_equal(found, rounded)
    assert exact.folder is not None
    both = (exact.folder, tmp_path / f"{exact.folder.name}-fp16")
    sizes = [sum(f.stat().st_size - 128 for f in folder.glob("*.values.npy")) for folder in both]
    assert sizes == [5 * 32 * 4, 5 * 32 * 2]


@pytest.mark.parametrize(("scale", "fits"), [(1.0, True), (1e6, False)])
def test_half_precision_is_refused_beyond_its_range(scale: float, fits: bool, bert: TextBackbone) -> None:
    bert.register_forward_hook(lambda module, args, out: out * scale)
    store = Store(bert, Run(feature_dtype="fp16"))
    if fits:
        assert np.isfinite(store.get(TEXTS)).all()
        return
    with pytest.raises(UserError, match=r"features of tiny-bert reach .*e\+06, beyond .* fp16 \(65504\)"):
        store.get(TEXTS)


def test_an_unknown_precision_is_named(bert: TextBackbone) -> None:
    with pytest.raises(UserError, match=r"unknown feature_dtype 'fp17'; did you mean 'fp16'\?"):
        Store(bert, Run(feature_dtype="fp17"))


def test_many_small_parts_are_merged_while_others_read_them(bert: TextBackbone, tmp_path: Path) -> None:
    run = Run(cache=tmp_path)
    texts = list(tiny_models.rows(parts.MOST + 4).inputs)
    writer = Store(bert, run)
    first = [writer.get([text]) for text in texts[:10]]
    reader = Store(bert.clone(), run)
    first += [writer.get([text]) for text in texts[10:]]
    assert writer.folder is not None
    assert len(list(writer.folder.glob("*.keys.npy"))) == 4  # one of 17, then three more
    count = Counted(bert)
    for store in (writer, reader, Store(bert, run)):
        assert np.array_equal(store.get(texts[:10]), np.concatenate(first[:10]))
    assert np.array_equal(Store(bert, run).get(texts), np.concatenate(first))
    assert count.rows == 0


def test_files_removed_under_a_running_store_do_no_harm(bert: TextBackbone, tmp_path: Path) -> None:
    store = Store(bert, Run(cache=tmp_path))
    before = store.get(TEXTS)
    assert store.folder is not None
    for path in store.folder.glob("*.npy"):
        path.unlink()
    for text in tiny_models.rows(parts.MOST + 4).inputs:
        store.get([text])
    assert np.array_equal(store.get(TEXTS), before)


def test_the_least_recently_used_features_make_room(
    bert: TextBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run(cache=tmp_path, progress=Progress(quiet=False))
    old = Store(bert, run)
    old.get(TEXTS)
    folder = old.folder
    assert folder is not None
    old = Store(bert, Run())  # the first one is let go of
    other = bert.clone()
    with torch.no_grad():
        next(iter(other.parameters())).mul_(1.5)
    monkeypatch.setenv("ACCLIMATE_CACHE_LIMIT", "1KB")
    store = Store(other, run)
    found = store.get(TEXTS)
    assert not folder.exists()
    assert store.folder is not None and store.folder.exists()
    assert np.array_equal(Store(other, run).get(TEXTS), found)
    store.get(["window"])
    said = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("features:")]
    assert said == [
        "removed the features of tiny-bert from the cache to keep it within 1e-06 GB",
        "note: the features in use take more than 1e-06 GB, the limit (`acclimate cache --limit`); "
        "they are kept until their runs end",
    ]


def test_a_changed_picture_file_is_read_again(tmp_path: Path) -> None:
    class FromFiles(tiny_models.TinyCnn):
        def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
            return super().encode([np.load(path).tolist() for path in inputs])

    backbone = FromFiles()
    store = Store(backbone, Run(cache=tmp_path / "features"))
    path = str(tmp_path / "a.npy")
    np.save(path, np.zeros((8, 8), np.float32))
    dark = store.get([path])
    np.save(path, np.ones((8, 8), np.float32))
    os.utime(path, ns=(1, 1))
    assert not np.allclose(store.get([path]), dark)
    assert backbone.calls == 2
    store.get([Path(path)])
    assert backbone.calls == 2


def test_rows_are_found_as_a_dict_would_find_them() -> None:
    draw = np.random.default_rng(0)
    index, known = Index(3), {}
    for size in (1, 50, 0, 200, 7):
        numbers = draw.integers(0, 150, size)  # some again, some twice in one part
        values = draw.normal(size=(size, 3)).astype(np.float32)
        index.add(parts.Part(np.frombuffer(numbers.astype("<i8").repeat(2).tobytes(), parts.KEY), values))
        for number, row in zip(numbers, values, strict=True):
            known.setdefault(int(number), row)
    asked = draw.integers(0, 200, 500)
    rows = index.rows(np.frombuffer(asked.astype("<i8").repeat(2).tobytes(), parts.KEY))
    there = np.array([int(n) in known for n in asked])
    assert 0 < there.sum() < 500
    assert np.array_equal(rows >= 0, there)
    assert np.array_equal(index.values(rows[there]), np.stack([known[int(n)] for n in asked[there]]))
    assert index.values(rows[:0]).shape == (0, 3)


def test_a_batch_that_does_not_fit_into_memory_is_read_in_halves(shared_bert: Any) -> None:
    texts = [f"{'fish ' * (i % 5)}red" for i in range(9)]
    whole = extract(shared_bert, texts, Run())
    most: list[int] = []

    class Small(type(shared_bert)):  # type: ignore[misc]
        def forward(self, batch: Any) -> Any:
            most.append(len(batch["rows"]))
            if most[-1] > 2:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return super().forward(batch)

    backbone = shared_bert.clone()
    _ = backbone.packing
    backbone.__class__ = Small
    assert np.allclose(extract(backbone, texts, Run()), whole, atol=1e-6)
    assert most[0] == 9 and max(n for n in most if n <= 2) == 2

    class Tiny(Small):
        def forward(self, batch: Any) -> Any:
            raise MemoryError

    backbone.__class__ = Tiny
    with pytest.raises(UserError, match="not enough memory to read a single input"):
        extract(backbone, texts, Run())


def test_files_that_change_while_they_are_read_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from acclimate.backbones import load
    from drawn import bars

    paths = [str(tmp_path / f"{i}.png") for i in range(4)]
    for path, pixels in zip(paths, bars(4, side=12)[0], strict=True):
        Image.fromarray(pixels).save(path)
    backbone = load("small-cnn:12")
    store = Store(backbone, Run())
    encode = type(backbone).encode

    def meanwhile(self: Any, inputs: Any) -> Any:
        Image.new("RGB", (30, 30)).save(paths[2])
        return encode(self, inputs)

    monkeypatch.setattr(type(backbone), "encode", meanwhile)
    with pytest.raises(UserError, match=r"1 file changed .* first .*2\.png"):
        store.get(paths)
    monkeypatch.undo()
    assert len(store.missing(paths)) == 4
