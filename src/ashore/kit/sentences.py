"""Error texts in the reader's language, looked up by the English sentence at the place where the error is raised."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Final, Literal

Language = Literal["en", "zh"]

MOST_CHARS: Final = 1_000
"""Of a sentence that is looked for."""
HEAD_CHARS: Final = 4
"""First letters by which sentences are filed."""
MOST_DEPTH: Final = 3
"""Deepest nesting of sentences inside placeholders; deeper ones stay English."""
MOST_SENTENCES: Final = 16
"""Most sentences in one text."""


@dataclass(frozen=True, slots=True)
class Sentences:
    """A catalogue of sentences. A lookup takes some microseconds, also for hostile input."""

    texts: Mapping[str, str]
    """By English sentence; `{}` is a placeholder there, `{0}` the first one here."""
    _open: Mapping[str, tuple[tuple[tuple[str, ...], str], ...]] = field(init=False)
    """Sentences with placeholders, split into their fixed parts, longest first, by their first letters; those that
    begin with a placeholder are in each, and alone below the empty text."""

    def __post_init__(self) -> None:
        with_places = [(tuple(key.split("{}")), text) for key, text in self.texts.items() if "{}" in key]
        with_places.sort(key=lambda one: -sum(map(len, one[0])))
        heads = {"", *(parts[0][:HEAD_CHARS] for parts, _ in with_places if len(parts[0]) >= HEAD_CHARS)}
        by_head = {
            head: tuple(one for one in with_places if len(one[0][0]) < HEAD_CHARS or one[0][0].startswith(head or "\0"))
            for head in heads
        }
        object.__setattr__(self, "_open", by_head)

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
        for parts, text in self._open.get(plain[:HEAD_CHARS], self._open[""]):
            if plain.endswith(parts[-1]) and (places := _between(plain, parts)) is not None:
                alone = len(places) == 1
                said = (self.find(one, depth + 1) if alone else " " in one and self.texts.get(one) for one in places)
                return text.format(*(new or one for new, one in zip(said, places, strict=True)))
        return ""


@cache
def sentences_in(language: Language) -> Sentences:
    """Return the catalogue of a language, `words/errors.zh.toml` and `words/findings.zh.toml`; in English none."""
    files = () if language == "en" else (f"errors.{language}.toml", f"findings.{language}.toml")
    texts = [(resources.files("ashore.kit") / "words" / file).read_text(encoding="utf-8") for file in files]
    return Sentences({english: said for text in texts for english, said in tomllib.loads(text).items()})


def said(text: str, language: Language) -> str:
    """Return a sentence in a language; as it is where its words are missing."""
    return sentences_in(language).find(text) or text


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
