"""Leaving one domain out: who is judged by whom, and what cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from acclimate.data.domains import leave_one_out
from acclimate.data.rows import Data
from acclimate.errors import UserError


def made(domains: str, labels: str = "", groups: str = "") -> Data:
    return Data(
        tuple(f"text {i}" for i in range(len(domains))), tuple(labels or "xy" * (len(domains) // 2)),
        groups=tuple(groups) or None, domains=tuple(domains), clusters=np.arange(len(domains)),
    )  # fmt: skip


def test_every_domain_is_judged_once_by_the_others() -> None:
    pairs = leave_one_out(made("aabbcc"), "classify")
    assert [(a.tolist(), b.tolist()) for a, b in pairs] == [
        ([2, 3, 4, 5], [0, 1]), ([0, 1, 4, 5], [2, 3]), ([0, 1, 2, 3], [4, 5])
    ]  # fmt: skip


def test_a_group_or_a_text_in_two_domains_is_not_learned_from() -> None:
    pairs = leave_one_out(made("aabbcc", groups="123245"), "classify")  # group 2 is in a and in b
    assert [a.tolist() for a, _ in pairs] == [[2, 4, 5], [0, 4, 5], [0, 1, 2, 3]]
    data = made("aabbcc")
    copied = Data(data.inputs, data.labels, domains=data.domains, clusters=np.array([0, 1, 2, 3, 4, 0]))
    assert [a.tolist() for a, _ in leave_one_out(copied, "classify")] == [[2, 3, 4], [0, 1, 4, 5], [1, 2, 3]]


@pytest.mark.parametrize(
    ("data", "task", "told"),
    [
        (made("aaaa"), "classify", "leaving one out needs two or more"),
        (made("".join(chr(200 + i) for i in range(60))), "classify", "--group-column instead"),
        (made("aabb", "xyxx"), "classify", "all rows are of the class 'x'"),
        (made("aabb", groups="1111"), "classify", "no row is left"),
    ],
)
def test_what_cannot_be_judged_is_refused(data: Data, task: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        leave_one_out(data, task)
