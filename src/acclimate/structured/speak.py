"""Speech synthesis: the sound of a text in the voice of a speaker's clips."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acclimate.backbones import load, located
from acclimate.backbones.base import Batch, Encoded
from acclimate.backbones.hub_voice import Voice, load_voice
from acclimate.data import sounds
from acclimate.data.account import Audit
from acclimate.data.kinds.audio import AUDIO
from acclimate.data.read import read as read_table
from acclimate.data.rows import Data
from acclimate.data.transcripts import Clip, clips, text_column
from acclimate.errors import UserError
from acclimate.metrics.base import divide
from acclimate.metrics.transcripts import edits, normalised
from acclimate.plain.spectra import RATE, cepstra
from acclimate.run import Run
from acclimate.strategies.tune import Tune
from acclimate.structured.base import Asked, Baseline, Measure, New, State, Structured, StructuredNetwork, labels_of
from acclimate.structured.gate import accounted
from acclimate.structured.transcribe import Transcribe

_STOP_WEIGHT = 5.0  # of the last column in the loss of the sign of the end, as it was pretrained
_CLIPS = 100  # of the training clips whose voices are averaged
_LONGEST = 20.0  # seconds of a clip that is learned from
_PLAYED = 10.0  # seconds in a report


@dataclass(frozen=True)
class Told(Encoded):
    """A text, and the spectrum (t, bands) of the clip that says it."""

    spectrum: Tensor | None = None


class SpeakNetwork(StructuredNetwork):
    """SpeechT5. Loss of a row: the mean of |x̂ − x| over columns and bands of the log10 spectrum, before and after the
    last convolutions, and the binary cross-entropy of the sign of the end, whose last column counts five times.

    As in transformers' own loss, without the pull of attention to the diagonal.
    """

    backbone: Voice
    voice: Tensor
    replays = False
    called = "voice model"

    def __init__(self, backbone: Voice, voice: Sequence[float]) -> None:
        super().__init__(backbone, nn.Module())
        if len(voice) > backbone.voice_width:
            raise UserError(
                f"{backbone.origin.name!r} takes {backbone.voice_width} numbers of a voice, and the speaker encoder "
                f"gives {len(voice)}; choose another with --set voice=FOLDER"
            )
        padded = [*voice, *[0.0] * (backbone.voice_width - len(voice))]
        self.register_buffer("voice", torch.tensor(padded), persistent=False)

    def encode(self, inputs: Sequence[Any], labels: Sequence[Any] | None) -> list[Encoded]:
        """Pieces of the texts; the spectra of the clips."""
        rows = self.backbone.encode(inputs)
        if labels is None:
            return rows
        spectra = [self.backbone.spectrum(sounds.read(sound, self.backbone.rate)) for _, sound in labels]
        return [Told(r.parts, r.cost + len(s) // 2, r.lost, r.total, s) for r, s in zip(rows, spectra, strict=True)]

    def refused(self, given: Any) -> str:
        """Texts that are too long."""
        try:
            self.backbone.encode([given])
        except UserError as error:
            return str(error)
        return ""

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """The batch of texts; with clips their spectra (n, t, bands) and how many columns each has."""
        batch = self.backbone.collate(rows)
        spectra = [row.spectrum for row in rows if isinstance(row, Told) and row.spectrum is not None]
        if spectra:
            batch["spectra"] = nn.utils.rnn.pad_sequence(spectra, batch_first=True)
            batch["columns"] = torch.tensor([len(one) for one in spectra])
        return batch

    def forward(self, batch: Batch) -> Tensor:
        """The loss of every row, (n,)."""
        truth, columns = batch["spectra"], batch["columns"]
        n, longest, _ = truth.shape
        step = int(self.backbone.model.config.reduction_factor)
        thinned = truth[:, step - 1 :: step]
        before = torch.cat([torch.zeros_like(thinned[:, :1]), thinned[:, :-1]], 1)
        states = self.backbone.states(batch, before, self.voice.expand(n, -1))
        first, last, stop = self.backbone.model.speech_decoder_postnet(states)
        at = torch.arange(longest, device=truth.device)
        inside = (at < columns[:, None]).float()
        gap = ((first - truth).abs() + (last - truth).abs()).mean(2)
        end = (at == columns[:, None] - 1).float()
        weight = torch.tensor(_STOP_WEIGHT, device=truth.device)
        stopping = F.binary_cross_entropy_with_logits(stop, end, pos_weight=weight, reduction="none")
        found: Tensor = ((gap + stopping) * inside).sum(1) / columns
        return found

    def answers(self, rows: Sequence[Encoded], batch: Batch) -> list[Any]:
        """Samples and their rate for every text."""
        made = self.backbone.spoken(batch, self.voice.expand(len(rows), -1))
        return [(samples, self.backbone.rate) for samples in made]


class NearestClip:
    """The training clip whose text is nearest by letters: what a box of recordings could say."""

    def __init__(self, train: Data) -> None:
        self.texts = [normalised(str(x), "words") for x in train.inputs]
        self.sounds = [sound for _, sound in labels_of(train)]

    def answers(self, inputs: Sequence[Any]) -> list[Any]:
        """Samples and their rate for every text."""
        found = []
        for text in inputs:
            wanted = normalised(str(text), "words")
            distances = edits([wanted] * len(self.texts), self.texts, letters=True)[0]
            found.append((sounds.read(self.sounds[int(distances.argmin())], RATE), RATE))
        return found


@dataclass(frozen=True)
class Speak(Structured):
    """The sound of every text, in the voice of the training clips: SpeechT5 tuned on a speaker.

    voice: the model whose mean over the training clips is the speaker's voice, padded with zeros to what SpeechT5
    takes. judge: a model that writes down what was spoken, for the word error rate; empty: none. vocoder: a HiFi-GAN
    folder; without one, and without a folder `vocoder` in that of the model, sounds are made by Griffin-Lim.

    Use when one speaker's clips with their texts are there. VITS folders cannot be trained by transformers.
    """

    voice: str = "resemblyzer"
    judge: str = "whisper-tiny"
    vocoder: str = ""
    normalise: str = "english"

    name: ClassVar[str] = "speak"
    noun: ClassVar[str] = "text"
    metric: ClassVar[str] = "wer"
    model: ClassVar[str] = "hf:microsoft/speecht5_tts"
    strategies: ClassVar[Mapping[str, Tune | None]] = {
        "zero_shot": None,
        "partial": Tune(moves="top:1", learning_rate=1e-4),
        "lora": Tune(moves="lora", learning_rate=1e-3),
        "full": Tune(learning_rate=1e-4),
    }
    candidates: ClassVar[tuple[str, ...]] = ("zero_shot", "partial", "full")

    def read(self, source: Any, asked: Asked, role: str, state: State | None = None) -> tuple[Data, Audit]:
        """Texts with a clip each; rows that cannot be learned from are counted by line."""
        found, table = clips(source, asked.columns, asked.progress, texts=True)
        judged = [_gated(one) for one in found]
        kept = [one for one in judged if one.reason is None]
        data = Data(
            inputs=tuple(one.text or "" for one in kept),
            labels=tuple((one.text or "", one.sound) for one in kept),
            lines=tuple(one.line for one in kept),
            source=table.source,
        )
        said = AUDIO.findings(replace(data, inputs=tuple(one.sound for one in kept), kind="audio"), asked.private)
        return data, accounted(self, table, role, [one.reason for one in judged], said, {})

    def read_new(self, source: Any, asked: Asked) -> New:
        """Texts to speak; sounds in the source are not read."""
        table = read_table(source, may_be_empty=True)
        name = text_column(table, asked.columns)
        if name is None:
            raise UserError(
                f"{table.source} has no column of texts; name it with --text-column (its columns: "
                f"{', '.join(table.columns)})"
            )
        texts = [None if c is None or not str(c).strip() else str(c).strip() for c in table.columns[name]]
        return New(table, tuple(texts), tuple("" if t else "no text to speak" for t in texts))

    def learn(self, train: Data) -> State:
        """The mean voice of the training clips."""
        some = [sound for _, sound in labels_of(train)][:_CLIPS]
        return {"voice": [float(f"{x:.6g}") for x in _voices(self.voice, some).mean(0).tolist()]}

    def network(self, model: str, state: State, reading: Mapping[str, Any]) -> StructuredNetwork:
        """SpeechT5 with its vocoder."""
        path, origin = located(model)
        return SpeakNetwork(load_voice(path, origin, self.vocoder), state["voice"])

    def baselines(self, train: Data, state: State, run: Run) -> dict[str, Callable[[], Baseline]]:
        """The training clip with the nearest text."""
        return {"nearest_clip": lambda: NearestClip(train)}

    def measures(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> dict[str, Measure]:
        """Word and letter error rates of what the judge hears; the cosine of voices; how far mean cepstra lie from
        those of the recording (Euclidean, coefficients 1 to 12)."""
        found: dict[str, Measure] = {}
        texts = [text for text, _ in truth]
        if self.judge:
            said = [heard(self.judge, *_key(one)) for one in answers]
            for name, letters in (("wer", False), ("cer", True)):
                wrong, there = edits(*(self._written(side) for side in (texts, said)), letters=letters)
                found[name] = _rate(wrong, there)
        voices = _voices(self.voice, list(answers))
        mean = np.asarray(state["voice"], float)
        cosine = voices @ mean / max(float(np.linalg.norm(mean)), 1e-9) if len(answers) else np.zeros(0)
        found["similarity"] = Measure(lambda w: divide(w @ cosine, w.sum(1)), scale="signed")
        far = np.array([_far(said, sound) for said, (_, sound) in zip(answers, truth, strict=True)], float)
        found["cepstral_distance"] = Measure(
            lambda w: divide(w @ far, w.sum(1)), greater_is_better=False, scale="positive"
        )
        return found

    def _written(self, texts: Sequence[str]) -> list[str]:
        return [normalised(text, self.normalise) for text in texts]

    def notes(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> tuple[str, ...]:
        """What the recordings themselves reach: the most that can be hoped for."""
        own = self.measures(truth, [sound for _, sound in truth], state)
        n = len(truth)
        told = ", ".join(f"{name} {float(m.at(np.ones((1, n)))[0]):.3f}" for name, m in own.items() if n)
        return (f"the recordings themselves: {told}",) if told else ()

    def errors(self, truth: Sequence[Any], answers: Sequence[Any]) -> list[float]:
        """How far the cepstra lie from those of the recording."""
        return [_far(said, sound) for said, (_, sound) in zip(answers, truth, strict=True)]

    def keys(self, inputs: Sequence[Any]) -> list[str]:
        """The text, whatever its case."""
        return [normalised(str(one), "words") for one in inputs]

    def columns(self, inputs: Sequence[Any], answers: Sequence[Any]) -> dict[str, list[Any]]:
        """The name of the wav file of every row, and its seconds."""
        names = _names(answers)
        return {
            "prediction": list(names),
            "seconds": [None if one is None else round(len(one[0]) / one[1], 3) for one in answers],
        }

    def files(self, answers: Sequence[Any]) -> dict[str, bytes]:
        """The wav files (16 bits)."""
        named = zip(_names(answers), answers, strict=True)
        return {name: _wav(*one) for name, one in named if name is not None}

    def shown(self, inputs: Sequence[Any], truth: Sequence[Any], answers: Sequence[Any]) -> list[dict[str, Any]]:
        """The text and what was made of it, to be played."""
        played = AUDIO.played
        assert played is not None
        return [
            {"input": str(x), "truth": sounds.name_of(t[1]), "predicted": f"{len(a[0]) / a[1]:.2f} s",
             "sound": played(a)}
            for x, t, a in zip(inputs, truth, answers, strict=True)
        ]  # fmt: skip


def _gated(one: Clip) -> Clip:
    reason = one.reason
    if reason is None and one.heard is not None:
        if not normalised(one.text or "", "words"):
            reason = "no_transcript"
        elif one.heard.silent == 1.0:
            reason = "silent_sound"
        elif one.heard.seconds > _LONGEST:
            reason = "too_long"
    return replace(one, reason=reason)


def _rate(wrong: np.ndarray[Any, Any], there: np.ndarray[Any, Any]) -> Measure:
    return Measure(lambda w: divide(w @ wrong, w @ there), greater_is_better=False, scale="positive")


def _far(said: Any, sound: Any) -> float:
    mean = [cepstra(sounds.read(one, RATE)).mean(0)[1:] for one in (said, sound)]
    return float(np.linalg.norm(mean[0] - mean[1]))


def _key(one: Any) -> tuple[bytes, int]:
    samples = np.ascontiguousarray(sounds.read(one, RATE), np.float32)
    return samples.tobytes(), RATE


@lru_cache(maxsize=1)
def _judge(name: str) -> StructuredNetwork:
    state = {"letters": ["a"], "letters_a_row": 1.0, "words_a_row": 1.0}
    return Transcribe(head="decoder").network(name, state, {}).eval()


@lru_cache(maxsize=512)
def heard(judge: str, samples: bytes, rate: int) -> str:
    """What the judge writes of a sound of float32 samples; each sound once."""
    from acclimate.structured.tuning import answers_to

    line = np.frombuffer(samples, np.float32)
    return str(answers_to(_judge(judge), [(line, rate)], Run())[0])


@lru_cache(maxsize=1)
def _speaker(name: str) -> Any:
    return load(name).eval()


def _voices(name: str, some: Sequence[Any]) -> np.ndarray[Any, Any]:
    """One vector a sound, of unit length, (n, d)."""
    backbone = _speaker(name)
    found = []
    with torch.inference_mode():
        for one in some:
            found.append(F.normalize(backbone(backbone.collate(backbone.encode([one]))), dim=1)[0].double().numpy())
    return np.array(found, float).reshape(len(found), int(backbone.width))


def _names(answers: Sequence[Any]) -> list[str | None]:
    """spoken-1a2b3c4d/00001.wav ...: the folder is named by what lies in it."""
    digest = hashlib.blake2b(digest_size=4)
    for one in answers:
        digest.update(b"" if one is None else np.ascontiguousarray(one[0]).tobytes())
    folder = f"spoken-{digest.hexdigest()}"
    return [None if one is None else str(Path(folder, f"{i:05}.wav")) for i, one in enumerate(answers, 1)]


def _wav(samples: Any, rate: int) -> bytes:
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, np.clip(samples, -1, 1), rate, format="WAV", subtype="PCM_16")
    return out.getvalue()
