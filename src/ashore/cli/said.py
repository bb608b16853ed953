"""What a terminal shows in the reader's language: findings, alerts, roles and errors, by the words of the console."""

from __future__ import annotations

import os
import unicodedata


def said(sentence: str) -> str:
    """Return a sentence in Chinese where `LC_ALL`, `LC_MESSAGES` or `LANG` asks for it and its words are there."""
    if not next(filter(None, map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "").startswith("zh"):
        return sentence
    from ashore.kit import sentences

    return sentences.said(sentence, "zh")


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return a text of at least so many columns on a terminal, where a Chinese letter takes two."""
    space = " " * (width - columns_of(text))
    return space + text if right else text + space


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return len(text) + sum(unicodedata.east_asian_width(letter) in "WF" for letter in text if not letter.isascii())
