"""Wheels and sdists read as the archives they are: members by name, never imported, never unpacked as a whole."""

from __future__ import annotations

import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

LICENCE = re.compile(r"(licen[cs]e|notice|copying)[^/]*$", re.IGNORECASE)


class Archive:
    """One wheel (zip) or sdist (tar.gz). Members are named by a path's end, which must belong to one member only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip = zipfile.ZipFile(path) if path.suffix in (".whl", ".zip") else None
        self._tar = None if self._zip else tarfile.open(path)  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in (self._zip, self._tar):
            if handle is not None:
                handle.close()

    def names(self) -> list[str]:
        """The paths of all files in it."""
        if self._zip:
            return [item.filename for item in self._zip.infolist() if not item.is_dir()]
        assert self._tar is not None
        return [item.name for item in self._tar.getmembers() if item.isfile()]

    def find(self, end: str) -> str:
        """The one member whose path is `end` or ends in "/" + `end`."""
        found = [name for name in self.names() if name == end or name.endswith("/" + end)]
        if len(found) != 1:
            raise ValueError(f"{self.path.name} holds {len(found)} members that end in {end!r}, not one")
        return found[0]

    def has(self, end: str) -> bool:
        """Is there a member whose path is `end` or ends in "/" + `end`?"""
        return any(name == end or name.endswith("/" + end) for name in self.names())

    @contextmanager
    def open(self, end: str) -> Iterator[IO[bytes]]:
        """One member as a stream."""
        name = self.find(end)
        handle = self._zip.open(name) if self._zip else self._tar.extractfile(name)  # type: ignore[union-attr]
        assert handle is not None
        with handle:
            yield handle

    def read(self, end: str) -> bytes:
        """One member, whole."""
        with self.open(end) as handle:
            return handle.read()

    def copy(self, end: str, to: Path) -> Path:
        """Writes one member to the file `to`, in pieces: members may be as large as the memory."""
        to.parent.mkdir(parents=True, exist_ok=True)
        with self.open(end) as source, to.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        return to

    def licences(self) -> list[str]:
        """Members that look like licence or notice texts."""
        return [name for name in self.names() if LICENCE.search(name) and not name.endswith(".py")]
