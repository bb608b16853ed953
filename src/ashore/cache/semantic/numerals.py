"""Numbers as people write them: `1,200`, `1.2k`, `twelve hundred`, `一千二百`, `叁`, `3万`."""

from __future__ import annotations

import re
from decimal import Decimal

_SMALL = {
    w: i
    for i, w in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
} | {
    w: 10 * (i + 2)
    for i, w in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"])
}
SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
SHORT_SCALES = {"k": 1000, "m": 10**6, "bn": 10**9, "mn": 10**6}
_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {c: i for i, c in enumerate("〇壹贰叁肆伍陆柒捌玖")}
_DIGITS |= {"两": 2, "貳": 2, "參": 3, "陸": 6}
_TENS = {"十": 10, "百": 100, "千": 1000, "拾": 10, "佰": 100, "仟": 1000}
_MYRIADS = {"万": 10**4, "亿": 10**8, "萬": 10**4, "億": 10**8}
CHINESE_NUMERAL = "[零〇一二三四五六七八九两壹贰叁肆伍陆柒捌玖貳參陸十百千拾佰仟万亿萬億]+"
CHINESE_SCALE = {"百": 100, "千": 1000, **_MYRIADS}


def number_text(value: Decimal) -> str:
    """Return one spelling per value: `1200`, `0.5`."""
    text = format(value.normalize(), "f")
    return text or "0"


def parse_digits(text: str) -> Decimal:
    """Read `1,200.50`."""
    return Decimal(text.replace(",", ""))


def parse_chinese(text: str) -> Decimal | None:
    """Read a run of Chinese numerals; None if it is not one number (`千百`)."""
    if all(c in _DIGITS for c in text):
        return Decimal("".join(str(_DIGITS[c]) for c in text))
    total, section, digit = 0, 0, None
    for c in text:
        if c in _DIGITS:
            digit = _DIGITS[c]
        elif c in _TENS:
            section += (1 if digit is None and _TENS[c] == 10 else digit or 0) * _TENS[c]
            digit = None
        else:
            section += digit or 0
            if section == 0 and total == 0:
                return None
            total = (total + section) * _MYRIADS[c] if c in "亿億" else total + section * _MYRIADS[c]
            section, digit = 0, None
    value = total + section + (digit or 0)
    return Decimal(value) if value else None


def parse_english(words: list[str]) -> tuple[Decimal, int] | None:
    """Read a spelled number at the start of `words`; returns it with how many words it took."""
    total, current, taken = 0, 0, 0
    for place, word in enumerate(words):
        parts = word.split("-")
        if all(p in _SMALL for p in parts):
            if taken and current % 10 and current % 100 > 20:
                break
            current += sum(_SMALL[p] for p in parts)
        elif word in SCALES and (taken or word != "dozen"):
            if not taken:
                break
            if word == "hundred" or word == "dozen":
                current = max(current, 1) * SCALES[word]
            else:
                total += max(current, 1) * SCALES[word]
                current = 0
        elif (
            word == "and"
            and taken
            and words[place - 1] in SCALES
            and place + 1 < len(words)
            and words[place + 1] in _SMALL
        ):
            pass
        else:
            break
        taken = place + 1
    return (Decimal(total + current), taken) if taken else None


def is_spelled(word: str) -> bool:
    return all(p in _SMALL for p in word.split("-"))


ORDINALS = {
    w: i + 1
    for i, w in enumerate(
        [
            "first",
            "second",
            "third",
            "fourth",
            "fifth",
            "sixth",
            "seventh",
            "eighth",
            "ninth",
            "tenth",
            "eleventh",
            "twelfth",
        ]
    )
}
ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)\b")
