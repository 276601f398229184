"""Speech recognition: the text of what is said in a sound."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from acclimate.backbones import load, located
from acclimate.backbones.hub_speech import Dictation, is_whole, load_dictation
from acclimate.backbones.sound import SoundBackbone
from acclimate.data import sounds
from acclimate.data.account import Audit, why
from acclimate.data.findings import Finding, finding, rows_text, verb
from acclimate.data.kinds.audio import AUDIO
from acclimate.data.rows import Data
from acclimate.data.transcripts import Clip, clips
from acclimate.errors import UserError, unknown
from acclimate.metrics.base import divide
from acclimate.metrics.transcripts import NORMALISED, edits, normalised
from acclimate.run import Run
from acclimate.strategies.tune import Tune
from acclimate.structured.base import Asked, Baseline, Measure, New, State, Structured, StructuredNetwork, labels_of
from acclimate.structured.ctc import alphabet, frames_needed
from acclimate.structured.gate import accounted
from acclimate.structured.transcribe_baselines import MostFrequent, NearestSpectrum
from acclimate.structured.transcribe_networks import CtcNetwork, DictationNetwork

HEADS = ("auto", "decoder", "ctc")
_OFTEN = 5  # rows with one transcript from which on both sides of a split should have it


@dataclass(frozen=True)
class Transcribe(Structured):
    """A text for every sound; judged by the word error rate: edits over words, after both texts are normalised.

    head "auto": Whisper writes with its own decoder, except that `linear_probe` puts letters frame by frame (CTC) on
    its frozen encoder; every other encoder of speech (wav2vec2, HuBERT, WavLM folders) gets a CTC head, with the
    letters of the training texts. "ctc" does so for Whisper too. beams: 1 writes the likeliest next piece or letter
    each time, more keep that many beginnings. language: what a multilingual Whisper is told. longest: seconds of a
    sound that is learned from; longer ones are dropped then, and read in overlapping windows when they are answered.
    frames_a_second: vectors that the encoder gives, by which the gate finds texts that a sound cannot hold.

    Use when the answer is what is said. Prefer classification of sounds where it is one of a few words.
    """

    normalise: str = "words"
    head: str = "auto"
    beams: int = 1
    language: str = "en"
    longest: float = 30.0
    frames_a_second: float = 50.0

    name: ClassVar[str] = "transcribe"
    noun: ClassVar[str] = "sound"
    metric: ClassVar[str] = "wer"
    model: ClassVar[str] = "whisper-tiny"
    strategies: ClassVar[Mapping[str, Tune | None]] = {
        "zero_shot": None,
        "linear_probe": Tune(moves="head", head_learning_rate=1e-2, weight_decay=0.0),
        "partial": Tune(moves="top:1", learning_rate=1e-4),
        "bitfit": Tune(moves="bias", learning_rate=1e-3),
        "lora": Tune(moves="lora", learning_rate=1e-3),
        "full": Tune(learning_rate=1e-4),
        "gradual": Tune(unfreeze=0.5, learning_rate=1e-4),
    }
    parts: ClassVar[tuple[str, ...]] = ("group",)
    readings: ClassVar[tuple[str, ...]] = ("seconds", "truncation")
    candidates: ClassVar[tuple[str, ...]] = ("zero_shot", "linear_probe", "partial", "lora")

    def __post_init__(self) -> None:
        for what, value, known in (("normalise", self.normalise, NORMALISED), ("head", self.head, HEADS)):
            if value not in known:
                raise unknown(what, value, known)
        if self.beams < 1 or self.longest <= 0 or self.frames_a_second <= 0:
            raise UserError(
                f"beams={self.beams}, longest={self.longest:g} and frames_a_second={self.frames_a_second:g} must be "
                "above 0"
            )

    def read(self, source: Any, asked: Asked, role: str, state: State | None = None) -> tuple[Data, Audit]:
        """Sounds with a transcript; those that cannot be heard, or hold too little for it, are counted by line."""
        _jiwer_there()
        found, table = clips(source, asked.columns, asked.progress, texts=True)
        group = asked.columns.group
        if group is not None and group not in table.columns:
            if role != "test":
                raise UserError(
                    f"{table.source} has no column {group!r} (--group-column); its columns: {', '.join(table.columns)}"
                )
            group = None
        judged = [self._gated(one, role) for one in found]
        kept = [one for one in judged if one.reason is None]
        data = Data(
            inputs=tuple(one.sound for one in kept),
            labels=tuple(one.text or "" for one in kept),
            groups=None if group is None else tuple(one.group or f"line {one.line}" for one in kept),
            lines=tuple(one.line for one in kept),
            source=table.source,
            kind="audio",
        )
        said = [*AUDIO.findings(data, asked.private), *self._findings(kept, state, asked.private)]
        return data, accounted(self, table, role, [one.reason for one in judged], said, {})

    def _gated(self, one: Clip, role: str) -> Clip:
        """The row with the reason why it cannot be used, if there is one."""
        text = normalised(one.text or "", self.normalise)
        reason, heard = one.reason, one.heard
        if reason is None and heard is not None:
            frames = int(heard.seconds * self.frames_a_second)
            if not text:
                reason = "no_transcript"
            elif heard.silent == 1.0:
                reason = "silent_sound"
            elif role != "test" and heard.seconds > self.longest:
                reason = "too_long"
            elif role != "test" and frames_needed(text) >= frames:
                reason = "text_too_long"
        return replace(one, reason=reason)

    def _findings(self, kept: Sequence[Clip], state: State | None, private: bool) -> list[Finding]:
        """Letters that were never seen in training, and speech that is quicker than people speak."""
        found = []
        texts = [normalised(one.text or "", self.normalise) for one in kept]
        if state is not None:
            known = set(state["letters"])
            new = sorted({c for text in texts for c in text} - known)
            lines = [one.line for one, text in zip(kept, texts, strict=True) if set(text) - known]
            if lines:
                which = "" if private else f" ({' '.join(map(repr, new[:10]))})"
                message = f"transcripts of {rows_text(len(lines))} have letters that were never seen in training{which}"
                found.append(finding("new_letter", "warning", message, len(lines), lines))
        seconds = [0.0 if one.heard is None else one.heard.seconds for one in kept]
        quick = [one.line for one, t, s in zip(kept, texts, seconds, strict=True) if len(t) > 30 * max(s, 0.2)]
        if quick:
            message = (
                f"{rows_text(len(quick))} {verb(len(quick), 'have')} more than 30 letters a second of sound; is the "
                "transcript that of this sound?"
            )
            found.append(finding("quick_speech", "warning", message, len(quick), quick))
        return found

    def read_new(self, source: Any, asked: Asked) -> New:
        """Sounds to write down; transcripts in the source are not read."""
        found, table = clips(source, asked.columns, asked.progress, texts=False)
        return New(
            table,
            tuple(one.sound for one in found),
            tuple(why(one.reason or "") for one in found),
        )

    def given(self, inputs: Any) -> list[Any] | None:
        """Paths, bytes of files or (array, rate), several or one."""
        if AUDIO.single(inputs):
            return [inputs]
        return super().given(inputs)

    def learn(self, train: Data) -> State:
        """The letters of the normalised transcripts, and how many letters and words a row has on average."""
        texts = [normalised(text, self.normalise) for text in labels_of(train)]
        return {
            "letters": alphabet(texts),
            "letters_a_row": float(np.mean([len(t) for t in texts])),
            "words_a_row": float(np.mean([len(t.split()) for t in texts])),
        }

    def network(self, model: str, state: State, reading: Mapping[str, Any]) -> StructuredNetwork:
        """Whisper whole, or an encoder of speech with letters on its frames; long sounds are read in windows."""
        seconds = reading.get("seconds")
        truncation = "fail" if reading.get("truncation") == "fail" else "chunk"
        path, origin = located(model)
        if self.head != "ctc" and is_whole(path):
            whole = load_dictation(path, origin, self.language, seconds, truncation)
            return DictationNetwork(whole, state["words_a_row"], self.beams)
        if self.head == "decoder":
            raise UserError(f"head='decoder' needs Whisper with its decoder, and {model!r} has none; use head=ctc")
        backbone = load(model, seconds=seconds, truncation=truncation)
        if not isinstance(backbone, SoundBackbone):
            raise UserError(f"transcripts need a model of sounds, and {model!r} reads {backbone.modality}")
        # Whether letters lose where silence is merged was not measured.
        backbone = backbone.with_settings(replace(backbone.sound, merged=1))
        return self._ctc(backbone, state)

    def _ctc(self, backbone: SoundBackbone, state: State) -> CtcNetwork:
        if type(backbone).sequence is SoundBackbone.sequence:
            backbone.sequence({})  # which says what is lacking
        return CtcNetwork(backbone, state["letters"], state["letters_a_row"], self.beams, self.normalise)

    def refuses(self, strategy: str, network: StructuredNetwork) -> str:
        """Nothing can be written by a head that has learned nothing."""
        if strategy == "zero_shot" and isinstance(network, CtcNetwork):
            return f"zero_shot needs a model that writes already, and {network.backbone.origin.name!r} is an encoder"
        if strategy == "linear_probe" and self.head == "decoder":
            return "linear_probe puts letters on the frames of the encoder (head=ctc), and head='decoder' was asked for"
        return ""

    def network_of(self, strategy: str, network: StructuredNetwork, state: State) -> StructuredNetwork:
        """Of Whisper `linear_probe` keeps the encoder alone."""
        if strategy == "linear_probe" and isinstance(network.backbone, Dictation):
            return self._ctc(network.backbone.encoder(), state)
        return network

    def baselines(self, train: Data, state: State, run: Run) -> dict[str, Callable[[], Baseline]]:
        """The most frequent transcript, and that of the nearest training sound."""
        return {
            "most_frequent": partial(MostFrequent, train, self.normalise),
            "nearest_spectrum": partial(NearestSpectrum, train),
        }

    def measures(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> dict[str, Measure]:
        """Word and letter error rates, Σ edits over Σ words or letters of the truth, and the share of rows without an
        error."""
        right, said = ([normalised(text, self.normalise) for text in side] for side in (truth, answers))
        words, of_words = edits(right, said)
        letters, of_letters = edits(right, said, letters=True)
        whole = (words == 0).astype(float)
        return {
            "wer": Measure(lambda w: divide(w @ words, w @ of_words), greater_is_better=False, scale="positive"),
            "cer": Measure(lambda w: divide(w @ letters, w @ of_letters), greater_is_better=False, scale="positive"),
            "rows_right": Measure(lambda w: divide(w @ whole, w.sum(1))),
        }

    def notes(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> tuple[str, ...]:
        """How texts were normalised, and answers without a word."""
        empty = sum(not normalised(text, self.normalise) for text in answers)
        said = (f"texts were compared with normalise={self.normalise!r}",)
        return said if not empty else (*said, f"{empty} of {len(answers)} answers have no word")

    def errors(self, truth: Sequence[Any], answers: Sequence[Any]) -> list[float]:
        """Edits of words."""
        found, _ = edits(*([normalised(text, self.normalise) for text in side] for side in (truth, answers)))
        return [float(one) for one in found]

    def keys(self, inputs: Sequence[Any]) -> list[str]:
        """The bytes of the file, or the samples."""
        return AUDIO.keys(inputs)

    def strata(self, data: Data) -> tuple[str, ...]:
        """The transcript where many rows have it."""
        texts = [normalised(text, self.normalise) for text in labels_of(data)]
        counts = Counter(texts)
        return tuple(text if counts[text] >= _OFTEN else "" for text in texts)

    def shown(self, inputs: Sequence[Any], truth: Sequence[Any], answers: Sequence[Any]) -> list[dict[str, Any]]:
        """The sound to be played, what is said, and what was written."""
        picture, played = AUDIO.picture, AUDIO.played
        assert picture is not None and played is not None
        return [
            {"input": sounds.name_of(x), "picture": picture(x), "sound": played(x), "truth": t, "predicted": a}
            for x, t, a in zip(inputs, truth, answers, strict=True)
        ]


def _jiwer_there() -> None:
    """Said before anything is read or computed."""
    if importlib.util.find_spec("jiwer") is None:
        raise UserError("task 'transcribe' needs jiwer for word error rates: pip install 'acclimate[speech]'")
