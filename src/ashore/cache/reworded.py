# ruff: noqa: E501 (word lists stay on one line)
"""The same question in other words, as far as a key can tell: courtesy, articles, spelling and plurals taken off.

The words that are left, in their order, are part of the address of an answer. So a reworded question costs one hash:
there is nothing to embed and no index, every worker and machine finds it, and a purge reaches it. Only English and
Chinese have rules; a text that is not fit to compare keeps its own address.

Measured (docs/adr/0008): of the fourth blind set 10.1 % of the paraphrases find their answer, and 0 of 3,357 questions
that mean something else find a wrong one.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

LONGEST_QUESTION: Final = 320
"""Characters. Longer texts carry details that decide the answer."""

_QUOTES: Final = str.maketrans({"‘": "'", "’": "'", "‛": "'", "`": "`", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
                                "「": '"', "」": '"', "『": '"', "』": '"', "《": '"', "》": '"',
                                "–": "-", "—": "-", "−": "-", "‐": "-", "‑": "-", "、": " 、 "})  # fmt: skip
_SPACE: Final = re.compile(r"[ \t\r\f\v\u00a0]+")
_HAN: Final = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_LATIN: Final = re.compile(r"[A-Za-z]")
_INJECTION: Final = re.compile(
    r"\b(ignore|disregard|forget|override|bypass)\b.{0,40}\b(previous|above|prior|earlier|all|any|your|the|these)\b"
    r".{0,30}\b(instruction|prompt|rule|message|context|question|policy|guideline)s?\b"
    r"|\bsystem prompt\b|\bjailbreak\b|\byou are now\b|\bpretend (to be|you are)\b|<\|"
    r"|忽略.{0,12}(指令|提示|规则|要求|问题)|无视.{0,12}(指令|提示|规则)|系统提示|你现在是|扮演",
    re.IGNORECASE | re.DOTALL,
)
_FOREIGN: Final = frozenset(
    [
        "le",
        "les",
        "des",
        "est",
        "une",
        "que",
        "qui",
        "pour",
        "dans",
        "comment",
        "quel",
        "quelle",
        "der",
        "die",
        "das",
        "und",
        "ist",
        "wie",
        "ich",
        "nicht",
        "ein",
        "eine",
        "el",
        "los",
        "las",
        "una",
        "por",
        "para",
        "como",
        "cual",
        "cuál",
        "qué",
        "cómo",
        "il",
        "che",
        "di",
        "della",
        "sono",
        "não",
        "como",
        "uma",
        "mein",
        "kann",
        "wo",
        "warum",
        "je",
        "ne",
    ]
)
_ENGLISH: Final = frozenset(
    [
        "the",
        "a",
        "an",
        "is",
        "are",
        "was",
        "were",
        "be",
        "do",
        "does",
        "did",
        "can",
        "could",
        "will",
        "would",
        "should",
        "may",
        "must",
        "have",
        "has",
        "had",
        "to",
        "of",
        "in",
        "on",
        "at",
        "for",
        "from",
        "with",
        "by",
        "and",
        "or",
        "not",
        "how",
        "what",
        "which",
        "who",
        "whom",
        "whose",
        "when",
        "where",
        "why",
        "i",
        "we",
        "you",
        "my",
        "our",
        "your",
        "it",
        "this",
        "that",
        "there",
        "please",
        "if",
        "as",
        "any",
        "all",
        "me",
        "many",
        "much",
        "long",
        "explain",
        "tell",
        "give",
        "show",
        "list",
        "need",
        "want",
        "get",
        "make",
    ]
)
_SPELLED_OUT: Final = (
    ("what's", "what is"), ("where's", "where is"), ("who's", "who is"), ("how's", "how is"), ("when's", "when is"),
    ("it's", "it is"), ("i'm", "i am"), ("i've", "i have"), ("i'd", "i would"), ("can't", "can not"), ("won't", "will not"),
    ("n't", " not"), ("'ll", " will"), ("'re", " are"), ("'ve", " have"),
)  # fmt: skip
_SAYS_NOTHING: Final = frozenset(
    [
        "please",
        "could",
        "you",
        "tell",
        "me",
        "can",
        "kindly",
        "a",
        "an",
        "the",
        "hi",
        "hello",
        "hey",
        "sorry",
        "excuse",
        "quick",
        "question",
        "thanks",
        "thank",
        "so",
        "just",
        "do",
        "does",
        "did",
        "i",
        "would",
        "like",
        "to",
        "know",
        "want",
        "exactly",
        "actually",
        "pls",
        "is",
        "are",
        "am",
        "be",
        "my",
        "our",
        "we",
        "of",
        "for",
        "in",
        "on",
        "at",
    ]
)
_ASKED_HOW: Final = re.compile("怎么样才能|怎样才能|如何才能|怎么才能|怎么样|怎样|如何")
_COURTESY: Final = re.compile(
    "请问一下|请问|麻烦问一下|麻烦问下|想问一下|问一下|我想知道|想知道|我想问|你好|您好|谢谢|麻烦|一下|到底|究竟|"
    "(?<![\u3400-\u4dbf\u4e00-\u9fff])请(?![教假客求款购辞愿])|的|呢|啊|呀|吧|是|嘛|哦|该"
)
_MARKS: Final = re.compile(r"[\s?!。,;:、…~]+|\.(?!\d)")
_WORD: Final = re.compile(r"[a-z0-9à-ÿ][\w./+=^*'-]*|[+=^*/<>%$€£¥-]")
_PLURAL: Final = re.compile(r"(?<=[a-z]{3})(?<!s)s$")


def reworded_key(question: str) -> str | None:
    """Return what all wordings of a question have in common; None where only the same text may get the same answer."""
    text = _SPACE.sub(" ", unicodedata.normalize("NFKC", question).translate(_QUOTES)).strip()
    if not is_fit(question, text):
        return None
    lowered = text.lower()
    if _HAN.search(text):
        kept = _MARKS.sub("", _COURTESY.sub("", _ASKED_HOW.sub("怎么", lowered)))
        return f"zh {kept}" if kept else None
    for short, long in _SPELLED_OUT:
        lowered = lowered.replace(short, long)
    words = (word.strip(".'-/") or word for word in _WORD.findall(lowered))
    kept = " ".join(_singular(word) for word in words if word not in _SAYS_NOTHING)
    return f"en {kept}" if kept else None


def is_fit(raw: str, text: str) -> bool:
    """Return whether a text may share its answer with other wordings.

    Invisible characters, mixed alphabets and long tails are what attacks on caches are made of. Languages without rules
    here keep their exact address.

    Args:
        raw: The question as it came.
        text: The same in compatibility form.
    """
    if not text or len(raw) > 4 * LONGEST_QUESTION or len(text) > LONGEST_QUESTION or "\n" in text or "```" in text:
        return False
    if any(unicodedata.category(one) in ("Cf", "Cc", "Co", "Cn", "Cs") and one not in "\t\r\n" for one in raw):
        return False
    return not _INJECTION.search(text) and _has_rules(text)


def _has_rules(text: str) -> bool:
    if any(one.isalpha() and _script(one) == "other" for one in text):
        return False
    num_han, num_latin = len(_HAN.findall(text)), len(_LATIN.findall(text))
    if num_han:
        return num_han * 4 >= num_latin
    words = re.findall(r"[a-zà-ÿ]+", text.lower())
    foreign = sum(word in _FOREIGN for word in words) + sum(not word.isascii() for word in words)
    return bool(num_latin) and foreign <= sum(word in _ENGLISH for word in words)


def _script(character: str) -> str:
    if _HAN.match(character):
        return "han"
    return "latin" if character.isascii() or "LATIN" in unicodedata.name(character, "") else "other"


def _singular(word: str) -> str:
    return word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else _PLURAL.sub("", word)
