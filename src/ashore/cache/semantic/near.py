"""What two questions still differ in that do not agree word by word: the counts that the judge weighs.

Some differences are never weighed: facts, language, negation, opposites, words of a contrast (`only`, `next`, `monday`),
a direction, two things that change places. `differ` answers None to those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

from ashore.cache.semantic.agree import (
    KINDS_ALIKE,
    MEASURES,
    NOUNS_RATHER,
    SOFT_ROLES,
    OF_ANY_STANCE,
    VOICED,
    Pair,
    aligned,
    asks_for,
    grade,
    opened,
    singles,
    stances_differ,
    timely,
)
from ashore.cache.semantic.facts import UNITS
from ashore.cache.semantic.lexicon import english_words, light_words, loose_synonyms, never_synonyms
from ashore.cache.semantic.model import Reading, Word
from ashore.cache.semantic.wordset import words_of

FEATURES = (
    "words",
    "matched share",
    "bare",
    "both bare",
    "chinese",
    "synonyms",
    "derived",
    "part of a word",
    "slip",
    "loose synonym",
    "light verb extra",
    "carrier extra",
    "hedge extra",
    "suffix extra",
    "verb left out of keywords",
    "light exchanged",
    "kind open",
    "kind named",
    "kind unnamed",
    "kind alike",
    "kind far",
    "modal",
    "tense",
    "person",
    "voice",
    "direction left out",
    "role one open",
    "role other",
    "moved block",
    "moved around",
    "moved otherwise",
)
"""What is counted, in the order of the weights. The similarity of the sentences comes last and is not known here."""

_MOST_LEFT_OVER = 4
_SAME_ROLE = {"over": "above", "under": "below", "toward": "to", "towards": "to", "onto": "to", "into": "to",
              "through": "via", "like": "as"}  # fmt: skip
_STRICT_ROLES = frozenset({"from", "to", "by", "than", "before", "after", "without", "with", "above", "below", "against",
                           "inside", "outside", "except", "dative", "since", "until", "between"})  # fmt: skip
_TOWARDS = frozenset({"to", "by", "dative"})
_PLACES = frozenset({"in", "on", "at", "of", "via", "during"})
_MAY_BE_LEFT_OUT = SOFT_ROLES | {"by", "dative"}
_NEAR_KINDS = {
    frozenset(pair.split())
    for pair in [
        "what-to-do how",
        "who whom",
        "what-to-do consequence",
        "how-long how-many",
        "how-often how-many",
        "how-hot how-many",
        "what-date what-time",
        "what-year what-date",
        "how-far how-many",
        "how-high how-many",
        "how-deep how-many",
    ]
}
_DOING = frozenset({"how", "what-to-do"})
_SAID_OF = frozenset({"who", "what", "which", "whom", "yes-no", ""})
"""Kinds in which a word that changes sides with the verb turns from what does it into what it is done to."""
_OPEN_KINDS = frozenset({"", "what", "how", "what-to-do", "yes-no"})
"""What keywords alone may ask for."""


def differ(mine: Reading, theirs: Reading) -> tuple[float, ...] | None:
    """Return the counts of `FEATURES`, or None where the two can never share an answer. Symmetric."""
    if mine.unfit or theirs.unfit or mine.facts != theirs.facts:
        return None
    if mine.language != theirs.language or mine.language == "other":
        return None
    if not mine.words or not theirs.words:
        return None
    if sum(w.negated for w in mine.words) != sum(w.negated for w in theirs.words):
        return None
    pairs, left, right = _best_alignment(mine, theirs)
    if not pairs or len(left) + len(right) > _MOST_LEFT_OVER:
        return None
    if any(a.negated != b.negated for _, _, a, b in pairs):
        return None
    count = dict.fromkeys(FEATURES, 0.0)
    named = _kind(mine, theirs, left, right, count)
    if named is None:
        return None
    left, right = _derived(*named, count)
    if count["part of a word"] and len(left) + len(right) > 1:
        return None
    if not _left_over(left, right, mine, theirs, count):
        return None
    if not (_frame(mine, theirs, count) and _roles(pairs, count, asks_who="who" in (mine.kind, theirs.kind)) and _order(pairs, mine, theirs, count)):
        return None
    if count["direction left out"] and (left or right or count["moved block"] or count["moved around"] or count["moved otherwise"]):
        return None
    count["words"] = min(len(pairs), 8) / 8
    count["matched share"] = 2 * len(pairs) / (2 * len(pairs) + len(left) + len(right))
    count["bare"] = float(_keywords(mine) != _keywords(theirs))
    count["both bare"] = float(_keywords(mine) and _keywords(theirs))
    count["chinese"] = float(mine.language == "zh")
    count["synonyms"] = float(sum(grade(a, b) == 2 for _, _, a, b in pairs))
    return tuple(count.values())


def _keywords(reading: Reading) -> bool:
    """Tell whether a question is a row of keywords: nothing is asked, and no English function word stands in it."""
    return not reading.kind and (reading.bare or reading.language == "zh")


def _best_alignment(mine: Reading, theirs: Reading) -> tuple[list[Pair], list[Word], list[Word]]:
    """Pair the words, with phrases whole or taken apart: whichever leaves less over."""
    whole = aligned(*opened(mine.words, theirs.words))
    if not whole[1] and not whole[2]:
        return whole
    apart = aligned(singles(mine.words), singles(theirs.words))
    return apart if _size(apart[1:]) < _size(whole[1:]) else whole


def _size(rests: Iterable[Sequence[Word]]) -> int:
    return sum(len(rest) for rest in rests)


def _derived(left: list[Word], right: list[Word], count: dict[str, float]) -> tuple[list[Word], list[Word]]:
    """Pair what is left over by its stem, by its characters, as one word or two, or as a slip of the hand."""
    left, right = _joined(left, right), _joined(right, left)
    rest = list(right)
    for word in list(left):
        for other in rest:
            if any(_is_fact(w) or w.negated or w.text in light_words().contrast for w in (word, other)):
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
    """Join neighbours that make one word: characters that a list knows together, or what the other side writes as one."""
    known = light_words()
    wholes = {other.text.replace(" ", "") for other in others}
    out: list[Word] = []
    for word in words:
        text = word.text.replace(" ", "")
        if text != word.text and text in wholes:
            word = replace(word, text=text)
        if out and not (word.negated or out[-1].negated or _is_fact(word) or _is_fact(out[-1])):
            both = out[-1].text + word.text
            together = not both.isascii() and (both in known.kinds or both in known.contrast)
            if together or both in wholes:
                out[-1] = replace(out[-1], text=both)
                continue
        out.append(word)
    return out


def _left_over(
    left: list[Word], right: list[Word], mine: Reading, theirs: Reading, count: dict[str, float]
) -> bool:
    """Count the words without a counterpart; False where one of them may never be missing."""
    light = light_words()
    sides: list[list[str]] = []
    for words, full, other in ((left, mine, theirs), (right, theirs, mine)):
        kinds = []
        for word in words:
            if word.negated or _is_fact(word) or word.text in light.contrast or _is_inside(word, full):
                return False
            kind = light.kind_of(word.text)
            if kind == "content":
                if not (word.verb and _keywords(other) and not _keywords(full) and full.kind in _DOING):
                    return False
                kind = "verb left out of keywords"
            kinds.append(kind)
        sides.append(kinds)
    exchanged = [{a, b} for a in sides[0] for b in sides[1]]
    if any(pair <= {"carrier", "suffix"} or pair & _VERBS and not pair & _HEDGES for pair in exchanged):
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
    return place > 0 and place + len(word.text) < len(text) and " " not in (text[place - 1], text[place + len(word.text)])


_VERBS = {"light verb", "verb left out of keywords"}
_HEDGES = {"hedge"}


def _kind(
    mine: Reading, theirs: Reading, left: list[Word], right: list[Word], count: dict[str, float]
) -> tuple[list[Word], list[Word]] | None:
    """Compare what is asked for; None where it differs. A left-over noun may name it: `location` stands for `where`."""
    if mine.kind == theirs.kind:
        return left, right
    kinds = frozenset((mine.kind, theirs.kind))
    vague, asked = (mine, theirs) if mine.kind in ("", "what") else (theirs, mine)
    if vague.kind not in ("", "what"):
        if kinds not in KINDS_ALIKE and kinds not in _NEAR_KINDS:
            return None
        if "whom" in kinds and mine.language == "zh":
            return None
        count["kind alike" if kinds in KINDS_ALIKE else "kind far"] = 1
        return left, right
    rest = left if vague is mine else right
    named = [w for w in rest if asks_for(w.text) and not w.negated]
    if named and not any(asked.kind in asks_for(w.text) for w in named):
        return None
    if named:
        count["kind named"] = 1
        kept = [w for w in rest if w not in named]
        return (kept, right) if vague is mine else (left, kept)
    if vague.kind == "" and asked.kind in _OPEN_KINDS:
        count["kind open"] = 1
    elif kinds in KINDS_ALIKE and kinds != {"what", "how"} and not rest:
        count["kind alike"] = 1
    elif vague.kind == "" and not rest and asked.kind in MEASURES and _keywords(vague):
        count["kind unnamed"] = 1
    else:
        return None
    return left, right


def _frame(mine: Reading, theirs: Reading, count: dict[str, float]) -> bool:
    if mine.modals != theirs.modals:
        if mine.kind == theirs.kind == "yes-no":
            return False
        if {"can", "must"} <= mine.modals ^ theirs.modals or "who" in (mine.kind, theirs.kind):
            return False
        count["modal"] = 1
    if stances_differ(mine, theirs) or (_is_strict(mine, theirs) and (mine.stance ^ theirs.stance) & _STRICT_STANCES):
        return False
    if mine.tense != theirs.tense:
        if "future" in (mine.tense, theirs.tense) or not (_keywords(mine) or _keywords(theirs) or mine.kind in _DOING):
            return False
        count["tense"] = 1
    if mine.persons != theirs.persons:
        if mine.persons and theirs.persons:
            return False
        count["person"] = 1
    count["voice"] = float(mine.passive != theirs.passive)
    return True


_STRICT_STANCES = frozenset({"can", "should", "advise", "want"})


def _is_strict(mine: Reading, theirs: Reading) -> bool:
    """Tell whether `can` and `should` count: in full questions of what others may and should do."""
    if _keywords(mine) or _keywords(theirs) or {mine.kind, theirs.kind} & OF_ANY_STANCE:
        return False
    return mine.language == "zh" or mine.kind in ("yes-no", "who", "what", "when", "")


def _turns_round(order: list[int], pairs: list[Pair], mine: Reading, theirs: Reading) -> bool:
    """Tell whether two words changed sides that nothing but their place tells apart: `which team does X support`."""
    if _keywords(mine) or _keywords(theirs) or mine.passive != theirs.passive or not {mine.kind, theirs.kind} <= _SAID_OF:
        return False
    for first in range(len(order)):
        for second in range(first + 1, len(order)):
            a, b = pairs[first], pairs[second]
            if order[first] < order[second] or timely(a[2]) or timely(b[2]):
                continue
            if not (a[2].role and a[3].role) and not (b[2].role and b[3].role):
                return True
    return False


def _roles(pairs: list[Pair], count: dict[str, float], *, asks_who: bool) -> bool:
    """Count the directions that differ; False where one may not, or where two words exchanged theirs."""
    gained = {b.role for _, _, a, b in pairs if b.role and not a.role}
    lost = {a.role for _, _, a, b in pairs if a.role and not b.role}
    if gained & lost - _PLACES:
        return False
    for _, _, a, b in pairs:
        mine, theirs = (_SAME_ROLE.get(w.role, w.role) for w in (a, b))
        if mine == theirs:
            continue
        if mine in _STRICT_ROLES and theirs in _STRICT_ROLES:
            return False
        if not {mine, theirs} <= _MAY_BE_LEFT_OUT:
            return False
        if {mine, theirs} == {"", "with"} and asks_who:
            return False
        if not mine or not theirs:
            count["direction left out" if {mine, theirs} & _TOWARDS else "role one open"] += 1
        else:
            count["role other"] += 1
    return True


def _order(pairs: list[Pair], mine: Reading, theirs: Reading, count: dict[str, float]) -> bool:
    """Count what moved. A block that moves as a whole is a rewording; two things that change places are another question."""
    order = _ranks([j for _, j, _, _ in pairs])
    if order == sorted(order):
        return mine.passive == theirs.passive or mine.kind not in VOICED or len(pairs) == 1
    if mine.language == "en" and _turns_round(order, pairs, mine, theirs):
        return False
    if mine.language == "zh" and _turns_behind_first(order, pairs, mine, theirs):
        return False
    if any(_parts_from_its_noun(at, order) for at, pair in enumerate(pairs) if pair[2].text in light_words().contrast):
        return False
    if _exchanged(order, pairs):
        return mine.symmetric and theirs.symmetric
    blocks = _blocks(order)
    if len(blocks) == 2:
        count["moved block"] = 1
    elif len(blocks) == 3 and blocks == sorted(blocks, reverse=True):
        middle = [pairs[at] for at, rank in enumerate(order) if rank in range(*blocks[1])]
        if mine.language == "zh" or any(a.verb and b.verb and a.text not in NOUNS_RATHER for _, _, a, b in middle):
            return False
        count["moved around"] = 1
    elif mine.language == "zh" and not _keywords(mine) and not _keywords(theirs):
        return False
    else:
        count["moved otherwise"] = min(3.0, len(blocks) / 2)
    return True


def _turns_behind_first(order: list[int], pairs: list[Pair], mine: Reading, theirs: Reading) -> bool:
    """Tell whether a verb and a noun changed sides behind a noun that stays first: `甲 乙 可以换` is not `甲可以换 乙`."""
    if not {mine.kind, theirs.kind} <= _SAID_OF or _keywords(mine) or _keywords(theirs) or order[0] != 0:
        return False
    verbs = [a.verb and b.verb for _, _, a, b in pairs]
    if verbs[0] or pairs[0][2].role:
        return False
    return any(
        order[first] > order[second] and verbs[first] != verbs[second]
        for first in range(len(order))
        for second in range(first + 1, len(order))
    )


def _parts_from_its_noun(at: int, order: list[int]) -> bool:
    """Tell whether a word of contrast (`all`, `first`) lost both its neighbours."""
    before = at > 0 and order[at - 1] == order[at] - 1
    after = at + 1 < len(order) and order[at + 1] == order[at] + 1
    return not before and not after


def _ranks(places: list[int]) -> list[int]:
    rank = {place: at for at, place in enumerate(sorted(places))}
    return [rank[place] for place in places]


def _blocks(order: list[int]) -> list[tuple[int, int]]:
    """Return the runs that moved as they are, in their new order, without what stayed at either end."""
    runs: list[tuple[int, int]] = []
    for rank in order:
        if runs and runs[-1][1] == rank:
            runs[-1] = (runs[-1][0], rank + 1)
        else:
            runs.append((rank, rank + 1))
    if runs[0][0] == 0:
        del runs[0]
    if runs and runs[-1][1] == len(order):
        del runs[-1]
    return runs


def _exchanged(order: list[int], pairs: list[Pair]) -> bool:
    """Tell whether two things changed places around something that stayed, or two facts or names changed their order."""
    for first in range(len(order)):
        for second in range(first + 1, len(order)):
            if order[first] < order[second]:
                continue
            a, b = pairs[first], pairs[second]
            if timely(a[2]) or timely(b[2]):
                continue
            if _is_thing(a[2]) and _is_thing(b[2]):
                return True
            swapped = order[first] == second and order[second] == first
            if swapped and second - first > 1 and any(order[at] == at for at in range(first + 1, second)):
                return True
    return False


def _is_thing(word: Word) -> bool:
    """A number, a code, a unit, or a name that no list knows."""
    known = word.text in english_words() or word.meanings
    return word.text.startswith("#") or word.text in UNITS or (word.text.isascii() and not known)


def _is_fact(word: Word) -> bool:
    return word.text.startswith("#")


def opposed(one: str, other: str) -> bool:
    """Tell whether two words are known to stand for different things."""
    if frozenset((one, other)) in never_synonyms():
        return True
    known = english_words().get(one)
    return known is not None and other in known.antonyms


_ENDINGS = (
    "ations ition ation itions ments ment ances ance ences ence ities ity ions ion ings ing ical able ible ness "
    "ive age ure als ing ic al ly ed e"
).split()
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
    """Tell whether one Chinese word is part of the other, or has the same characters, and no contrast makes the rest."""
    if one.isascii() or other.isascii() or (set(one) ^ set(other)) & light_words().contrast:
        return False
    short, long = sorted((one, other), key=len)
    return short != long and (short in long or set(short) == set(long))
