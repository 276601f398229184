from __future__ import annotations

import pytest

from acclimate.backbones.windows import check, cut, head_tail, windows, word_starts
from acclimate.errors import UserError


def test_windows_break_at_words_in_their_second_half() -> None:
    starts = [True, True, False, False, True, False, True, True]
    assert windows(starts, 6) == [[0, 1, 2, 3, 4, 5], [6, 7]]
    assert windows(starts, 5) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_word_longer_than_a_window_is_cut_inside() -> None:
    assert windows([True] + [False] * 8, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


@pytest.mark.parametrize("room", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("every", [1, 3, 10])
def test_windows_hold_every_position_once(room: int, every: int) -> None:
    starts = [i % every == 0 for i in range(50)]
    pieces = windows(starts, room)
    assert [i for piece in pieces for i in piece] == list(range(50))
    assert max(map(len, pieces)) <= room


@pytest.mark.parametrize(("tokens", "room", "kept"), [(9, 1, [8]), (9, 2, [0, 8]), (9, 3, [0, 7, 8])])
def test_head_tail(tokens: int, room: int, kept: list[int]) -> None:
    assert head_tail(tokens, room) == kept
    assert cut([True] * tokens, room, "head-tail") == [kept]


def test_word_starts_with_and_without_the_space_inside_the_token() -> None:
    text = "ab cd"
    assert word_starts(text, [(0, 1), (1, 2), (3, 5)]) == [True, False, True]
    assert word_starts(text, [(0, 2), (2, 4), (4, 5)]) == [True, True, False]
    assert word_starts("我们好", [(0, 1), (1, 2), (2, 3)]) == [True, False, False]


def test_unknown_truncation_is_named() -> None:
    with pytest.raises(UserError, match="unknown truncation 'tail'"):
        check("tail")
