"""Downloading by pip under a pinned hash."""

from __future__ import annotations

import errno
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from acclimate.catalogue import fetch as module
from acclimate.catalogue.cache import writing
from acclimate.catalogue.fetch import Wheel, explain, fetch
from acclimate.errors import UserError

Packager = Callable[..., Wheel]
ANY = Wheel("some-package", "1.0", "some_package-1.0-py3-none-any.whl", "0" * 64, 12.0)


def test_a_wheel_arrives_whole_and_leaves_nothing_else_behind(wheel: Packager, tmp_path: Path) -> None:
    described = wheel("good-package", {"data/x.txt": "hello"})
    path = fetch(described, tmp_path / "d")
    assert zipfile.ZipFile(path).read("data/x.txt") == b"hello"
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["good_package-1.0-py3-none-any.whl"]


@pytest.mark.parametrize(
    "toml", [None, '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n']
)
def test_nothing_of_an_sdist_is_run(sdist: Packager, tmp_path: Path, toml: str | None) -> None:
    trace = tmp_path / "was-run"
    members = {"setup.py": f"open({str(trace)!r}, 'w').close()\nraise SystemExit('built')\n", "data/x.txt": "hello"}
    described = sdist("built-package", members | ({"pyproject.toml": toml} if toml else {}))
    path = fetch(described, tmp_path / "d")
    assert path.name == "built-package-1.0.tar.gz"
    assert not trace.exists()


def test_another_hash_is_refused_and_nothing_is_kept(wheel: Packager, tmp_path: Path) -> None:
    described = wheel("good-package", {"x": "1"})
    with pytest.raises(UserError) as caught:
        fetch(replace(described, sha256="ab" * 32), tmp_path / "d")
    assert described.sha256 in str(caught.value)
    assert "ab" * 32 in str(caught.value)
    assert "nothing of it was run" in str(caught.value)
    assert list((tmp_path / "d").iterdir()) == []


def test_an_sdist_with_another_hash_is_refused_before_it_is_looked_at(sdist: Packager, tmp_path: Path) -> None:
    described = sdist("built-package", {"x": "1"})
    with pytest.raises(UserError, match="sha256 is " + described.sha256):
        fetch(replace(described, sha256="ab" * 32), tmp_path / "d")


def test_what_the_index_does_not_have_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no some_package-1.0-py3-none-any.whl .*PIP_INDEX_URL"):
        fetch(ANY, tmp_path / "d")


def test_no_network_is_not_mistaken_for_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nobody listens
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(UserError, match="could not be reached"):
        fetch(ANY, tmp_path / "d")


def test_a_python_without_pip_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_command", lambda *_: [sys.executable, "-I", "-S", "-m", "pip"])
    with pytest.raises(UserError, match="ensurepip"):
        fetch(ANY, tmp_path / "d")


def test_a_full_disk_is_told_by_pip_or_by_the_system() -> None:
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    assert "needs 12 MB" in str(explain(said, ANY))
    assert "disk is full" in str(explain(said, ANY))
    with pytest.raises(UserError, match="is full; free some space"), writing(Path("/some/where")):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("WARNING: Retrying (Retry(total=0 ...)) after connection broken by 'NameResolutionError'\nERROR: No matching "
         "distribution found for x", "could not be reached"),
        ("ERROR: HTTP error 403 while getting https://host/x.whl", "could not be reached"),
        ("ERROR: 401 Client Error: Unauthorized for url", "could not be reached"),
        ("ERROR: HTTP error 404 while getting https://host/x.whl", "has no some_package"),
        ("ERROR: Exception:\nsomething odd\nERROR: it broke in a new way", "it broke in a new way"),
        ("", "it printed nothing"),
    ],
)  # fmt: skip
def test_what_pip_says_is_turned_into_one_clear_error(output: str, expected: str) -> None:
    assert expected in str(explain(output, ANY))


def test_a_verified_download_is_used_again_and_a_damaged_one_is_not(
    wheel: Packager, index: Path, tmp_path: Path
) -> None:
    described = wheel("good-package", {"x": "1"})
    path = fetch(described, tmp_path / "d")
    original = path.read_bytes()
    path.write_bytes(b"damaged")
    assert fetch(described, tmp_path / "d").read_bytes() == original
    shutil.rmtree(index)  # from here on there is no index
    said: list[str] = []
    assert fetch(described, tmp_path / "d", said.append).read_bytes() == original
    assert said == ["good_package-1.0-py3-none-any.whl was downloaded before and its hash still agrees"]


def test_what_a_killed_pip_left_is_removed(wheel: Packager, tmp_path: Path) -> None:
    described = wheel("good-package", {"x": "1"})
    (tmp_path / "d" / "pip-123.tmp" / "tmp").mkdir(parents=True)
    fetch(described, tmp_path / "d")
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["good_package-1.0-py3-none-any.whl"]
