"""Sounds of every depth, rate and number of channels are read right, or named with the reason."""

from __future__ import annotations

import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acclimate.data.sounds import count_windows, examine, read, seconds_of, windows
from acclimate.errors import UserError

sf = pytest.importorskip("soundfile", reason="sounds need the `audio` extra")
soxr = pytest.importorskip("soxr", reason="sounds need the `audio` extra")

ODD = Path(__file__).parents[2].parent / "shared" / "data" / "odd" / "audio"

# -- files of our own --------------------------------------------------------------------------------------------------


def tone(seconds: float = 0.5, rate: int = 8000, pitch: float = 440.0, height: float = 0.5) -> np.ndarray[Any, Any]:
    at = np.arange(round(seconds * rate)) / rate
    return (height * np.sin(2 * np.pi * pitch * at)).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "subtype", "off"),
    [
        ("WAV", "PCM_U8", 2**-7), ("WAV", "PCM_16", 2**-15), ("WAV", "PCM_24", 2**-23), ("WAV", "PCM_32", 1e-7),
        ("WAV", "FLOAT", 0), ("WAV", "DOUBLE", 0), ("WAV", "ULAW", 0.02), ("WAV", "ALAW", 0.02),
        ("RF64", "PCM_16", 2**-15), ("FLAC", "PCM_16", 2**-15), ("AIFF", "PCM_24", 2**-23), ("AU", "PCM_16", 2**-15),
        ("OGG", "VORBIS", 0.06), ("MP3", "MPEG_LAYER_III", 0.06),
    ],
)  # fmt: skip
def test_every_format_gives_its_samples(kind: str, subtype: str, off: float, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    sound = tone(rate=16000)
    sf.write(path, sound, 16000, subtype=subtype, format=kind)
    found = read(path, 16000)
    assert found.dtype == np.float32 and len(found) == len(sound)
    np.testing.assert_allclose(found, sound, atol=off)
    seen = examine(path)
    assert (seen.problem, seen.rate, seen.channels, seen.seconds) == ("", 16000, 1, 0.5)
    assert seen.peak == pytest.approx(0.5, abs=max(off, 1e-6))
    assert seconds_of(path) == 0.5


def test_channels_are_averaged_and_the_rate_is_changed_once(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    left, right = tone(rate=44100), tone(rate=44100, pitch=1000)
    sf.write(path, np.stack([left, right, 0 * left], axis=1), 44100, subtype="FLOAT")
    assert examine(path).channels == 3
    np.testing.assert_allclose(read(path, 44100), (left + right) / 3, atol=1e-7)
    expected = soxr.resample((left + right) / np.float32(3), 44100, 16000)
    np.testing.assert_allclose(read(path, 16000), expected, atol=1e-6)
    low = tone(rate=16000, pitch=440) / 3 + tone(rate=16000, pitch=1000) / 3  # the same tones, sampled at 16 kHz
    np.testing.assert_allclose(read(path, 16000)[800:-800], low[800:-800], atol=1e-3)


def test_of_a_long_sound_the_beginning_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sound = tone(3.0)
    sf.write(path, sound, 8000, subtype="FLOAT")
    assert np.array_equal(read(path, 8000, 1.25), sound[:10000])
    assert len(read(path, 16000, 1.25)) == 20000 and len(read(path, 8000, 10.0)) == 24000


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_windows_are_parts_of_the_whole_and_are_read_block_by_block(
    rate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, np.random.default_rng(0).normal(0, 0.1, (3 * rate, 2)), rate, subtype="FLOAT")
    whole = read(path, 16000)
    monkeypatch.setattr("acclimate.data.sounds._BLOCK", 3000)
    found = list(windows(path, 16000, 14000, 1400))
    assert len(found) == count_windows(len(whole), 14000, 1400) == 4
    for i, part in enumerate(found):
        np.testing.assert_allclose(part, whole[i * 12600 : i * 12600 + 14000], atol=1e-6)
    path.write_bytes(path.read_bytes()[: 12 * rate])
    with pytest.raises(UserError, match=r"a.wav ends early: 1\.\d* s of 3 s are there"):
        list(windows(path, 16000, 14000, 1400))


def test_of_the_shortest_sound_something_is_left() -> None:
    assert read((np.full(1, 0.5), 192_000), 16000).tolist() == [0.5]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([0, 16384, -32768], np.int16), [0, 0.5, -1]),
        (np.array([128, 192, 0], np.uint8), [0, 0.5, -1]),
        (np.array([0, 2**30, -(2**31)], np.int32), [0, 0.5, -1]),
        (np.array([0, 0.5, -1.5]), [0, 0.5, -1.5]),
        (np.array([[0, 0], [1, 0], [-1, -0.5]]), [0, 0.5, -0.75]),
    ],
)
def test_arrays_with_their_rate(array: np.ndarray[Any, Any], expected: list[float]) -> None:
    assert read((array, 16000), 16000).tolist() == expected
    assert len(read((np.tile(array, (100, 1)[: array.ndim]), 8000), 16000)) == 600


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(5), r"a sound in memory is ndarray; a sound is a path, the bytes of a file or \(array, rate\)"),
        ((np.zeros((2, 900)), 16000), r"a sound in memory has the shape \(2, 900\), and a sound has \(samples,\)"),
        ((np.zeros(5), 0), "a sound in memory has the rate 0; give samples a second"),
        ((np.array(["a"]), 16000), "a sound in memory holds <U1, and a sound is made of numbers"),
        ((np.array([0.0, np.nan]), 16000), "a sound in memory holds samples that are no finite numbers"),
        ((np.zeros(0), 16000), "a sound in memory holds no samples"),
    ],
)
def test_what_is_no_sound_is_told(value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(value, 16000)


# -- what is in a file -------------------------------------------------------------------------------------------------


def test_silence_and_clipping_are_measured() -> None:
    rate = 8000
    loud = np.clip(tone(1.0, rate, 100, 2.0), -1, 1)
    seen = examine((np.concatenate([loud, np.zeros(3 * rate, np.float32)]), rate))
    by_hand = sum(abs(x) >= 0.98 for x in loud) / (4 * rate)  # at 100 Hz every flat top is longer than three samples
    assert seen.clipped == pytest.approx(by_hand) and seen.clipped > 0.1
    assert (seen.silent, seen.peak, seen.seconds) == (0.75, 1.0, 4.0)
    offset = examine((np.full(rate, 0.25, np.float32), rate))  # a constant cannot be heard
    assert (offset.silent, offset.peak, offset.clipped) == (1.0, 0.25, 0.0)
    single = np.zeros(100, np.float32)
    single[[10, 11, 50]] = 1.0
    assert examine((single, rate)).clipped == 0.0


def test_the_same_samples_are_known_in_another_format(tmp_path: Path) -> None:
    sound = (tone() * 32767).astype(np.int16)
    for name, kind in (("a.wav", "WAV"), ("b.flac", "FLAC"), ("c.aiff", "AIFF")):
        sf.write(tmp_path / name, sound, 8000, subtype="PCM_16", format=kind)
    sf.write(tmp_path / "d.wav", sound, 8001, subtype="PCM_16")
    sf.write(tmp_path / "e.wav", sound[1:], 8000, subtype="PCM_16")
    seen = [examine(tmp_path / name).content for name in ("a.wav", "b.flac", "c.aiff", "d.wav", "e.wav")]
    assert seen[0] == seen[1] == seen[2] and len(set(seen)) == 3


def test_a_file_that_ends_early_is_named_by_how_much(tmp_path: Path) -> None:
    for name, kind in (("a.wav", "WAV"), ("a.aiff", "AIFF"), ("a.au", "AU"), ("a.w64", "W64"), ("a.mp3", "MP3")):
        path = tmp_path / name
        sf.write(path, np.random.default_rng(0).normal(0, 0.1, 48000), 16000, format=kind)
        assert examine(path).problem == ""
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        problem = examine(path).problem
        assert problem.startswith("ends early: 1.") and problem.endswith("of 3 s are there"), (kind, problem)
        with pytest.raises(UserError, match=f"{name} ends early"):
            read(path, 16000)
    for name, kind in (("a.flac", "FLAC"), ("a.ogg", "OGG")):
        path = tmp_path / name
        sf.write(path, np.random.default_rng(0).normal(0, 0.1, 48000), 16000, format=kind)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert examine(path).problem in (
            "ends early: the end of its Ogg stream is missing",
            "cannot be read as a sound: flac decoder lost sync",
        )


def test_a_stream_whose_length_was_not_known_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, tone(), 8000, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = struct.pack("<I", 2**32 - 1)
    path.write_bytes(data)
    assert examine(path).problem == "" and len(read(path, 8000)) == 4000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty (0 bytes)"),
        (b"no sound at all", "cannot be read as a sound: Format not recognised"),
        (b"RIFF\x24E\0\0WAVEf", "cannot be read as a sound: Error in WAV file. No 'data' chunk marker"),
        (b"\0\0\0\x1cftypM4A ....", "holds MPEG-4 (as .m4a and .mp4), which cannot be read as a sound; convert it to"),
        (b"\x1aE\xdf\xa3........", "holds WebM or Matroska, which cannot be read as a sound; convert it to WAV or"),
        (b"\x89PNG\r\n\x1a\n......", "holds a picture, which cannot be read as a sound; convert it to WAV or FLAC"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert examine(path).problem.startswith(reason)
    with pytest.raises(UserError) as caught:
        read(path, 16000)
    assert str(caught.value).startswith(f"{path} {reason}")


def test_no_samples_a_folder_and_nothing(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
    assert examine(tmp_path / "a.wav").problem == "holds no samples"
    assert examine(tmp_path / "b.wav").problem == "is not there"
    assert examine(tmp_path).problem == "is a folder"


def test_a_wrong_name_does_not_matter_where_the_content_can_be_read(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.flac", tone(), 8000)
    (tmp_path / "a.flac").rename(tmp_path / "a.wav")
    assert examine(tmp_path / "a.wav").problem == "" and len(read(tmp_path / "a.wav", 8000)) == 4000


# -- files of others ---------------------------------------------------------------------------------------------------

READ = {  # name: rate, channels, samples
    "pydub_test-dc_offset.wav": (22050, 2, 220500), "pydub_test1-8bit.wav": (32000, 2, 320303),
    "pydub_test2.mp3": (44100, 2, 221231), "pydub_test4.wav": (48000, 1, 384000),
    "test-1234Hz-le-1ch-10S-20bit-extra.wav": (1234, 1, 10), "test-44100Hz-2ch-32bit-float-be.wav": (44100, 2, 441),
    "test-44100Hz-2ch-32bit-float-le.wav": (44100, 2, 441), "test-44100Hz-be-1ch-4bytes.wav": (44100, 1, 4410),
    "test-44100Hz-le-1ch-4bytes-rf64.wav": (44100, 1, 4410), "test-44100Hz-le-1ch-4bytes.wav": (44100, 1, 4410),
    "test-48000Hz-2ch-64bit-float-le-wavex.wav": (48000, 2, 480), "test-8000Hz-be-3ch-5S-24bit.wav": (8000, 3, 5),
    "test-8000Hz-le-1ch-1byte-ulaw.wav": (8000, 1, 9), "test-8000Hz-le-2ch-1byteu.wav": (8000, 2, 800),
    "test-8000Hz-le-3ch-5S-24bit-inconsistent.wav": (8000, 3, 5), "test-8000Hz-le-3ch-5S-24bit-rf64.wav": (8000, 3, 5),
    "test-8000Hz-le-3ch-5S-24bit.wav": (8000, 3, 5), "test-8000Hz-le-4ch-9S-12bit.wav": (8000, 4, 9),
    "test-8000Hz-le-5ch-9S-5bit.wav": (8000, 5, 9),
}  # fmt: skip
NAMED = {
    "SOURCE.txt": "cannot be read as a sound: Format not recognised",
    "pydub_bach.ogg": "cannot be read as a sound: unknown error in flac decoder",
    "pydub_test1_empty.wav": "holds no samples",
    "pydub_test5.webm": "holds WebM or Matroska, which cannot",
    "pydub_wrong_extension.aac": "holds MPEG-4 (as .m4a and .mp4), which cannot",
    "test-44100Hz-le-1ch-4bytes-early-eof-no-data.wav": "cannot be read as a sound: Error in WAV file",
    "test-44100Hz-le-1ch-4bytes-early-eof.wav": "ends early: 0.00535 s of 0.1 s are there",
    "test-44100Hz-le-1ch-4bytes-incomplete-chunk.wav": "cannot be read as a sound: Error in WAV file",
    **{f"test-8000Hz-le-3ch-5S-{bits}bit.wav": "cannot be read as a sound: File contains data in an unimplemented"
       for bits in (36, 45, 53, 64)},
}  # fmt: skip
others = pytest.mark.skipif(not ODD.is_dir(), reason="the folder of odd files is not here")


@others
def test_each_odd_file_is_read_or_named() -> None:
    assert sorted(path.name for path in ODD.iterdir()) == sorted([*READ, *NAMED])
    for name, reason in NAMED.items():
        assert examine(ODD / name).problem.startswith(reason), name
    for name, (rate, channels, samples) in READ.items():
        seen = examine(ODD / name)
        assert (seen.problem, seen.rate, seen.channels) == ("", rate, channels), name
        assert len(read(ODD / name, rate)) == samples == round(seen.seconds * rate), name


@others
@pytest.mark.parametrize(
    "name", [n for n in READ if n.endswith(".wav") and "ulaw" not in n and "inconsistent" not in n]
)
@pytest.mark.filterwarnings("ignore")  # of the other reader, about chunks that it does not know
def test_odd_files_hold_what_another_reader_finds(name: str) -> None:
    from scipy.io import wavfile

    rate, values = wavfile.read(ODD / name)
    values = values.reshape(len(values), -1)
    if values.dtype == np.uint8:
        scaled = (values.astype(float) - 128) / 128
    elif values.dtype.kind == "i":
        scaled = values / 2.0 ** (8 * values.dtype.itemsize - 1)
    else:
        scaled = values.astype(float)
    np.testing.assert_allclose(read(ODD / name, rate), scaled.mean(1), atol=2e-7)
    assert examine(ODD / name).peak == pytest.approx(np.abs(scaled).max(), abs=1e-7)


@others
def test_what_the_other_reader_refuses_is_right_by_its_definition() -> None:
    data = (ODD / "test-8000Hz-le-1ch-1byte-ulaw.wav").read_bytes()
    at = data.index(b"data") + 8
    expected = []
    for byte in data[at : at + 9]:  # G.711: sign, three bits of exponent, four of mantissa, all inverted
        inverted = ~byte & 0xFF
        size = ((((inverted & 0xF) << 3) + 0x84) << ((inverted & 0x70) >> 4)) - 0x84
        expected.append((-size if inverted & 0x80 else size) / 32768)
    np.testing.assert_allclose(read(ODD / "test-8000Hz-le-1ch-1byte-ulaw.wav", 8000), expected, atol=1e-7)
    same = [read(ODD / f"test-8000Hz-le-3ch-5S-24bit{end}.wav", 8000) for end in ("", "-inconsistent")]
    assert np.array_equal(*same)
