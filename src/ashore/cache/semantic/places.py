"""Where the words of two questions stand: directions left out, and what moved without changing what is asked."""

from __future__ import annotations

from ashore.cache.semantic.agree import NOUNS_RATHER, SOFT_ROLES, VOICED, Pair, timely
from ashore.cache.semantic.facts import UNITS
from ashore.cache.semantic.leftover import is_fact
from ashore.cache.semantic.lexicon import english_words, light_words
from ashore.cache.semantic.model import Reading, Word

_SAME_ROLE = {"over": "above", "under": "below", "toward": "to", "towards": "to", "onto": "to", "into": "to",
              "through": "via", "like": "as"}  # fmt: skip
_STRICT_ROLES = frozenset({"from", "to", "by", "than", "before", "after", "without", "with", "above", "below",
                           "against", "inside", "outside", "except", "dative", "since", "until",
                           "between"})  # fmt: skip
_TOWARDS = frozenset({"to", "by", "dative"})
_PLACES = frozenset({"in", "on", "at", "of", "via", "during"})
_MAY_BE_LEFT_OUT = SOFT_ROLES | {"by", "dative"}
_SAID_OF = frozenset({"who", "what", "which", "whom", "yes-no", ""})
"""Kinds in which a word that changes sides with the verb turns from what does it into what it is done to."""
_TURNS_FREELY = frozenset({"how", "what-to-do", "where", ""})


def _turns_round(order: list[int], pairs: list[Pair], mine: Reading, theirs: Reading) -> bool:
    """Tell whether two words changed sides that nothing but their place tells apart: `which team does X support`."""
    if mine.keywords or theirs.keywords or mine.passive != theirs.passive or not {mine.kind, theirs.kind} <= _SAID_OF:
        return False
    for first in range(len(order)):
        for second in range(first + 1, len(order)):
            a, b = pairs[first], pairs[second]
            if order[first] < order[second] or any(timely(w) or is_fact(w) for w in (a[2], b[2])):
                continue
            if not (a[2].role and a[3].role) and not (b[2].role and b[3].role):
                return True
    return False


def compare_roles(pairs: list[Pair], count: dict[str, float], *, asks_who: bool) -> bool:
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


def compare_order(pairs: list[Pair], mine: Reading, theirs: Reading, count: dict[str, float]) -> bool:
    """Count what moved. A block that moves as a whole is a rewording; two things that change places are not."""
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
        if (mine.language == "zh" and not {mine.kind, theirs.kind} <= _TURNS_FREELY) or any(
            a.verb and b.verb and a.text not in NOUNS_RATHER for _, _, a, b in middle
        ):
            return False
        count["moved around"] = 1
    elif mine.language == "zh" and not {mine.kind, theirs.kind} <= _TURNS_FREELY:
        return False
    else:
        count["moved otherwise"] = min(3.0, len(blocks) / 2)
    return True


def _turns_behind_first(order: list[int], pairs: list[Pair], mine: Reading, theirs: Reading) -> bool:
    """Tell whether a verb and a noun changed sides behind a noun that stays first: `甲乙能换` is not `甲能换乙`."""
    if not {mine.kind, theirs.kind} <= _SAID_OF or mine.keywords or theirs.keywords or order[0] != 0:
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
    """Tell whether two things changed places around what stayed, or two facts or names changed their order."""
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
