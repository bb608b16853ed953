"""Text made comparable: one width, one kind of quote, single spaces. Says when a text is not fit to compare."""

from __future__ import annotations

import re
import unicodedata

from ashore.cache.semantic.model import Language
from ashore.cache.semantic.wordset import words_of

LONGEST_QUESTION = 320
"""Characters. Longer texts carry details that decide the answer; they are matched exactly or not at all."""

_QUOTES = str.maketrans({"‘": "'", "’": "'", "‛": "'", "`": "`", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
                         "「": '"', "」": '"', "『": '"', "』": '"', "《": '"', "》": '"',
                         "–": "-", "—": "-", "−": "-", "‐": "-", "‑": "-", "、": " 、 "})  # fmt: skip
HAN = r"\u3400-\u4dbf\u4e00-\u9fff"
_HAN = re.compile(f"[{HAN}]")
_LATIN = re.compile(r"[A-Za-z]")
_SPACE = re.compile(r"[ \t\r\f\v\u00a0]+")
_INJECTION = re.compile(
    r"\b(ignore|disregard|forget|override|bypass)\b.{0,40}\b(previous|above|prior|earlier|all|any|your|the|these)\b"
    r".{0,30}\b(instruction|prompt|rule|message|context|question|policy|guideline)s?\b"
    r"|\bsystem prompt\b|\bjailbreak\b|\byou are now\b|\bpretend (to be|you are)\b|<\|"
    r"|忽略.{0,12}(指令|提示|规则|要求|问题)|无视.{0,12}(指令|提示|规则)|系统提示|你现在是|扮演",
    re.IGNORECASE | re.DOTALL,
)
_FOREIGN = words_of(
    "le les des est une que qui pour dans comment quel quelle der die das und ist wie ich nicht ein eine "
    "el los las una por para como cual cuál qué cómo il che di della sono não como uma mein kann "
    "wo warum je ne"
)
_ENGLISH = words_of(
    "the a an is are was were be do does did can could will would should may must have has had to of in "
    "on at for from with by and or not how what which who whom whose when where why i we you my our your "
    "it this that there please if as any all me many much long explain tell give show list need want get "
    "make"
)


def plain(text: str) -> str:
    """Return the text in compatibility form (full-width digits become plain), with plain quotes and single spaces."""
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", text).translate(_QUOTES)).strip()


def unfit(raw: str, text: str) -> str:
    """Say why this text must not be matched by meaning, or nothing when it may.

    Invisible characters, mixed alphabets and long tails are what collision attacks on embeddings are made of.
    """
    if not text:
        return "empty"
    if len(raw) > 4 * LONGEST_QUESTION or len(text) > LONGEST_QUESTION:
        return "too long"
    if "\n" in text or "```" in text:
        return "several lines"
    for character in raw:
        if unicodedata.category(character) in ("Cf", "Cc", "Co", "Cn", "Cs") and character not in "\t\r\n":
            return "invisible characters"
    scripts = {_script(c) for c in text if c.isalpha()} - {"han", "latin"}
    if scripts and re.search(r"[A-Za-z]", text):
        return "mixed alphabets"
    if _INJECTION.search(text):
        return "instructions to the model"
    return ""


def language_of(text: str) -> Language:
    """Tell the language whose rules apply. `other` is compared word by word, nothing left out."""
    num_han, num_latin = len(_HAN.findall(text)), len(_LATIN.findall(text))
    if any(c.isalpha() and _script(c) == "other" for c in text):
        return "other"
    if num_han and num_han * 4 >= num_latin:
        return "zh"
    if num_han:
        return "other"
    words = re.findall(r"[a-zà-ÿ]+", text.lower())
    foreign = sum(w in _FOREIGN for w in words) + sum(not w.isascii() for w in words)
    english = sum(w in _ENGLISH for w in words)
    if foreign > english:
        return "other"
    return "en" if num_latin else "other"


def _script(character: str) -> str:
    if _HAN.match(character):
        return "han"
    return "latin" if character.isascii() or "LATIN" in unicodedata.name(character, "") else "other"
