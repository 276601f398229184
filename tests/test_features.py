from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_models
from acclimate.backbones.text import TextBackbone
from acclimate.features import Store, extract, key_of
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


def test_keys_tell_inputs_apart() -> None:
    values = ["a", "b", '["a", "b"]', ("a", "b"), ("b", "a"), ("ab", ""), "\ud800", "", b"a", b"b"]
    assert len({key_of(v) for v in values}) == len(values)
    assert key_of(("a", "b")) == key_of(["a", "b"])
    assert {len(key_of(v)) for v in values} == {16}


def test_batches_change_features_by_rounding_alone(bert: TextBackbone) -> None:
    texts = list(tiny_models.rows(70).inputs)
    together = extract(bert, texts, Run())
    apart = np.concatenate([extract(bert, texts[i : i + 9], Run()) for i in range(0, 70, 9)])
    np.testing.assert_allclose(together, apart, atol=1e-5)
