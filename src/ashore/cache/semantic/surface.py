# ruff: noqa: E501 (word lists stay on one line)
"""The bare words of a question: what stays when courtesy, spelling variants and articles are taken off, in no order.

Readings leave out words that mostly say little (`need`, `will`, `要`); where the strictest bound is asked for, those
count too. Only what is listed here never does.
"""

from __future__ import annotations

import re
from typing import Final

from ashore.cache.semantic.wordset import words_of

_SPELLED_OUT: Final = (
    ("what's", "what is"), ("where's", "where is"), ("who's", "who is"), ("how's", "how is"), ("when's", "when is"),
    ("it's", "it is"), ("i'm", "i am"), ("i've", "i have"), ("i'd", "i would"), ("can't", "can not"), ("won't", "will not"),
    ("n't", " not"), ("'ll", " will"), ("'re", " are"), ("'ve", " have"),
)  # fmt: skip
_SAYS_NOTHING: Final = words_of(
    "please could you tell me can kindly a an the hi hello hey sorry excuse quick question thanks thank so just do does did i "
    "would like to know want exactly actually pls is are am be my our we of for in on at"
)
_ASKED_HOW: Final = re.compile("怎么样才能|怎样才能|如何才能|怎么才能|怎么样|怎样|如何")
_COURTESY: Final = re.compile(
    "请问一下|请问|麻烦问一下|麻烦问下|想问一下|问一下|我想知道|想知道|我想问|你好|您好|谢谢|麻烦|一下|到底|究竟|"
    "(?<![\u3400-\u4dbf\u4e00-\u9fff])请(?![教假客求款购辞愿])|的|呢|啊|呀|吧|是|嘛|哦|该"
)
_MARKS: Final = re.compile(r"[\s?!。,;:、…~]+|\.(?!\d)")
_WORD: Final = re.compile(r"[a-z0-9à-ÿ][\w./+=^*'-]*|[+=^*/<>%$€£¥-]")
_HAN: Final = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_PLURAL: Final = re.compile(r"(?<=[a-z]{3})(?<!s)s$")


def bare_words(text: str) -> str:
    """Return the words (of Chinese: the characters) of a plain text that are not courtesy, sorted, as one string."""
    lowered = text.lower()
    if _HAN.search(lowered):
        kept = _MARKS.sub("", _COURTESY.sub("", _ASKED_HOW.sub("怎么", lowered)))
        return "".join(sorted(kept))
    for short, long in _SPELLED_OUT:
        lowered = lowered.replace(short, long)
    words = (word.strip(".'-/") or word for word in _WORD.findall(lowered))
    return " ".join(sorted(_singular(word) for word in words if word not in _SAYS_NOTHING))


def _singular(word: str) -> str:
    return word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else _PLURAL.sub("", word)
