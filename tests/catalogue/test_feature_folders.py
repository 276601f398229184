from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from acclimate.catalogue import cache as places
from acclimate.catalogue import feature_folders as features
from acclimate.errors import UserError


def folder(root: Path, name: str, days: float, size: int = 1000) -> Path:
    """A feature folder of this size that was last used so long ago."""
    made = root / "features" / name
    features.opened(made, {"model": f"model-{name}", "width": 4, "dtype": "fp32"})
    (made / "p.values.npy").write_bytes(bytes(size - made.joinpath("about.json").stat().st_size))
    (made / "p.keys.npy").write_bytes(bytes(0))
    os.utime(made / "about.json", (time.time() - 86_400 * days,) * 2)
    return made


def names(root: Path) -> list[str]:
    return sorted(f.name for f in features.folders(root / "features"))


def test_the_list_names_models_rows_and_sizes(tmp_path: Path) -> None:
    folder(tmp_path, "aaaa", days=3)
    new = folder(tmp_path, "bbbb", days=0.5)
    (new / "p.keys.npy").write_bytes(bytes(128 + 16 * 7))
    (new / "q.keys.npy").write_bytes(bytes(128 + 16 * 5))
    old = tmp_path / "features" / "cccc"  # of an earlier release
    old.mkdir()
    os.utime(old, (1e9, 1e9))
    rows = features.listing(tmp_path)
    assert [(r["name"], r["fingerprint"], r["rows"], r["width"], r["dtype"]) for r in rows] == [
        ("model-bbbb", "bbbb", 12, 4, "fp32"),
        ("model-aaaa", "aaaa", 0, 4, "fp32"),
        ("unknown", "cccc", 0, None, None),
    ]
    assert [r["bytes"] for r in rows] == [1000 + 2 * 128 + 16 * 12, 1000, 0]
    assert [round(r["days"], 1) for r in rows[:2]] == [0.5, 3.0]
    assert rows[2]["last_used"] == "2001-09-09T01:46:40+00:00"
    assert json.loads((new / "about.json").read_text())["model"] == "model-bbbb"
    assert features.listing(tmp_path / "nowhere") == []


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    for name, days in (("aaaa", 1), ("bbbb", 3), ("cccc", 2)):
        folder(tmp_path, name, days)
    root = tmp_path / "features"
    assert features.make_room(root, 0) == ([], 3000)
    assert features.make_room(root, 3000) == ([], 3000)
    assert features.make_room(root, 2999) == (["model-bbbb"], 2000)
    assert names(tmp_path) == ["aaaa", "cccc"]
    assert features.make_room(root, 10) == (["model-cccc", "model-aaaa"], 0)


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    for name, days in (("aaaa", 1), ("bbbb", 3)):
        folder(tmp_path, name, days)
    root = tmp_path / "features"
    held = features.opened(root / "bbbb", {})
    os.utime(root / "bbbb" / "about.json", (1, 1))
    assert features.make_room(root, 10) == (["model-aaaa"], 1000)
    assert features.remove(root / "bbbb") is None
    del held
    assert features.remove(root / "bbbb") == 1000
    assert names(tmp_path) == []
    assert features.remove(root / "bbbb") == 0


def test_another_process_holds_a_folder_until_it_ends(tmp_path: Path) -> None:
    place = folder(tmp_path, "aaaa", days=1)
    code = (
        "import sys; from pathlib import Path; from acclimate.catalogue import feature_folders as features;"
        "held = features.opened(Path(sys.argv[1]), {}); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        assert features.remove(place) is None
        other.kill()
    assert list(place.glob(".*.use"))
    assert features.remove(place) == 1000


def test_marks_of_the_dead_do_not_gather(tmp_path: Path) -> None:
    place = folder(tmp_path, "aaaa", days=1)
    for n in range(3):
        (place / f".{n}.use").touch()
    held = features.opened(place, {})
    assert len(list(place.glob(".*.use"))) == 1
    del held


def test_what_a_killed_removal_left_goes(tmp_path: Path) -> None:
    folder(tmp_path, "aaaa", days=1)
    left = tmp_path / "features" / ".bbbb.x1.tmp"
    left.mkdir()
    (left / "values").write_bytes(bytes(5000))
    assert features.make_room(tmp_path / "features", 2000) == ([], 1000)
    assert not left.exists()


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("1.5 gb", 1_500_000_000), ("500MB", 5 * 10**8), ("1GiB", 2**30), ("0", 0), ("0GB", 0)],
)
def test_the_limit_is_a_size(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCLIMATE_CACHE_LIMIT", text)
    assert places.limit() == size


def test_the_limit_is_10_gb_until_another_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is set stays for later processes; the variable comes before it."""
    monkeypatch.setenv("ACCLIMATE_CACHE", str(tmp_path / "new"))
    monkeypatch.delenv("ACCLIMATE_CACHE_LIMIT", raising=False)
    assert places.limit() == 10**10
    places.set_limit(" 5GB ")
    assert places.limit() == 5 * 10**9
    assert json.loads((tmp_path / "new" / "settings.json").read_text()) == {"limit": "5GB"}
    with pytest.raises(UserError, match=r"^--limit '5' is not a size"):
        places.set_limit("5")
    assert places.limit() == 5 * 10**9
    monkeypatch.setenv("ACCLIMATE_CACHE_LIMIT", "1GB")
    assert places.limit() == 10**9
    monkeypatch.delenv("ACCLIMATE_CACHE_LIMIT")
    (tmp_path / "new" / "settings.json").write_text('{"limit": "much"}')
    with pytest.raises(UserError, match=r"limit in .*settings.json: 'much' is not a size"):
        places.limit()


@pytest.mark.parametrize("text", ["10", "much", "-1GB", "", "2 PBs", "GB"])
def test_a_limit_that_is_no_size_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCLIMATE_CACHE_LIMIT", text)
    with pytest.raises(UserError, match=r"is not a size; write 10GB or 500MB, or 0 for no limit"):
        places.limit()
