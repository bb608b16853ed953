"""Error texts in the reader's language, looked up by the English sentence at the place where the error is raised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MOST_CHARS: Final = 1_000
"""Of a sentence that is looked for."""
MOST_DEPTH: Final = 3
"""Deepest nesting of sentences inside placeholders; deeper ones stay English."""
MOST_SENTENCES: Final = 16
"""Most sentences in one text."""


@dataclass(frozen=True, slots=True)
class Sentences:
    """A catalogue of sentences. A lookup takes some microseconds, also for hostile input."""

    texts: Mapping[str, str]
    """By English sentence; `{}` is a placeholder there, `{0}` the first one here."""
    _open: tuple[tuple[tuple[str, ...], str], ...] = field(init=False)
    """Sentences with placeholders, split into their fixed parts, longest first."""

    def __post_init__(self) -> None:
        with_places = [(tuple(key.split("{}")), text) for key, text in self.texts.items() if "{}" in key]
        with_places.sort(key=lambda one: -sum(map(len, one[0])))
        object.__setattr__(self, "_open", tuple(with_places))

    def find(self, sentence: str, depth: int = 0) -> str:
        """Return the translation of a sentence; empty if there is none. A placeholder may itself hold a sentence, up to
        `depth` levels.
        """
        if len(sentence) > MOST_CHARS or depth > MOST_DEPTH:
            return ""
        plain = " ".join(sentence.split())
        if "{}" not in plain and (text := self.texts.get(plain)):
            return text
        several = plain.split("; ")
        found = [self.find(one, depth + 1) for one in several] if 1 < len(several) <= MOST_SENTENCES else []
        if found and all(found):
            return "；".join(found)
        for parts, text in self._open:
            places = _between(plain, parts)
            if places is not None:
                return text.format(*((len(places) == 1 and self.find(one, depth + 1)) or one for one in places))
        return ""


def _between(sentence: str, parts: tuple[str, ...]) -> list[str] | None:
    """Return the values of the placeholders; None if the sentence does not match."""
    first, *between, last = parts
    if not sentence.startswith(first) or not sentence.endswith(last) or len(sentence) < len(first) + len(last):
        return None
    rest = sentence[len(first) : len(sentence) - len(last)]
    places = []
    for part in between:
        place, found, rest = rest.partition(part)
        if not found:
            return None
        places.append(place)
    return [*places, rest]
