"""A set of words written as one line of text."""

from __future__ import annotations


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text, which are parted by spaces."""
    return frozenset(text.split())
