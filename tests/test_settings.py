from __future__ import annotations

import pytest

from acclimate.errors import UserError
from acclimate.settings import parse_duration, parse_settings


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("10m", 600.0),
        ("2h", 7200.0),
        ("1h30m", 5400.0),
        ("1h 30m 15s", 5415.0),
        ("1.5 hours", 5400.0),
        ("2 min", 120.0),
        ("45 SECS", 45.0),
        ("1d", 86400.0),
        (12, 12.0),
        (0.5, 0.5),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "m", "10x", "-5", "1h30", "10m later", "1..5h", "inf", "nan", "1e3s", "h1"])
def test_what_is_not_a_duration_says_how_to_write_one(text: str) -> None:
    with pytest.raises(UserError, match=r"as a length of time; give seconds \(90\)") as error:
        parse_duration(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("text", ["0", "0m", "0s", 0, "0h0m"])
def test_no_time_at_all_is_told_so(text: str) -> None:
    with pytest.raises(UserError, match="leaves no time at all; give more, such as 90 or 10m"):
        parse_duration(text)


def test_settings_are_json_or_text() -> None:
    pairs = [
        "rank=8",
        "alpha=1e-4",
        "bias=true",
        "note=a=b",
        "blocks=[0, 1]",
        "empty=",
        "nothing=null",
        "weight-decay=0.1",
    ]
    assert parse_settings(pairs) == {
        "rank": 8,
        "alpha": 1e-4,
        "bias": True,
        "note": "a=b",
        "blocks": [0, 1],
        "empty": "",
        "nothing": None,
        "weight_decay": 0.1,
    }


def test_a_setting_that_json_only_tolerates_stays_text() -> None:
    assert parse_settings(["a=NaN", "b=-Infinity"]) == {"a": "NaN", "b": "-Infinity"}


@pytest.mark.parametrize("pair", ["rank", "=8", " =8"])
def test_a_pair_without_both_sides_is_refused(pair: str) -> None:
    with pytest.raises(UserError, match="write key=value"):
        parse_settings([pair])


def test_a_setting_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match="'weight_decay' is given twice, the second time as 'weight-decay=2'"):
        parse_settings(["weight_decay=1", "weight-decay=2"])
