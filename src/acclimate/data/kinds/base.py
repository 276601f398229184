"""What the gate, the splits and the report must know of a kind of input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from acclimate.data.duplicates import clusters
from acclimate.data.findings import Finding
from acclimate.data.rows import Columns, Data, Input, IntArray, Table
from acclimate.progress import Progress


@dataclass(frozen=True)
class Reading:
    """One entry a row of a table: the input, or None and the reason of the gate why there is none."""

    inputs: tuple[Input | None, ...]
    reasons: tuple[str | None, ...]


def _one(value: Any) -> str:
    return str(value)


def _nothing_more(data: Data, private: bool) -> list[Finding]:
    return []


def _no_single(value: Any) -> bool:
    return False


def _cells(value: Any) -> tuple[Any, ...]:
    return (value,)


def _nothing_shared(inputs: Sequence[Input]) -> IntArray | None:
    return None


def _numbered(inputs: Sequence[Input], keys: Sequence[str]) -> IntArray:
    return clusters(inputs, keys)


@dataclass(frozen=True)
class Kind:
    """A kind of input. Its functions take inputs as `read` gives them."""

    name: str
    noun: str  # of one input, in messages
    plural: str
    models: tuple[str, ...]  # the modalities of backbones that read it
    model: str  # the usual backbone
    baseline: str  # the strategy that does without transfer: a name of BASELINES
    blank: str  # what is said of a row without input
    near: str  # "but for ...": what near duplicates may differ in
    read: Callable[[Table, Columns, Progress], Reading]
    given: Callable[[Any, Columns, int], Input | None]  # what Python gives as one input, at this position; None: blank
    keys: Callable[[Sequence[Input]], list[str]]  # equal for one content, in every process
    exact: Callable[[Sequence[Input]], Sequence[Any]]  # hashable; equal for exact repeats
    clusters: Callable[[Sequence[Input], Sequence[str]], IntArray] = _numbered  # by inputs and their keys
    shared: Callable[[Sequence[Input]], IntArray | None] = _nothing_shared  # one number: a part in common; None: no two
    also: tuple[str, ...] = ()  # further baselines
    choose: Callable[[Sequence[Table], Columns], tuple[str, str]] | None = None  # another backbone for such inputs, why
    findings: Callable[[Data, bool], list[Finding]] = _nothing_more  # the second: private, so that none quotes a cell
    odd: Callable[[Data, bool], list[Finding]] = _nothing_more  # those of them on what cannot be read, in new rows too
    single: Callable[[Any], bool] = _no_single  # whether what Python gives is one input, and no list of them
    cells: Callable[[Input], tuple[Any, ...] | None] = _cells  # as its columns in a CSV hold it; None: no file can
    shown: Callable[[Input], Any] = _one  # as plain JSON, for lists of rows
    owners: Callable[[Sequence[Input]], tuple[str, ...]] | None = None  # groups, where the user names none
    owner: str = ""  # what such a group is called
    picture: Callable[[Input], str] | None = None  # as a data URI, for reports
    played: Callable[[Input], str] | None = None  # as a data URI of a short sound, for reports
    beside: bool = False  # whether `auto` tries plain features beside those of a network (`hybrid`)
    has_words: bool = False  # whether inputs are prose, so that words can be counted and labels stand in them
