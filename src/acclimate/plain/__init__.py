"""Features without transfer, by the kind of input: words of texts, pixels of pictures, spectra of sounds,
statistics of series, columns of a table, fingerprints of molecules. What every baseline reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from acclimate.errors import UserError
from acclimate.files import json_text
from acclimate.plain.base import Plain
from acclimate.plain.columns import ColumnFeatures, fit_columns
from acclimate.plain.fingerprints import FingerprintFeatures
from acclimate.plain.pixels import PixelFeatures
from acclimate.plain.spectra import SpectrumFeatures
from acclimate.plain.statistics import StatisticsFeatures
from acclimate.plain.words import WordFeatures, fit_words, sparse

__all__ = ["CLASSES", "Plain", "fit_plain", "load", "save", "sparse"]

_EVERY: tuple[type[Plain], ...] = (
    WordFeatures,
    PixelFeatures,
    SpectrumFeatures,
    StatisticsFeatures,
    ColumnFeatures,
    FingerprintFeatures,
)
CLASSES: dict[str, type[Plain]] = {made.kind: made for made in _EVERY}
_FIT: dict[str, Callable[[Sequence[Any], int], Plain | None]] = {  # by kind of input
    "text": fit_words,
    "smiles": fit_words,
    "image": lambda inputs, most: PixelFeatures.of(inputs),
    "audio": lambda inputs, most: SpectrumFeatures.of(inputs),
    "series": lambda inputs, most: StatisticsFeatures.of(inputs),
    "table": lambda inputs, most: fit_columns(inputs),
    "molecule": lambda inputs, most: FingerprintFeatures(),
}


def fit_plain(kind: str, inputs: Sequence[Any], most: int) -> Plain | None:
    """Features of these training rows, at most so many where their number depends on the rows; None where none occur.

    >>> fit_plain("text", ["good film", "bad film"], 100).width
    5
    """
    return _FIT[kind](inputs, most)


def save(plain: Plain, folder: Path) -> None:
    """KIND.json and KIND.safetensors."""
    from safetensors.numpy import save_file

    values, arrays = plain.state()
    (folder / f"{plain.kind}.json").write_text(json_text(values), encoding="utf-8")
    save_file(arrays, folder / f"{plain.kind}.safetensors")


def load(folder: Path) -> Plain | None:
    """What `save` wrote into this folder, if it did."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    for kind, made in CLASSES.items():
        if (folder / f"{kind}.json").is_file():
            try:
                values = json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))
                return made.of_state(values, load_file(folder / f"{kind}.safetensors"))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
                raise UserError(
                    f"{folder / kind}.json or .safetensors is damaged ({error!r}); copy the bundle again or fit anew"
                ) from error
    return None
