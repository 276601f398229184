"""Molecules in SMILES: checked and spelled in one way by rdkit; or, where it is not there, as they are written."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from acclimate.data import molecules
from acclimate.data.columns import texts_of
from acclimate.data.findings import Finding, finding, rows_text, verb
from acclimate.data.kinds.base import Kind, Reading
from acclimate.data.kinds.text import is_text
from acclimate.data.labels import is_blank
from acclimate.data.rows import Columns, Data, Input, Table
from acclimate.errors import UserError
from acclimate.progress import Progress

_SAID = {molecules.SYNTAX: "is no SMILES", molecules.VALENCE: "is no possible molecule"}


def read(table: Table, columns: Columns, progress: Progress) -> Reading:
    """Each cell as one molecule in its canonical spelling."""
    texts = _texts(table, columns)
    found = []
    with progress.steps("reading molecules", len(texts)) as advance:
        for text in texts:
            found.append(molecules.Parsed(None, "blank_input") if text is None else molecules.parse(text))
            advance(1)
    return Reading(tuple(one.smiles for one in found), tuple(one.problem for one in found))


def _texts(table: Table, columns: Columns) -> list[str | None]:
    if len(columns.text) > 1:
        raise UserError(f"molecules are read from one column, and {' and '.join(columns.text)} are named; keep one")
    return texts_of(table, columns)


def given(value: Any, columns: Columns, position: int) -> Input | None:
    """One SMILES text."""
    text = _text(value, columns, position)
    if text is None:
        return None
    found = molecules.parse(text)
    if found.problem is not None:
        raise UserError(f"input {position + 1} ({text[:60]!r}) {_SAID[found.problem]}; correct it or leave it out")
    return found.smiles


def _text(value: Any, columns: Columns, position: int) -> str | None:
    if is_blank(value) or type(value).__name__ == "NAType":  # the null of pandas, which equals nothing
        return None
    if not isinstance(value, str):
        raise UserError(f"input {position + 1} is {type(value).__name__}, not a SMILES text: {str(value)[:60]!r}")
    return value


def _keys(inputs: Sequence[Input]) -> list[str]:
    return [str(one) for one in inputs]


def _exact(inputs: Sequence[Input]) -> Sequence[Any]:
    return [getattr(one, "written", one) for one in inputs]


def findings(data: Data, private: bool) -> list[Finding]:
    """Salts and mixtures, and atoms that stand for any."""
    out = []
    for kind, severity, sign, what in (
        ("several_parts", "info", ".", "a salt or a mixture; all of its parts are read"),
        ("any_atom", "warning", "*", "a place for any atom (*), which is no whole molecule"),
    ):
        lines = [n for one, n in zip(data.inputs, data.lines, strict=True) if sign in one]
        if lines:
            text = f"{rows_text(len(lines))} {verb(len(lines), 'hold')} {what}"
            out.append(finding(kind, severity, text, len(lines), lines))
    return out


def _picture(one: Input) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(molecules.drawing(one).encode()).decode()


def _shown(one: Input) -> Any:
    return str(getattr(one, "written", one))


def _cells(one: Input) -> tuple[Any, ...]:
    return (_shown(one),)


MOLECULE = Kind(
    name="molecule",
    noun="molecule",
    plural="molecules",
    models=("text",),
    model="rxn-albert",
    baseline="fingerprints",
    also=("forest", "boosting"),
    blank="no SMILES (blank or null)",
    near="in another spelling",
    read=read,
    given=given,
    keys=_keys,
    exact=_exact,
    findings=findings,
    shown=_shown,
    cells=_cells,
    single=is_text,
    picture=_picture,
    owners=molecules.scaffolds,
    owner="scaffold",
    beside=True,
)


def _read_as_text(table: Table, columns: Columns, progress: Progress) -> Reading:
    texts = [None if text is None else text.strip() for text in _texts(table, columns)]
    return Reading(tuple(texts), tuple("blank_input" if text is None else None for text in texts))


def _given_as_text(value: Any, columns: Columns, position: int) -> Input | None:
    text = _text(value, columns, position)
    return None if text is None else text.strip()


def _unchecked(data: Data, private: bool) -> list[Finding]:
    text = (
        "no molecule was read by rdkit: wrong SMILES, one molecule in two spellings, and scaffolds on both sides of a "
        "split were not looked for (pip install 'acclimate[molecules]')"
    )
    return [finding("unchecked", "warning", text, len(data))]


SMILES = replace(
    MOLECULE,
    name="smiles",
    noun="SMILES text",
    plural="SMILES texts",
    baseline="tfidf",
    also=(),
    near="but for spaces",
    read=_read_as_text,
    given=_given_as_text,
    findings=_unchecked,
    picture=None,
    owners=None,
    owner="",
    beside=False,
)
