"""Guard lists: what is found, and that no blocked word leaves a stream, wherever its pieces end."""

from __future__ import annotations

import random

import pytest

from ashore.core.errors import ContentBlocked, InvalidRequest, InvalidSpec
from ashore.data.guard import Guard, GuardList, Hits, ListSet, WordOutlet
from ashore.data.guard.lists import Compiled, words_in
from ashore.data.guard.stream import MOST_HELD_CHARS
from ashore.data.privacy import fold, lowered

WORDS = ("敏感", "敏感词", "感冒药", "forbidden", "bad word", "x", "ab", "bomb-making", "六四事", "Ünder", "a" * 199)
ZERO_WIDTH = "\u200b"


def lists(*words: str, do: str = "block", **fields: object) -> ListSet:
    return ListSet([Compiled(GuardList(name="l", category="c", words=words or WORDS, do=do, **fields))])  # type: ignore[arg-type]


def found(text: str, *words: str) -> list[str]:
    return [text[start:end] for _, start, end in lists(*words).find(text)]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("这是敏感词汇", ["敏感词"]),
        ("敏\u200b感", ["敏\u200b感"]),
        ("ｆｏｒｂｉｄｄｅｎ fruit", ["ｆｏｒｂｉｄｄｅｎ"]),
        ("unforbidden forbiddenly", []),
        ("FORBIDDEN", ["FORBIDDEN"]),
        ("\\u654f\\u611f", ["\\u654f\\u611f"]),
        ("bad\u00a0word", ["bad\u00a0word"]),
        ("bomb\u2010making", ["bomb\u2010making"]),
        ("İ and FORBIDDEN", ["FORBIDDEN"]),
        ("一九八九年六四事件一九八九六四事一二三", ["六四事", "六四事"]),
        ("x", ["x"]),
        ("xy", []),
        ("", []),
    ],
)
def test_words_are_found_with_the_disguises_that_masking_undoes(text: str, seen: list[str]) -> None:
    assert found(text) == seen


def test_a_long_text_is_read_in_pieces_without_losing_a_word() -> None:
    text = "好" * 65_535 + "敏感词" + "好" * 90_000 + "forbidden"
    assert found(text) == ["敏感词", "forbidden"]


def test_a_list_of_100_000_words_finds_the_same_as_a_set() -> None:
    rng = random.Random(1)
    common = [chr(code) for code in range(0x4E00, 0x4E00 + 1500)]
    words = {"".join(rng.choices(common, k=rng.choice((2, 3, 3, 4, 5)))) for _ in range(100_000)}
    text = "".join(rng.choices(common, k=3_000))
    seen = found(text, *words)
    longest = max(map(len, words))
    begins = [n for n in range(len(text)) if any(text[n : n + size] in words for size in range(1, longest + 1))]
    assert seen and all(word in words for word in seen)
    assert text.index(seen[0]) == begins[0]


def disguised(rng: random.Random, text: str) -> str:
    """Return a text that folds to the same."""
    parts = []
    for char in text:
        if char.isascii() and char.isalpha() and rng.random() < 0.2:
            char = chr(ord(char) + 0xFEE0) if rng.random() < 0.5 else char.upper()
        elif rng.random() < 0.1:
            char = f"\\u{ord(char):04x}"
        parts.append(char + (ZERO_WIDTH * rng.randint(1, 3) if rng.random() < 0.1 else ""))
    return "".join(parts)


def random_text(rng: random.Random, *, words: bool) -> str:
    pool = [*"敏感词冒ab，六四-\\éİ\n ", "forbid", "den", "bad", "wor", "u6"]
    parts = rng.choices(pool, k=rng.randint(0, 25))
    if words and rng.random() < 0.7:
        parts.insert(rng.randint(0, len(parts)), rng.choice(WORDS))
    return disguised(rng, "".join(parts)) if rng.random() < 0.6 else "".join(parts)


def cut(rng: random.Random, text: str) -> list[str]:
    pieces, at = [], 0
    while at < len(text):
        size = rng.choice((1, 1, 2, 3, 5, 17))
        pieces.append(text[at : at + size])
        at += size
    return pieces


@pytest.mark.parametrize("times", [1_500, pytest.param(20_000, marks=pytest.mark.full)])
def test_no_blocked_word_leaves_a_stream_at_any_cut(times: int) -> None:
    rng = random.Random(times)
    block = lists()
    stopped = whole = 0
    for _ in range(times):
        text = random_text(rng, words=True)
        hits, sent = Hits(), ""
        outlet = WordOutlet(block, lambda one, hits=hits: hits.take(one, "answer"))  # type: ignore[misc]
        try:
            for piece in cut(rng, text):
                sent += outlet.feed(piece)
            sent += outlet.end()
        except ContentBlocked:
            stopped += 1
            assert next(block.find(text), None) is not None, text
        else:
            whole += 1
            assert sent == text and next(block.find(text), None) is None
        assert text.startswith(sent)
        left = lowered(fold(sent, numerals=False)[0])
        at_the_end = {one for one in WORDS if left.endswith(lowered(one)) and one[-1].isascii()}
        inside = list(block.found_in(left, 0, len(left)))
        assert not inside or (at_the_end and not list(block.found_in(left + "z", 0, len(left)))), (text, sent)
    assert stopped > times / 10 < whole


def test_a_monitor_counts_the_same_for_every_cut_and_holds_nothing_in_the_end() -> None:
    rng = random.Random(7)
    watch = lists("敏感词", "forbidden", "感冒药", do="monitor")
    for _ in range(300):
        text = random_text(rng, words=True)
        counts = []
        for pieces in ([text], cut(rng, text)):
            hits = Hits()
            outlet = WordOutlet(watch, lambda one, hits=hits: hits.take(one, "answer"))  # type: ignore[misc]
            assert "".join([*map(outlet.feed, pieces), outlet.end()]) == text
            counts.append(hits.counts)
        assert counts[0] == counts[1], text


def test_little_is_held_back() -> None:
    hits = Hits()
    outlet = WordOutlet(lists("敏感词", "forbidden"), lambda one: hits.take(one, "answer"))
    assert outlet.feed("今天天气很好") == "今天天气很好"
    assert outlet.feed("，敏") == "，" and outlet.holds
    assert outlet.feed("捷") == "敏捷" and not outlet.holds


def test_characters_that_nobody_sees_are_not_read_again_with_each_piece_and_not_held_for_ever() -> None:
    class Counted(ListSet):
        reads = 0

        def open_from(self, folded: str, begin: int) -> int:
            self.reads += 1
            return super().open_from(folded, begin)

    hits, counted = Hits(), Counted(lists("forbidden").lists)
    outlet = WordOutlet(counted, lambda one: hits.take(one, "answer"))
    sent = outlet.feed("for") + "".join(outlet.feed(ZERO_WIDTH) for _ in range(3 * MOST_HELD_CHARS))
    assert counted.reads < 10 and len(sent) >= 2 * MOST_HELD_CHARS
    with pytest.raises(ContentBlocked):
        outlet.feed("bidden ")


@pytest.mark.parametrize("code", [0x115F, 0x17B4, 0x180B, 0x206A, 0x3164, 0xFFA0, 0xFFF9, 0x1D173, 0xE0061, 0xE0100])
def test_no_character_that_nobody_sees_hides_a_word(code: int) -> None:
    [(_, start, end)] = lists("forbidden").find(f"so for{chr(code)}bidden it is")
    assert (start, end) == (3, 13)


def test_what_was_released_for_another_stream_still_completes_no_word() -> None:
    hits = Hits()
    outlet = WordOutlet(lists("敏感词"), lambda one: hits.take(one, "answer"))
    assert outlet.feed("这敏感") + outlet.release() == "这敏感"
    with pytest.raises(ContentBlocked):
        outlet.feed("词")


def test_lists_hold_for_their_aliases_and_adapters_alone() -> None:
    guard = Guard()
    guard.take(
        [
            GuardList(name="a", category="c", words=("w",), aliases=("chat",)),
            GuardList(name="b", category="c", words=("w",), where="answers"),
        ]
    )
    prompts, answers, stamp = guard.now.of(("chat:legal",))
    assert [one.list.name for one in prompts.lists] == ["a"] and len(answers.lists) == 2
    other = guard.now.of(("other",))
    assert not other[0] and other[2] not in (b"", stamp)
    kept = guard.now.lists[1]
    guard.take([GuardList(name="b", category="c", words=("w",), where="answers")])
    assert guard.now.lists == (kept,), "a list that did not change is not read again"
    with pytest.raises(InvalidSpec):
        guard.take([GuardList(name="b", category="c", words=(" ",))])
    assert guard.now.lists == (kept,)


def test_words_of_a_file() -> None:
    assert words_in("\ufeff# a list\n敏感词\n\n bad word \n敏感词\n") == ("敏感词", "bad word")
    with pytest.raises(InvalidRequest, match="0 words"):
        words_in("# nothing\n")
