"""What is left over when the words of two questions are paired: other forms of one word, and words that say little."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from ashore.cache.semantic.lexicon import english_words, light_words, loose_synonyms, never_synonyms
from ashore.cache.semantic.model import Reading, Word
from ashore.cache.semantic.wordset import words_of

_DOING = frozenset({"how", "what-to-do"})


def paired_off(left: list[Word], right: list[Word], count: dict[str, float]) -> tuple[list[Word], list[Word]]:
    """Pair what is left over by its stem, by its characters, as one word or two, or as a slip of the hand."""
    left, right = _joined(left, right), _joined(right, left)
    rest = list(right)
    for word in list(left):
        for other in rest:
            if any(is_fact(w) or w.negated or w.text in light_words().contrast for w in (word, other)):
                continue
            if opposed(word.text, other.text):
                continue
            if loose_synonyms().get(word.text, _NO_LINES) & loose_synonyms().get(other.text, _NO_LINES):
                count["loose synonym"] += 1
            elif _akin(word.text, other.text):
                count["derived"] += 1
            elif _is_part(word.text, other.text):
                count["part of a word"] += 1
            elif _is_slip(word.text, other.text):
                count["slip"] += 1
            else:
                continue
            left.remove(word)
            rest.remove(other)
            break
    return left, rest


_NO_LINES: frozenset[int] = frozenset()


def _joined(words: list[Word], others: list[Word]) -> list[Word]:
    """Join neighbours that make one word: what a list knows together, or the other side writes as one."""
    known = light_words()
    wholes = {other.text.replace(" ", "") for other in others}
    out: list[Word] = []
    for word in words:
        text = word.text.replace(" ", "")
        if text != word.text and text in wholes:
            word = replace(word, text=text)
        if out and not (word.negated or out[-1].negated or is_fact(word) or is_fact(out[-1])):
            both = out[-1].text + word.text
            listed = both in known.kinds or both in known.contrast or both in loose_synonyms()
            together = listed and not both.isascii()
            if together or both in wholes:
                out[-1] = replace(out[-1], text=both)
                continue
        out.append(word)
    return out


def count_left_over(
    left: list[Word], right: list[Word], mine: Reading, theirs: Reading, count: dict[str, float]
) -> bool:
    """Count the words without a counterpart; False where one of them may never be missing."""
    light = light_words()
    sides: list[list[str]] = []
    for words, full, other in ((left, mine, theirs), (right, theirs, mine)):
        kinds = []
        for word in words:
            if word.negated or is_fact(word) or word.text in light.contrast or _is_inside(word, full):
                return False
            kind = light.kind_of(word.text)
            if kind == "content":
                if not (word.verb and other.keywords and not full.keywords and full.kind in _DOING):
                    return False
                kind = "verb left out of keywords"
            kinds.append(kind)
        sides.append(kinds)
    exchanged = [{a, b} for a in sides[0] for b in sides[1]]
    if any(pair <= {"carrier", "suffix"} or (pair & _VERBS and not pair & _HEDGES) for pair in exchanged):
        return False
    count["light exchanged"] = float(bool(exchanged))
    for kind in (*sides[0], *sides[1]):
        count[kind if kind in count else f"{kind} extra"] += 1
    return True


def _is_inside(word: Word, full: Reading) -> bool:
    """Tell whether unknown characters stand on both sides, so that this one is likely part of their word."""
    if full.language != "zh":
        return False
    text = "".join(f" {w.text} " if w.meanings or len(w.text) > 1 else w.text for w in full.words)
    place = text.find(word.text)
    return (
        place > 0 and place + len(word.text) < len(text) and " " not in (text[place - 1], text[place + len(word.text)])
    )


_VERBS = frozenset({"light verb", "verb left out of keywords"})
_HEDGES = frozenset({"hedge"})


def is_fact(word: Word) -> bool:
    return word.text.startswith("#")


def opposed(one: str, other: str) -> bool:
    """Tell whether two words are known to stand for different things."""
    if frozenset((one, other)) in never_synonyms():
        return True
    known = english_words().get(one)
    return known is not None and other in known.antonyms


_ENDINGS = tuple(
    sorted(
        words_of(
            "ations ition ation itions ments ment ances ance ences ence ities ity ions ion ings ing ical able ible "
            "ness ive age ure als ic al ly ed e"
        ),
        key=lambda ending: (-len(ending), ending),
    )
)
_SHORTEST_STEM = 4


@cache
def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word[: -len(ending)]
    return word


def _akin(one: str, other: str) -> bool:
    """Tell whether two English words come of one stem; of people (`employer`, `employee`) none do."""
    if not (one.isascii() and other.isascii() and one.isalpha() and other.isalpha()):
        return False
    if min(len(one), len(other)) < _SHORTEST_STEM or one.endswith(("ee", "ist")) or other.endswith(("ee", "ist")):
        return False
    if one.endswith(("er", "or")) and other.endswith(("er", "or")):
        return False
    return _stem(one) == _stem(other) or one == _stem(other) or other == _stem(one)


_SHORTEST_SLIP = 6


def _is_slip(one: str, other: str) -> bool:
    """Tell whether an unknown word is a known one with one letter too many, too few, wrong or in the wrong place.

    The first letter and the last two must be right: `Parker` is not `Park`.
    """
    if not (one.isascii() and other.isascii() and one.isalpha() and other.isalpha()):
        return False
    known = english_words()
    if (one in known) == (other in known) or min(len(one), len(other)) < _SHORTEST_SLIP:
        return False
    if one[0] != other[0] or one[-2:] != other[-2:] or abs(len(one) - len(other)) > 1:
        return False
    start = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    a, b = one[start:], other[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def _is_part(one: str, other: str) -> bool:
    """Tell whether one Chinese word is part of the other or has the same characters, without a contrast."""
    if one.isascii() or other.isascii() or (set(one) ^ set(other)) & light_words().contrast:
        return False
    short, long = sorted((one, other), key=len)
    return short != long and (short in long or set(short) == set(long))
