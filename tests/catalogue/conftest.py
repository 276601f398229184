"""Packages made on the spot and served from a folder, so that pip runs for real with no network."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from acclimate.catalogue.fetch import Wheel

Packager = Callable[..., Wheel]


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of packages: the only place where pip looks. The cache is elsewhere in the same folder."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.upper().startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("ACCLIMATE_CACHE", str(tmp_path / "cache"))
    return folder


def _describe(path: Path, name: str, mb: float = 0.01) -> Wheel:
    return Wheel(name, "1.0", path.name, hashlib.sha256(path.read_bytes()).hexdigest(), mb)


@pytest.fixture
def wheel(index: Path) -> Packager:
    """wheel("name", {"folder/member": content}) puts a wheel into the index and describes it."""

    def make(name: str, members: Mapping[str, bytes | str]) -> Wheel:
        stem = name.replace("-", "_")
        path, info = index / f"{stem}-1.0-py3-none-any.whl", f"{stem}-1.0.dist-info"
        with zipfile.ZipFile(path, "w") as file:
            for member, content in members.items():
                file.writestr(member, content)
            file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            file.writestr(f"{info}/LICENSE", "be kind")
            file.writestr(f"{info}/RECORD", "")
        return _describe(path, name)

    return make


@pytest.fixture
def sdist(index: Path) -> Packager:
    """The same as an sdist, which pip would build to learn its name."""

    def make(name: str, members: Mapping[str, bytes | str]) -> Wheel:
        path = index / f"{name}-1.0.tar.gz"
        with tarfile.open(path, "w:gz") as file:
            everything = {"PKG-INFO": f"Metadata-Version: 1.0\nName: {name}\nVersion: 1.0\n", **members}
            for member, content in everything.items():
                data = content.encode() if isinstance(content, str) else content
                item = tarfile.TarInfo(f"{name}-1.0/{member}")
                item.size = len(data)
                file.addfile(item, io.BytesIO(data))
        return _describe(path, name)

    return make
