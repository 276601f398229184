"""Results that a benchmark keeps: rows in a JSON file, written as they come, so that a run that is cut goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from acclimate.files import write_text


class Kept:
    """The rows of a JSON file (none where there is no file yet) and their way back into it.

    The file holds a list of rows, a value a line; with `lines` a row a line. With `under` it holds an object: the rows
    are its member of that name, and the others say how they were measured. One process writes a file at a time: what
    another one adds meanwhile is lost.
    """

    def __init__(self, path: Path, *, lines: bool = False, under: str = "") -> None:
        nothing: Any = {under: []} if under else []
        self.path, self.lines = path, lines
        self._whole: Any = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else nothing
        self.rows: list[dict[str, Any]] = self._whole[under] if under else self._whole

    def has(self, key: dict[str, Any]) -> bool:
        """Whether a row contains all items of `key`: rows of an older run may lack some, and are then another key's."""
        return any(key.items() <= row.items() for row in self.rows)

    def missing(self, keys: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The keys that no row contains. Each is looked up when its turn comes: rows added meanwhile count."""
        return (key for key in keys if not self.has(key))

    def add(self, *rows: dict[str, Any], say: object = None, **about: object) -> None:
        """Append rows that belong together, so that a run that is cut leaves all of them or none; write, then print.

        `say` is printed instead of the rows. `about` sets members beside the rows in a file with `under`.
        """
        self.rows += rows
        if about:
            self._whole |= about
        self.write()
        for line in rows if say is None else [say]:
            print(line, flush=True)

    def write(self) -> None:
        """All rows into the file, as it is or as it was: never a part of it."""
        if self.lines:
            text = "[\n" + ",\n".join(map(json.dumps, self.rows)) + "\n]"
        else:
            text = json.dumps(self._whole, indent=0)
        write_text(self.path, text + "\n")
