"""What two questions still differ in that do not agree word by word: the counts that the judge weighs.

Some differences are never weighed: facts, language, negation, opposites, words of a contrast (`only`, `next`,
`monday`), a direction, two things that change places. `differ` answers None to those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ashore.cache.semantic.agree import (
    KINDS_ALIKE,
    MEASURES,
    OF_ANY_STANCE,
    Pair,
    aligned,
    asked_apart,
    asks_for,
    grade,
    opened,
    singles,
    stances_differ,
)
from ashore.cache.semantic.leftover import count_left_over, paired_off
from ashore.cache.semantic.model import Reading, Word
from ashore.cache.semantic.places import compare_order, compare_roles

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
_OPEN_KINDS = frozenset({"", "what", "how", "what-to-do", "yes-no"})
"""What keywords alone may ask for."""


def differ(mine: Reading, theirs: Reading) -> tuple[float, ...] | None:
    """Return the counts of `FEATURES`, or None where the two can never share an answer. Symmetric."""
    if mine.unfit or theirs.unfit or mine.facts != theirs.facts:
        return None
    if mine.language != theirs.language or mine.language == "other":
        return None
    if not mine.words or not theirs.words or asked_apart(mine, theirs):
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
    left, right = paired_off(*named, count)
    if count["part of a word"] and len(left) + len(right) > 1:
        return None
    if not count_left_over(left, right, mine, theirs, count):
        return None
    if not (
        _frame(mine, theirs, count)
        and compare_roles(pairs, count, asks_who="who" in (mine.kind, theirs.kind))
        and compare_order(pairs, mine, theirs, count)
    ):
        return None
    if count["direction left out"] and (
        left or right or count["moved block"] or count["moved around"] or count["moved otherwise"]
    ):
        return None
    count["words"] = min(len(pairs), 8) / 8
    count["matched share"] = 2 * len(pairs) / (2 * len(pairs) + len(left) + len(right))
    count["bare"] = float(mine.keywords != theirs.keywords)
    count["both bare"] = float(mine.keywords and theirs.keywords)
    count["chinese"] = float(mine.language == "zh")
    count["synonyms"] = float(sum(grade(a, b) == 2 for _, _, a, b in pairs))
    return tuple(count.values())


def _best_alignment(mine: Reading, theirs: Reading) -> tuple[list[Pair], list[Word], list[Word]]:
    """Pair the words, with phrases whole or taken apart: whichever leaves less over."""
    whole = aligned(*opened(mine.words, theirs.words))
    if not whole[1] and not whole[2]:
        return whole
    apart = aligned(singles(mine.words), singles(theirs.words))
    return apart if _size(apart[1:]) < _size(whole[1:]) else whole


def _size(rests: Iterable[Sequence[Word]]) -> int:
    return sum(len(rest) for rest in rests)


def _kind(
    mine: Reading, theirs: Reading, left: list[Word], right: list[Word], count: dict[str, float]
) -> tuple[list[Word], list[Word]] | None:
    """Compare what is asked for; None where it differs. A left-over noun may name it: `location` stands for `where`."""
    if mine.kind == theirs.kind:
        return left, right
    kinds = frozenset((mine.kind, theirs.kind))
    mine_is_vaguer = not mine.kind or (bool(theirs.kind) and mine.kind == "what")
    vague, asked = (mine, theirs) if mine_is_vaguer else (theirs, mine)
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
    elif vague.kind == "" and not rest and asked.kind in MEASURES and vague.keywords:
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
        if "future" in (mine.tense, theirs.tense) or not (mine.keywords or theirs.keywords or mine.kind in _DOING):
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
    if mine.keywords or theirs.keywords or {mine.kind, theirs.kind} & OF_ANY_STANCE:
        return False
    return mine.language == "zh" or mine.kind in ("yes-no", "who", "what", "when", "")
