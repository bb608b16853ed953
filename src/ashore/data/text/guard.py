"""Keeps what users write from becoming control tokens.

A template and the messages are joined in one string, where `<|im_end|>` from a user looks like the template's. So every
such piece of a user's text is marked before the template runs, with a lone surrogate, a code point that no valid text
has. Templates copy it like any character. After rendering, a token's text with a mark in it is the user's and becomes
plain text; one without is the template's and becomes the token.

Text that could form a token with its neighbour (a message that ends in `<|im_` or starts with `end|>`) is marked at
that end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ashore.data.text.vocabulary import AddedToken

MARK = "\ud800"
_SURROGATES = re.compile("[\ud800-\udfff]")


class Guard:
    """Marks and finds the written tokens of one set."""

    def __init__(self, tokens: Iterable[AddedToken]) -> None:
        self._by_text = {t.text: t for t in tokens}
        texts = tuple(self._by_text)
        self._pattern = re.compile(_alternatives(texts)) if texts else None
        self._heads = frozenset(t[:i] for t in texts for i in range(1, len(t)))
        self._tails = frozenset(t[i:] for t in texts for i in range(1, len(t)))
        self._first = frozenset(t[0] for t in texts)
        self._last = frozenset(t[-1] for t in texts)
        self._longest = max((len(t) for t in texts), default=0)

    def shield(self, text: str) -> str:
        """Return `text` with marks where a token could be read in it. Lone surrogates become U+FFFD."""
        text = without_surrogates(text)
        if self._pattern is None:
            return text
        while self._pattern.search(text):
            text = self._pattern.sub(lambda found: found[0][0] + MARK + found[0][1:], text)
        if not self._first.isdisjoint(text[-self._longest :]) or text[-1:].isspace():
            text = self._shield_end(text)
        if not self._last.isdisjoint(text[: self._longest]) or text[:1].isspace():
            text = self._shield_start(text)
        return text

    def find(self, text: str) -> Iterator[tuple[int, int, AddedToken]]:
        """Yield start, end and token of every unmarked token text."""
        if self._pattern is not None:
            for found in self._pattern.finditer(text):
                yield found.start(), found.end(), self._by_text[found[0]]

    def _shield_end(self, text: str) -> str:
        kept = text.rstrip()
        tail = kept[-self._longest :]
        if any(char in self._first and tail[at:] in self._heads for at, char in enumerate(tail)):
            return kept + MARK + text[len(kept) :]
        return text

    def _shield_start(self, text: str) -> str:
        kept = text.lstrip()
        head = kept[: self._longest]
        if any(char in self._last and head[: at + 1] in self._tails for at, char in enumerate(head)):
            return text[: len(text) - len(kept)] + MARK + kept
        return text


def without_surrogates(text: str) -> str:
    """Return text that UTF-8 can encode: lone surrogates, which some JSON allows, become U+FFFD."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def shield_values(value: object, shield: Callable[[str], str]) -> object:
    """Return JSON data with every string in it, keys included, shielded."""
    if isinstance(value, str):
        return shield(value)
    if isinstance(value, dict):
        return {shield(str(k)): shield_values(v, shield) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [shield_values(v, shield) for v in value]
    return value


def _alternatives(texts: Iterable[str]) -> str:
    """Return an expression that finds the longest of `texts`, as a prefix tree: DeepSeek has 1,283."""
    tree: dict[str, dict[str, Any]] = {}
    for text in texts:
        node = tree
        for char in text:
            node = node.setdefault(char, {})
        node[""] = {}
    return _branches(tree, depth=0)


def _branches(node: dict[str, dict[str, Any]], *, depth: int) -> str:
    options = [re.escape(char) + _branches(child, depth=depth + 1) for char, child in node.items() if char]
    if not options:
        return f"(?!{MARK})" if depth == 1 else ""
    ends = "" in node
    if len(options) == 1 and not ends:
        return options[0]
    return f"(?:{'|'.join(options)})" + ("?" if ends else "")
