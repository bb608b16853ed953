"""Secrets: well-known forms of keys, tokens, labelled passwords, private keys."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Final

from ashore.data.privacy.model import Entity
from ashore.data.privacy.page import Page

_T: Final = r"[A-Za-z0-9_-]"
_FORMS: Final = (
    ("AKIA", r"AKIA[A-Z0-9]{16}"),
    ("ASIA", r"ASIA[A-Z0-9]{16}"),
    ("gh", r"gh[pousr]_[A-Za-z0-9]{36,255}"),
    ("github_pat_", r"github_pat_[A-Za-z0-9_]{22,255}"),
    ("glpat-", rf"glpat-{_T}{{20,64}}"),
    ("sk-", rf"sk-{_T}{{16,200}}"),
    ("sk_", r"sk_(?:live|test)_[A-Za-z0-9]{16,128}"),
    ("rk_", r"rk_(?:live|test)_[A-Za-z0-9]{16,128}"),
    ("whsec_", r"whsec_[A-Za-z0-9+/=]{24,88}"),
    ("ash_", rf"ash_{_T}{{16,128}}"),
    ("AIza", rf"AIza{_T}{{35}}"),
    ("ya29.", rf"ya29\.{_T}{{20,400}}"),
    ("xox", r"xox[abeoprs]-[A-Za-z0-9-]{10,250}"),
    ("xapp-", r"xapp-[A-Za-z0-9-]{10,250}"),
    ("hf_", r"hf_[A-Za-z0-9]{20,64}"),
    ("npm_", r"npm_[A-Za-z0-9]{36}"),
    ("pypi-", rf"pypi-{_T}{{40,300}}"),
    ("dop_v1_", r"dop_v1_[0-9a-f]{64}"),
    ("SG.", rf"SG\.{_T}{{16,32}}\.{_T}{{30,64}}"),
    ("LTAI", r"LTAI[A-Za-z0-9]{12,26}"),
    ("AKID", r"AKID[A-Za-z0-9]{13,40}"),
    ("SK", r"SK[0-9a-f]{32}"),
    ("eyJ", rf"eyJ{_T}{{8,4096}}\.{_T}{{8,8192}}(?:\.{_T}{{0,4096}})?"),
    ("AGE-SECRET-KEY-", r"AGE-SECRET-KEY-1[A-Z0-9]{50,70}"),
)
"""What a form begins with, and the whole of it."""

_LABEL_WORDS: Final = ("key", "secret", "token", "bearer", "credential", "密钥", "秘钥", "令牌", "凭证", "凭据")
_LABEL: Final = re.compile(
    r"(?:secret|token|bearer|credential|密钥|秘钥|令牌|凭证|凭据"
    r"|(?:(?<=api)|(?<=api[ _-])|(?<=secret)|(?<=secret[ _-])|(?<=account)|(?<=private)|(?<=private[ _-]))key"
    r"|(?:(?<=access)|(?<=access[ _-]))key(?:[ _-]?(?:id|secret))?)s?[\"'`]?(?:值)?"
    r"(?: ?(?:is|=>|:=|[=:：是为]) ?| )[\"'`“「]?(?=([a-z0-9+/_=.~-]{16,512}))"
)
_PASSWORD_WORDS: Final = ("password", "passwd", "passphrase", "pwd", "passcode", "密码", "口令")
_PASSWORD: Final = re.compile(
    r"(?:(?:password|passwd|passphrase|pwd|passcode)[\"'`]?(?: ?(?:is|=>|:=|[=:：是为]) ?)"
    r"|(?:密码|口令)[\"'`]?(?: ?(?:=>|[=:：是为]) ?)?)[\"'`“「]?(?=([!-~]{6,128}))"
)
"""Both are for texts in lower case, and for places where one of the words is."""
_IN_URL: Final = re.compile(r"://[^\s:/@\"'<>]{0,64}:(?=([^\s:/@\"'<>]{3,128})@)")
_DIGIT: Final = re.compile("[0-9]")
_LETTER: Final = re.compile("[A-Za-z]")
_ENDS_PASSWORD: Final = re.compile(r"[\"'`<>,;)}\]]")
_PEM: Final = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END: Final = re.compile(r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_PEM_BODY: Final = re.compile(r"(?:[A-Za-z0-9+/=\s:,.>|-]|\\[nrt])*")
MOST_PEM_CHARS: Final = 20_000


class CredentialFinder:
    """Finds secrets; its patterns are compiled once."""

    def __init__(self) -> None:
        self._forms = tuple(
            (prefix, re.compile(rf"(?<![A-Za-z0-9_]){pattern}(?![A-Za-z0-9_])")) for prefix, pattern in _FORMS
        )

    def find(self, page: Page) -> Iterator[Entity]:
        """Yield secrets and private keys."""
        text = page.text
        for prefix, pattern in self._forms:
            if prefix in text:
                for found in pattern.finditer(text):
                    whole = prefix != "eyJ" or found[0].count(".") == 2
                    if whole and len(set(found[0])) > 6:
                        yield page.entity("secret", found.start(), found.end())
        low = page.low
        for at in _places_of(_LABEL_WORDS, low):
            said = _LABEL.match(low, at)
            if said is not None:
                word = text[said.start(1) : said.end(1)]
                if is_random(word):
                    yield page.entity("secret", said.start(1), said.start(1) + len(word.rstrip(".")))
        for at in _places_of(_PASSWORD_WORDS, low):
            said = _PASSWORD.match(low, at)
            if said is not None:
                word = _ENDS_PASSWORD.split(text[said.start(1) : said.end(1)], maxsplit=1)[0].rstrip(".")
                if is_password(word):
                    yield page.entity("secret", said.start(1), said.start(1) + len(word))
        if "://" in text:
            for found in _IN_URL.finditer(text):
                yield page.entity("secret", found.start(1), found.end(1))
        if "-----BEGIN" in text:
            yield from _private_keys(page)


def _places_of(words: Iterable[str], text: str) -> Iterator[int]:
    """Yield the positions of words; separate searches are faster than one combined expression."""
    for word in words:
        if word in text:
            at = text.find(word)
            while at >= 0:
                yield at
                at = text.find(word, at + 1)


def is_random(word: str) -> bool:
    """Return whether a word looks random: letters and digits, and no letter too often."""
    if not _DIGIT.search(word) or not _LETTER.search(word):
        return False
    return entropy(word) >= (2.8 if len(word) < 24 else 3.0)


def is_password(word: str) -> bool:
    """Return whether a word after a label looks like a password rather than a description of one."""
    if len(word) < 6 or word[0] in "<{$[%(*" or len(set(word)) < 4:
        return False
    kinds = sum(
        (
            word.lower() != word,
            word.upper() != word,
            not word.isalnum(),
        )
    )
    return _DIGIT.search(word) is not None and kinds >= 1


def entropy(word: str) -> float:
    """Return the bits per character of a word, by its own letter frequencies."""
    size = len(word)
    shares = [word.count(char) / size for char in dict.fromkeys(word)]
    return -sum([share * math.log2(share) for share in shares])


def _private_keys(page: Page) -> Iterator[Entity]:
    text = page.text
    at = 0
    while (begin := _PEM.search(text, at)) is not None:
        end = _PEM_END.search(text, begin.end(), begin.end() + MOST_PEM_CHARS)
        if end is not None:
            at = end.end()
        else:
            body = _PEM_BODY.match(text, begin.end(), begin.end() + MOST_PEM_CHARS)
            at = begin.end() + len((body[0] if body else "").rstrip())
        yield page.entity("private_key", begin.start(), at)
