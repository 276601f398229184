"""Transcripts without transfer: the most frequent one, and that of the training sound with the nearest spectrum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from acclimate.data.rows import Data
from acclimate.metrics.transcripts import normalised
from acclimate.plain.spectra import SpectrumFeatures
from acclimate.structured.base import labels_of


class MostFrequent:
    """The transcript that most training sounds have, whatever is heard."""

    def __init__(self, train: Data, normalise: str) -> None:
        counts = Counter(normalised(text, normalise) for text in labels_of(train))
        self.text = min(counts, key=lambda text: (-counts[text], text))

    def answers(self, inputs: Sequence[Any]) -> list[Any]:
        """The same for each."""
        return [self.text] * len(inputs)


class NearestSpectrum:
    """The transcript of the nearest training sound by mean and spread of cepstral coefficients (`plain.spectra`):
    recognition of whole words by templates, as before networks."""

    def __init__(self, train: Data) -> None:
        from sklearn.neighbors import NearestNeighbors

        self.texts = labels_of(train)
        self.features = SpectrumFeatures.of(train.inputs)
        self.near = NearestNeighbors(n_neighbors=1).fit(self.features.transform(train.inputs).toarray())

    def answers(self, inputs: Sequence[Any]) -> list[Any]:
        """One transcript a sound."""
        at = self.near.kneighbors(self.features.transform(inputs).toarray(), return_distance=False)[:, 0]
        return [self.texts[i] for i in at.tolist()]
