"""What a hostile text may cost: the work of the detectors grows with its length, and not much faster than plain text's.

Work is counted in calls and not in seconds, so that a busy machine changes nothing.
"""

from __future__ import annotations

import cProfile
import time
from typing import Any

import pytest

from ashore.data.privacy import AnswerGuard, Detectors, Outlet, StandIns
from ashore.data.privacy.policy import Rules
from ashore.data.privacy.table import Table

CHARS = 6_000
MOST_CALLS_PER_CHAR = 150.0
BOMBS = {
    "one run of digits": "1",
    "at signs": "a@",
    "many begun addresses": "a@a.a@",
    "many begun keys": "-----BEGIN PRIVATE KEY-----\n",
    "plus signs": "+86",
    "brackets": "(",
    "invisible characters": "1\u200b",
    "colons": "a:",
    "key prefixes": "sk-AKIAeyJ",
    "surnames and titles": "王先生",
    "labels": "姓名：",
    "house numbers": "路1号",
    "districts": "北京市朝阳区",
    "streets": "1 Main Street, ",
    "IBAN heads": "GB82 ",
    "escapes": "\\u0031",
    "users in addresses": "http://a:b@",
    "broken lines": "1\n",
    "identity numbers": "11010519491231002X",
    "cards": "4111111111111111 ",
    "digits with blanks": "1 ",
    "digits with dashes": "12-",
    "digits with dots": "1.",
    "mixed groups": "1 23 4 567 ",
    "rows of twenty": "1 " * 20 + "23 ",
    "password labels": "password=",
}


def calls_per_char(piece: str) -> float:
    text = (piece * (CHARS // len(piece) + 1))[:CHARS]
    find = Detectors().find
    find("warm up: 13812345678, a@b.cn")
    profile = cProfile.Profile()
    profile.enable()
    find(text)
    profile.disable()
    profile.create_stats()
    return sum(entry[0] for entry in profile.stats.values()) / CHARS  # type: ignore[attr-defined]


@pytest.mark.parametrize("piece", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_costs_little(piece: str) -> None:
    assert calls_per_char(piece) <= MOST_CALLS_PER_CHAR


@pytest.mark.parametrize("piece", ["1", "a@", "aGVsbG8", "一"])
def test_an_answer_without_spaces_is_not_read_again_with_each_of_its_tokens(piece: str) -> None:
    """What may be the beginning of an identifier is held back, up to 24,000 characters of it. Searches are no calls, so
    this counts seconds: eight times the text takes eight times as long, and 64 times where it is read again."""
    finder = Detectors()
    actions: dict[str, Any] = dict.fromkeys(finder.kinds, "mask")
    rules = Rules(prompts=actions, answers=actions, label="off")

    def took_s(number: int) -> float:
        text, took = piece * (number // len(piece)), []
        for _ in range(3):
            outlet = Outlet(StandIns(()), AnswerGuard(finder, actions, Table(finder, rules, bytes)))
            began_s = time.thread_time()
            told = [outlet.feed(text[at : at + 4]) for at in range(0, len(text), 4)]
            told.append(outlet.end())
            took.append(time.thread_time() - began_s)
            assert "".join(told) == text
        return min(took)

    assert took_s(20_000) < 25 * took_s(2_500)
