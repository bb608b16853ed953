"""Texts that people read hold no character that is not seen; the error names the one that does."""

from __future__ import annotations

import sys
from io import StringIO

import pytest

from ashore.cli.bootstrap.operations import Shown
from ashore.cli.calls import Errand, Server
from ashore.cli.operations import print_shown
from ashore.control.drills.calls import CALLS
from ashore.control.releases.office import check_reason
from ashore.core.errors import InvalidRequest
from ashore.core.visible import check_line, first_hidden, on_a_screen
from ashore.data.authority.budgets.model import BudgetRule, check_rule
from ashore.data.authority.policy import check_title


@pytest.mark.parametrize(
    ("hidden", "name"),
    [
        ("\u202e", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("\u2066", "U+2066 LEFT-TO-RIGHT ISOLATE"),
        ("\u200f", "U+200F RIGHT-TO-LEFT MARK"),
        ("\u200b", "U+200B ZERO WIDTH SPACE"),
        ("\ufeff", "U+FEFF ZERO WIDTH NO-BREAK SPACE"),
        ("\u2028", "U+2028 LINE SEPARATOR"),
        ("\u3164", "U+3164 HANGUL FILLER"),
        ("\U000e0041", "U+E0041 TAG LATIN CAPITAL LETTER A"),
        ("\x1b", "U+001B"),
        ("\n", "U+000A"),
        ("\x9b", "U+009B"),
        ("\ud800", "U+D800"),
    ],
)
def test_a_character_that_is_not_seen_is_named(hidden: str, name: str) -> None:
    assert first_hidden(f"rolled back{hidden} by alice") == name
    for check in (check_reason, check_title, lambda text: check_line(text, "it", most=100)):
        with pytest.raises(InvalidRequest, match=f"has the invisible character {name.replace('+', '.')}"):
            check(f"rolled back{hidden} by alice")


@pytest.mark.parametrize("text", ["回滚：延迟太高　见工单", "naïve — 1\xa0000 €", "شعار", "👍🏽 ❤️", "{{7*7}} <b>", ""])
def test_what_is_seen_may_stay(text: str) -> None:
    assert first_hidden(text) == "" and check_reason(text) == text


def test_a_long_reason_is_refused_with_its_length() -> None:
    with pytest.raises(InvalidRequest, match="the reason has 301 characters") as told:
        check_reason("x" * 301)
    assert told.value.param == "why" and told.value.hint == "at most 300, on one line"


def test_a_budget_names_nothing_that_turns_a_line_round() -> None:
    with pytest.raises(InvalidRequest, match=r"tenant has the invisible character U\+202E"):
        check_rule(BudgetRule(kind="tokens", cap=1, window="day", tenant="a\u202eb"))


def test_what_a_server_says_neither_moves_a_cursor_nor_names_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "a\tb\n\x1b]0;owned\x07\x1b[2Jc\r\x9b31m\u202ed 日本語\n"
    assert on_a_screen(said) == "a\tb\n\ufffd]0;owned\ufffd\ufffd[2Jc\ufffd\ufffd31m\ufffdd 日本語\n"
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    Errand(call=CALLS[0], server=Server(), view=lambda answer: print(answer, end="")).tell(said)
    assert screen.getvalue() == on_a_screen(said)
    screen.is_there = False
    Errand(call=CALLS[0], server=Server(), view=lambda answer: print(answer, end="")).tell(said)
    assert screen.getvalue().endswith(said), "a file gets what was said"


def test_what_a_model_says_of_itself_is_shown_without_controls(capsys: pytest.CaptureFixture[str]) -> None:
    print_shown(Shown(document=None, lines=("licence: \x1b[2Jfree",)), as_json=False)
    assert capsys.readouterr().out == "licence: \ufffd[2Jfree\n"


class Screen(StringIO):
    """A terminal, until it is taken away."""

    is_there = True

    def isatty(self) -> bool:
        return self.is_there
