"""Networks that write what is said: Whisper whole, and letters frame by frame (CTC) on any encoder of speech."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acclimate.backbones.base import Batch, Encoded
from acclimate.backbones.hub_speech import Dictation
from acclimate.backbones.sound import Prepared, SoundBackbone
from acclimate.data.sounds import count_windows, name_of, seconds_of, windows
from acclimate.errors import UserError, plural
from acclimate.metrics.transcripts import normalised
from acclimate.structured.base import StructuredNetwork
from acclimate.structured.ctc import BLANK, beam, frames_needed, greedy

_SEAM = 12  # words on each side of a cut between windows among which the same words are looked for
_FILLED = 0.95  # of what is read at a time, at most, by a window of a longer sound
_NOT = -100  # a token that is not learned from
_KEPT = 4 * 3600.0  # seconds of sounds in all that are prepared once; more are read again in every epoch


@dataclass(frozen=True)
class Spoken(Encoded):
    """A sound, and the codes of what is said in it."""

    codes: tuple[int, ...] = ()


class SoundNetwork(StructuredNetwork):
    """What both networks share."""

    backbone: SoundBackbone

    @property
    def augments(self) -> bool:  # type: ignore[override]
        """Whether the backbone has random changes of sounds."""
        return self.backbone.augments

    @abstractmethod
    def codes(self, text: str) -> tuple[int, ...]:
        """What is learned of a transcript."""

    def encode(self, inputs: Sequence[Any], labels: Sequence[Any] | None) -> list[Encoded]:
        """Sounds as the backbone reads them. Those that are learned from have to fit into one window."""
        seconds = [seconds_of(one) for one in inputs]
        if labels is None:
            read = self.backbone.encode_later(inputs)
            rows = [Spoken(row.parts, row.cost, row.lost, row.total) for row in read]
            long = [self.backbone.count(there) > 1 for there in seconds]
            return [self._in_windows(x, row) if yes else row for x, row, yes in zip(inputs, rows, long, strict=True)]
        for one, there in zip(inputs, seconds, strict=True):
            if there > self.backbone.sound.seconds + 1e-6:
                raise UserError(
                    f"{name_of(one)} lasts {there:.4g} seconds and {self.backbone.sound.seconds:g} are read at a time: "
                    f"learn from shorter ones (--set longest={self.backbone.sound.seconds:g} drops the others), or "
                    "read more (--max-seconds)"
                )
        read = (self.backbone.encode if sum(seconds) <= _KEPT else self.backbone.encode_later)(inputs)
        rows = [Spoken(r.parts, r.cost, r.lost, r.total, self.codes(t)) for r, t in zip(read, labels, strict=True)]
        for one, row, text in zip(inputs, rows, labels, strict=True):
            self.check(one, row, text)
        return list(rows)

    def _in_windows(self, sound: Any, row: Spoken) -> Spoken:
        """A long sound in windows of one length: a short last one would be heard without what goes before. Each leaves
        room for some silence after it, without which a decoder that was tuned on shorter sounds goes in circles."""
        backbone, rate = self.backbone, self.backbone.sound.rate
        samples = round(seconds_of(sound) * rate)
        most = round(_FILLED * backbone.sound.seconds * rate)
        shared = round(backbone.overlap * most)
        count = count_windows(samples, most, shared)
        room = -(-(samples + (count - 1) * shared) // count)
        cut = windows(sound, rate, room + 16, shared)  # a little more: rounding makes no window of its own
        parts = tuple(Prepared(backbone.prepare(one), len(one)) for one in cut)
        return Spoken(parts, len(parts) * backbone.cost(room / rate), row.lost, row.total)

    def check(self, sound: Any, row: Spoken, text: str) -> None:
        """Refuse a transcript that cannot be learned from this sound."""

    def changed(self, rows: Sequence[Encoded], generator: torch.Generator, strength: float) -> list[Encoded]:
        """The sounds changed as the backbone's `augment` says."""
        return [self.backbone.changed(row, generator, strength) for row in rows]


class DictationNetwork(SoundNetwork):
    """Whisper whole. Loss of a row: Σ over the pieces of its transcript, the sign of the end among them, of the
    cross-entropy given the pieces before; over the mean number of words a row had in training."""

    backbone: Dictation

    def __init__(self, backbone: Dictation, words_a_row: float, beams: int) -> None:
        super().__init__(backbone, nn.Module())
        self.words_a_row, self.beams = words_a_row, beams

    def refused_answer(self, answer: Any) -> str:
        """Transcripts that are longer than what is written."""
        try:
            self.codes(str(answer))
        except UserError as error:
            return str(error)
        return ""

    def codes(self, text: str) -> tuple[int, ...]:
        """The pieces of the text as it is given."""
        found = tuple(self.backbone.tokens(text))
        if len(found) > self.backbone.room:
            raise UserError(
                f"a transcript takes {plural(len(found), 'token')} and {self.backbone.origin.name!r} writes "
                f"{self.backbone.room} "
                f"at most ({text[:40]!r}...); cut the sound and its text into parts"
            )
        return found

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """The batch of sounds; with transcripts what the decoder is given, and what is to come after it, (n, t)."""
        batch = self.backbone.collate(rows)
        codes = [row.codes for row in rows if isinstance(row, Spoken) and row.codes]
        if not codes:
            return batch
        prompt, end = self.backbone.prompt, int(self.backbone.model.config.eos_token_id)
        longest = max(map(len, codes))
        given = [[*prompt, *one[:-1], *[end] * (longest - len(one))] for one in codes]
        wanted = [[*[_NOT] * (len(prompt) - 1), *one, *[_NOT] * (longest - len(one))] for one in codes]
        return {**batch, "before": torch.tensor(given), "after": torch.tensor(wanted)}

    def forward(self, batch: Batch) -> Tensor:
        """The loss of every row, (n,)."""
        hidden, _ = self.backbone.sequence(batch)
        scores = self.backbone.logits(hidden, batch["before"]).float()
        each = F.cross_entropy(scores.transpose(1, 2), batch["after"], reduction="none", ignore_index=_NOT)
        return each.sum(1) / self.words_a_row

    def answers(self, rows: Sequence[Encoded], batch: Batch) -> list[Any]:
        """The text of every row; of a long one the windows' texts, joined where they overlap."""
        written = self.backbone.written(batch, self.beams)
        owner = batch["owner"].tolist()
        return [joined([text for text, o in zip(written, owner, strict=True) if o == i]) for i in range(len(rows))]


class CtcNetwork(SoundNetwork):
    """A linear layer on every frame of an encoder of speech: letters, and a blank.

    Loss of a row: −log P(text | sound) of connectionist temporal classification (Graves et al. 2006), over the mean
    number of letters a row had in training. What is learned, and written, are normalised texts.
    """

    def __init__(
        self, backbone: SoundBackbone, letters: Sequence[str], letters_a_row: float, beams: int, normalise: str
    ) -> None:
        super().__init__(backbone, nn.Sequential(nn.Dropout(0.1), nn.Linear(backbone.width, 1 + len(letters))))
        self.letters, self.letters_a_row, self.beams, self.normalise = tuple(letters), letters_a_row, beams, normalise
        self.code_of = {letter: i for i, letter in enumerate(self.letters, 1)}

    def codes(self, text: str) -> tuple[int, ...]:
        """The letters of the normalised text; those that were never seen in training are left out."""
        return tuple(self.code_of[c] for c in normalised(text, self.normalise) if c in self.code_of)

    def check(self, sound: Any, row: Spoken, text: str) -> None:
        """A text needs as many frames as letters, and one more between two that are alike."""
        there = self.backbone.frames_in(self.backbone.now(row)[0])
        if there < (needed := frames_needed(normalised(text, self.normalise))):
            rate = there / seconds_of(sound)
            raise UserError(
                f"{name_of(sound)} gives {there} frames and its transcript needs {needed}: let the gate drop such rows "
                f"(--set frames_a_second={rate:.0f} is what {self.backbone.origin.name!r} gives)"
            )

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """The batch of sounds; with transcripts their codes one after another, and how many each row has."""
        batch = self.backbone.collate(rows)
        codes = [row.codes for row in rows if isinstance(row, Spoken)]
        flat = [c for one in codes for c in one]
        return {**batch, "codes": torch.tensor(flat), "sizes_of_text": torch.tensor([len(c) for c in codes])}

    def _log_p(self, batch: Batch) -> tuple[Tensor, Tensor]:
        hidden, frames = self.backbone.sequence(batch)
        return torch.log_softmax(self.head(hidden).float(), 2), frames

    def forward(self, batch: Batch) -> Tensor:
        """The loss of every row, (n,)."""
        log_p, frames = self._log_p(batch)
        loss = F.ctc_loss(
            log_p.transpose(0, 1), batch["codes"], frames, batch["sizes_of_text"], blank=BLANK, reduction="none"
        )
        return loss / self.letters_a_row

    def answers(self, rows: Sequence[Encoded], batch: Batch) -> list[Any]:
        """The text of every row: the best letter of each frame, or the best text among some beams."""
        log_p, frames = self._log_p(batch)
        owner = batch["owner"].cpu().numpy()
        lines = [line[:n] for line, n in zip(log_p.double().cpu().numpy(), frames.tolist(), strict=True)]
        found = []
        for i in range(len(rows)):
            scores = self._one([lines[k] for k in np.flatnonzero(owner == i)], rows[i])
            text = greedy(scores, self.letters) if self.beams == 1 else beam(scores, self.letters, self.beams)
            found.append(" ".join(text.split()))
        return found

    def _one(self, scores: Sequence[np.ndarray[Any, Any]], row: Encoded) -> np.ndarray[Any, Any]:
        """The scores of the windows of a sound one after another; where two overlap, each gives the half that lies
        further from its end."""
        if len(scores) == 1:
            return scores[0]
        sound = self.backbone.sound
        shared = self.backbone.overlap * _FILLED * sound.seconds * sound.rate
        overlap = round(len(scores[0]) * shared / row.parts[0].samples)
        after, before = overlap // 2, overlap - overlap // 2
        last = len(scores) - 1
        return np.concatenate(
            [one[after if i else 0 : len(one) - (before if i < last else 0)] for i, one in enumerate(scores)]
        )


def joined(texts: Sequence[str]) -> str:
    """One text of those of windows that overlap: the longest run of words that the end of one and the beginning of the
    next share stands once, with what each has cut off beside it left out.

    >>> joined(["it was the best of times it", "best of times, it was the worst"]), joined(["one two", "three"])
    ('it was the best of times, it was the worst', 'one two three')
    """
    whole: list[str] = []
    for text in texts:
        words = text.split()
        left, right = whole[-_SEAM:], words[:_SEAM]
        a, b = ([re.sub(r"\W", "", w).casefold() for w in side] for side in (left, right))
        match = SequenceMatcher(None, a, b, autojunk=False).find_longest_match()
        if match.size and any(a[match.a : match.a + match.size]):
            whole = [*whole[: len(whole) - len(left) + match.a], *words[match.b :]]
        else:
            whole += words
    return " ".join(whole)
