from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashore.cli.columns import FOLD, laid_out, prose
from ashore.cli.said import columns_of

HEAD = ("name", "size", "sealed", "licence", "what it is")
LONG = "A branch office loses power while it switches, and finds the old version whole afterwards"
ROWS = [
    ("smollm2", "94 MiB", "-", "Apache-2.0", "The demo model"),
    ("deepseek-r1-distill-llama-70b", "131 GiB", "-", "MIT AND Llama-3.3-Community", LONG),
]


def test_where_there_is_room_each_row_is_one_line_with_every_column() -> None:
    lines = laid_out(HEAD, ROWS, room=200).splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["name", "size", "sealed", "licence", "what", "it", "is"]
    assert lines[2].endswith(f"MIT AND Llama-3.3-Community  {LONG}")


def test_a_column_without_values_gives_way_first() -> None:
    lines = laid_out(HEAD[:4], [row[:4] for row in ROWS], room=70).splitlines()
    assert lines == [
        "name                           size     licence",
        "smollm2                        94 MiB   Apache-2.0",
        "deepseek-r1-distill-llama-70b  131 GiB  MIT AND Llama-3.3-Community",
    ]


def test_then_long_texts_wrap_between_words() -> None:
    lines = laid_out(("drill", "what", "on"), [("power", LONG, "twin")], room=60).splitlines()
    assert lines == [
        "drill  what                                             on",
        "power  A branch office loses power while it switches,   twin",
        "       and finds the old version whole afterwards",
    ]


@pytest.mark.parametrize("room", [80, 64, 48])
def test_then_a_row_goes_on_below_and_nothing_is_lost(room: int) -> None:
    text = laid_out(HEAD, ROWS, room=room)
    assert all(columns_of(line) <= room for line in text.splitlines())
    assert f"\n{FOLD}" in text
    for cell in (*HEAD, *(cell for row in ROWS for cell in row)):
        if cell not in ("sealed", "-"):
            assert all(word in text.split() for word in cell.split())


def test_drawings_are_not_wrapped() -> None:
    bars = "   ▁▂▃   ▇█" * 4
    assert bars in laid_out(("series", "over time"), [("requests", bars)], room=30)


@given(
    st.lists(st.tuples(st.text("ab ", min_size=1, max_size=30), *[st.text("字ab -", max_size=60)] * 3), max_size=4),
    st.integers(20, 120),
)
def test_every_word_is_shown_whatever_the_width(rows: list[tuple[str, str, str, str]], room: int) -> None:
    shown = laid_out(("a", "b", "c", "d"), rows, names=3, room=room).split()
    assert {word for row in rows for cell in row for word in cell.split()} - {"-"} <= set(shown)


def test_prose_breaks_between_words_below_its_own_margin_and_never_in_a_command() -> None:
    text = "copies leave this machine; run `ashore backup run --yes` first"
    assert prose(text, first="backup   ", room=36).splitlines() == [
        "backup   copies leave this machine;",
        "         run",
        "         `ashore backup run --yes`",
        "         first",
    ]
    assert prose(f"  {text}", room=40).splitlines()[1].startswith("  `ashore")
    assert prose(text) == text
    assert prose("one\n  two") == "one\n  two"
