# ruff: noqa: E501 (word lists stay on one line)
"""The same question in other words, as far as a key can tell: courtesy, articles, spelling and plurals taken off.

The words that are left, in their order, are part of the address of an answer. So a reworded question costs one hash:
there is nothing to embed and no index, every worker and machine finds it, and a purge reaches it. Only English and
Chinese have rules; a text that is not fit to compare keeps its own address. So does one with a sign that no rule reads:
what is dropped must be known to say nothing.

Measured (docs/adr/0008): of the fourth blind set 9.0 % of the paraphrases find their answer, and 0 of 3,357 questions
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
_PREAMBLE: Final = re.compile(
    r"\b(?:can|could|would|will) you (?:please |kindly |just )*(?=tell|explain|show|give|help|let me know|say)"
    r"|\bthank you\b|\bexcuse me\b|\bi (?:would like|want) to know\b|\bi would like to\b"
)
_SAYS_NOTHING: Final = frozenset(
    [
        "please",
        "tell",
        "me",
        "kindly",
        "a",
        "an",
        "the",
        "hi",
        "hello",
        "hey",
        "sorry",
        "quick",
        "question",
        "thanks",
        "so",
        "just",
        "do",
        "does",
        "can",
        "could",
        "would",
        "i",
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
_BEGINS: Final = frozenset(["do", "does", "can", "could", "would", "is", "are", "am"])
"""Said first they ask for yes or no, and which of them is said decides that."""
_PLACES: Final = frozenset(["for", "in", "on", "at", "to", "of"])
"""Before a number they decide what it is of: in 2 hours, for 2 hours."""
_ASKED_HOW: Final = re.compile("怎么样才能|怎样才能|如何才能|怎么才能|怎么样|怎样|如何")
_COURTESY: Final = re.compile(
    "请问一下|请问|麻烦问一下|麻烦问下|想问一下|问一下|我想知道|想知道|我想问|你好|您好|谢谢|^麻烦|一下(?!子)|到底|究竟|"
    "(?<![\u3400-\u4dbf\u4e00-\u9fff])请(?![教假客求款购辞愿])|(?<!目)的(?![士确])|(?<!不)是(?=多少|什么|谁|哪|几)|[呢啊呀吧嘛哦](?=[?!。,\\s]*$)"
)
_MARKS: Final = re.compile(r"[\s?!。,;:、…~]+|\.(?!\d)")
_WORD: Final = re.compile(r"[a-z0-9à-ÿ][\w./+=^*'-]*|[+=^*/<>%$€£¥-]")
_READ: Final = re.compile(r"[\w\s.,;:?!'\"+=^*/<>%$€£¥~…。、-]*")
"""What the rules read. Of any other sign nobody knows what it decides: C# is not C, and 👍 is not 👎."""
_SIGN: Final = re.compile(
    r"[0-9]!|!=|~|(?<![\w?!.,])[?!.,;:'\"]+(?![\w'\"])|(?<!\w)['\"][^\w]*\w{0,2}['\"]|-[a-z]\b|-[A-Z]\b"
)
"""Marks that stand for themselves, and options of commands."""
_CAPITALS: Final = re.compile(r"\b(?=\w*[A-Z])(?![A-Z][^\WA-Z]*\b)[A-Za-z0-9]{2,}\b")
"""Words that are not written as others are: AIDS, mW, iPhone."""
_MARKED: Final = {code: chr(code + 32) + "ˆ" for code in range(ord("A"), ord("Z") + 1)}
_PLURAL: Final = re.compile(r"(?<=[a-z]{3})(?<!s)s$")


def reworded_key(question: str) -> str | None:
    """Return what all wordings of a question have in common; None where only the same text may get the same answer."""
    if len(question) > 4 * LONGEST_QUESTION:
        return None  # its other form may be longer yet, and takes its time
    text = _SPACE.sub(" ", unicodedata.normalize("NFKC", question).translate(_QUOTES)).strip()
    if not is_fit(question, text):
        return None
    lowered = _CAPITALS.sub(lambda found: found[0].translate(_MARKED), text).lower()
    if _HAN.search(text):
        kept = _MARKS.sub(_mark, _COURTESY.sub("", _ASKED_HOW.sub("怎么", lowered)))
        return f"zh {kept.strip('?,。;:.')}" if kept else None
    for short, long in _SPELLED_OUT:
        lowered = lowered.replace(short, long)
    lowered = _PREAMBLE.sub("", lowered)
    words = [word.strip(".'-/") or word for word in _WORD.findall(lowered)]
    kept = " ".join(
        _singular(word)
        for at, (word, after) in enumerate(zip(words, [*words[1:], ""], strict=True))
        if word not in _SAYS_NOTHING or (not at and word in _BEGINS) or (word in _PLACES and after[:1].isdigit())
    )
    return f"en {kept}" if kept else None


def is_fit(raw: str, text: str) -> bool:
    """Return whether a text may share its answer with other wordings.

    Invisible characters, mixed alphabets and long tails are what attacks on caches are made of. Languages without rules
    here keep their exact address.

    Args:
        raw: The question as it came.
        text: The same in compatibility form.
    """
    if not text or len(text) > LONGEST_QUESTION or "\n" in text or "```" in text:
        return False
    if any(unicodedata.category(one) in ("Cf", "Cc", "Co", "Cn", "Cs") and one not in "\t\r\n" for one in raw):
        return False
    if any(_is_form(one) for one in raw) or not _READ.fullmatch(text) or _SIGN.search(text):
        return False
    return not _INJECTION.search(text) and _has_rules(text)


def _is_form(one: str) -> bool:
    """Return whether the compatibility form of a character changes the meaning: 10² is not 102."""
    return unicodedata.decomposition(one).startswith(("<super>", "<sub>", "<fraction>", "<circle>", "<square>"))


def _mark(found: re.Match[str]) -> str:
    """Return the remaining marks of a Chinese text: a mark between two words may decide the meaning."""
    before, after = found.string[: found.start()][-1:], found.string[found.end() :][:1]
    mark = found[0].strip()
    if not before or not after:
        return mark if "~" in mark or ("!" in mark and before.isdigit()) else ""
    if mark:
        return mark[0]
    return " " if before.isascii() and after.isascii() and before.isdigit() == after.isdigit() else ""


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
