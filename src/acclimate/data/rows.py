"""The nouns of data: a `Table` as it was read, `Columns` that give its parts a role, `Data` ready to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

# One raw input, as its kind (data/kinds) has it: a text, two texts read together, a picture as a path or an array ...
Input: TypeAlias = Any
# A tuple holds the classes of a multi-label row, or the cells of several label columns (data/label_cells).
Label: TypeAlias = str | int | float | bool | tuple[Any, ...]
FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
FILES = ("image", "audio")  # what a column of a table may hold that names files, each read by a network of its own
_T = TypeVar("_T")


@dataclass(frozen=True)
class Table:
    """Every row of a source, in order, also those that could not be parsed (their `problems` entry says why)."""

    columns: dict[str, list[object]]  # name -> n cells; from text files str, or None where nothing was written
    lines: tuple[int, ...]  # (n,) 1-based line where the row starts; for frames and lists the row number from 1
    problems: tuple[str | None, ...]  # (n,) None where the row was parsed; its cells are None where it was not
    source: str  # the path as the user gave it, or "<frame>", "<list>", ...
    typed: bool  # False where cells are raw text (CSV, TSV), True where they carry types (Parquet, JSONL, frames)
    facts: dict[str, object] = field(default_factory=dict)  # format, encoding, delimiter, ...; "notes": sentences

    def __len__(self) -> int:
        return len(self.lines)


@dataclass(frozen=True)
class Columns:
    """Which column plays which part. A column named here, or in `drop`, is never guessed to be something else."""

    label: str | tuple[str, ...] | None = None  # several: each is empty where nobody knows
    text: tuple[str, ...] = ()  # one or two
    group: str | None = None  # patient, customer, student: never on both sides of a split
    time: str | None = None  # train on the past, test on the future
    id: str | None = None
    subgroup: tuple[str, ...] = ()  # reported on, never a feature
    weight: str | None = None
    drop: tuple[str, ...] = ()
    domain: str | None = None  # where a row comes from: hospital, site, year; judged by leaving each out
    file: str | None = None  # the paths of pictures or recordings, or what Python holds of them
    kind: str = ""  # what the inputs are, a name of data/kinds; empty where it is still to be found out
    features: tuple[str, ...] = ()  # the columns of a table that are learned from
    holds: tuple[str, ...] = ()  # what each of them holds (data/column_types), in the same order
    rate: float | None = None  # steps a second of series that do not say their own
    tasks: tuple[str, ...] = ()  # of several label columns that are a task each: which, in the same order

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that an input is read from."""
        return self.features or (self.text if self.file is None else (self.file,))

    @property
    def files(self) -> tuple[str, ...]:
        """The columns whose cells are pictures or sounds, most of them in files."""
        among = (name for name, kind in zip(self.features, self.holds, strict=True) if kind in FILES)
        return tuple(among) if self.file is None else (self.file, *among)

    @property
    def used(self) -> tuple[str, ...]:
        """Every column that the user or the guess gave a part, or dropped."""
        single = (*self.labels, self.group, self.time, self.id, self.weight, self.domain)
        named = [*(n for n in single if n is not None), *self.inputs, *self.subgroup, *self.drop]
        return tuple(dict.fromkeys(named))

    @property
    def labels(self) -> tuple[str, ...]:
        """The label columns: none, one or several."""
        return () if self.label is None else (self.label,) if isinstance(self.label, str) else self.label


@dataclass(frozen=True)
class Data:
    """Rows that passed the gate. Every sequence has one entry a row, in the order of the source."""

    inputs: tuple[Input, ...]
    labels: tuple[Label, ...] | None = None  # in the user's own type
    weights: FloatArray | None = None
    groups: tuple[str, ...] | None = None
    times: FloatArray | None = None  # comparable: seconds for dates, else the number itself
    ids: tuple[object, ...] | None = None
    subgroups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    domains: tuple[str, ...] | None = None
    clusters: IntArray | None = None  # rows with one number are duplicates of each other and stay together
    shared: IntArray | None = None  # rows with one number hold a file in common and stay together; None: no two do
    lines: tuple[int, ...] = ()
    source: str = "<memory>"
    kind: str = "text"  # what an input is: a name of data/kinds

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Sequence[int] | IntArray) -> Data:
        """The rows with these positions, in this order."""
        at = [int(i) for i in rows]

        def pick(values: tuple[_T, ...]) -> tuple[_T, ...]:
            return tuple(values[i] for i in at)

        return replace(
            self,
            inputs=pick(self.inputs),
            labels=None if self.labels is None else pick(self.labels),
            weights=None if self.weights is None else self.weights[at],
            groups=None if self.groups is None else pick(self.groups),
            times=None if self.times is None else self.times[at],
            ids=None if self.ids is None else pick(self.ids),
            subgroups={name: pick(values) for name, values in self.subgroups.items()},
            domains=None if self.domains is None else pick(self.domains),
            clusters=None if self.clusters is None else self.clusters[at],
            shared=None if self.shared is None else self.shared[at],
            lines=pick(self.lines) if self.lines else (),
        )


def joined(a: Data, b: Data) -> Data:
    """The rows of both; a part that one of them lacks is left out."""

    def both(x: Any, y: Any) -> Any:
        if x is None or y is None:
            return None
        return np.concatenate([x, y]) if isinstance(x, np.ndarray) else (*x, *y)

    return Data(
        inputs=(*a.inputs, *b.inputs),
        labels=both(a.labels, b.labels),
        weights=both(a.weights, b.weights),
        groups=both(a.groups, b.groups),
        subgroups={k: both(v, b.subgroups[k]) for k, v in a.subgroups.items() if k in b.subgroups},
        domains=both(a.domains, b.domains),
        lines=(*a.lines, *b.lines),
        source=f"{a.source}, {b.source}",
        kind=a.kind,
    )
