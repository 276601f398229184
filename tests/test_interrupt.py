from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from acclimate.interrupt import AtOnce, Terminated, held_back, terminable


def handlers() -> list[Any]:
    return [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]


def test_ctrl_c_waits_for_the_end_of_the_block() -> None:
    before, done = handlers(), []
    with pytest.raises(KeyboardInterrupt), held_back():
        signal.raise_signal(signal.SIGINT)
        done.append("all of it")
    assert done == ["all of it"]
    assert handlers() == before


def test_a_second_one_does_not_wait() -> None:
    before, done = handlers(), []
    with pytest.raises(AtOnce), held_back():
        signal.raise_signal(signal.SIGINT)
        done.append("until the second")
        signal.raise_signal(signal.SIGINT)
        done.append("never")
    assert done == ["until the second"]
    assert handlers() == before


def test_sigterm_raises_and_waits_too() -> None:
    before, done = handlers(), []
    with pytest.raises(Terminated), terminable(), held_back():
        signal.raise_signal(signal.SIGTERM)
        done.append("all of it")
    assert done == ["all of it"]
    assert handlers() == before


def test_a_program_keeps_its_own_handler() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        with terminable(), held_back():
            signal.raise_signal(signal.SIGTERM)
            assert came == []
        assert came == [signal.SIGTERM]  # it was delivered to the program, which went on
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_have_no_handlers_to_set() -> None:
    done: list[str] = []

    def work() -> None:
        with terminable(), held_back():
            done.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["done"]
