"""Many trials of mixtures on one text, and a floor that still holds.

Pure: what a choice loses is asked of a function. As served, the loss strays by some tenths of a per cent from one
rounding to the next, so a choice that is too dear says little about the next larger one: the search passes over
layers that break the floor and goes on. Of many choices that are looked at, some seem to hold by chance, so each must
hold with as many standard errors more as the number of looks, and how much they differ, ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ashore.engines import Layer
from ashore.optimize.increase import Increase, errors_for_looks
from ashore.optimize.layersearch import Choice, choice_of

_ALONG: Final = 5
"""Trials that look for how far to go along the order, that of eight bits everywhere among them."""
_PARTS: Final = 4
"""Layers are added by this part of those that hold, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A choice and what was measured of it."""

    small: Choice
    saved_bytes: int
    increase: Increase


class Trials:
    """What was tried so far, and what of it holds."""

    def __init__(self, ranked: Sequence[Layer], judge: Callable[[Choice], Increase], *, floor: float) -> None:
        self._ranked, self._judge, self._floor = ranked, judge, floor
        self._tried: dict[Choice, Tried] = {}
        self.num_errors = 1.0
        """Standard errors that are added to a mean before it is held against the floor."""

    def __len__(self) -> int:
        return len(self._tried)

    def look(self, small: Choice) -> Increase:
        """Return what a choice loses; one that was judged before is not judged again."""
        if small not in self._tried:
            saved = sum(layer.saved_bytes for layer in self._ranked if layer.name in small)
            self._tried[small] = Tried(small=small, saved_bytes=saved, increase=self._judge(small))
            self.num_errors = errors_for_looks([each.increase for each in self._tried.values()])
        return self._tried[small].increase

    def holds(self, small: Choice) -> bool:
        """Tell whether a choice is within the floor, all looks so far considered."""
        return self.look(small).reaches(self.num_errors) <= self._floor

    def best(self) -> Tried | None:
        """Return the choice that saves most of those that hold; None where none does."""
        held = [each for each in self._tried.values() if self.holds(each.small)]
        return max(held, key=lambda each: each.saved_bytes, default=None)


def search_choices(
    ranked: Sequence[Layer], judge: Callable[[Choice], Increase], *, floor: float, first: int, most: int
) -> Trials:
    """Try choices of layers, and return what was seen.

    First eight bits everywhere, which end it where they lose too much in the mean; then the first layers in the order,
    as many as a cheaper measure says; their number is read off a straight line through what was seen, and halfway
    between one that holds and one that does not. From the largest choice that holds, the next layers are added, some at
    a time: where they break the floor half as many are, and a single one that breaks it is passed over.

    Args:
        ranked: From `rank_layers`.
        judge: Gives the loss of a choice.
        floor: Most loss that is allowed, standard errors included.
        first: Guess of a cheaper measure.
        most: Choices to judge, at most; 2 or more.
    """
    trials = Trials(ranked, judge, floor=floor)
    eight = trials.look(frozenset())
    if eight.mean > floor:
        return trials
    held, too_many, count = 0, len(ranked) + 1, max(1, min(first, len(ranked)))
    while len(trials) < min(_ALONG, most) and too_many - held > 1:
        loss = trials.look(choice_of(ranked, count))
        if trials.holds(choice_of(ranked, count)):
            held = count
        else:
            too_many = count
        room, grown = floor - eight.reaches(trials.num_errors), loss.mean - eight.mean
        scaled = int(count * room / grown) if grown > 0 else len(ranked)
        between = held > 0 and too_many <= len(ranked)
        count = (held + too_many) // 2 if between else min(max(scaled, held + 1), too_many - 1)
    found = trials.best()
    small = found.small if found else frozenset()
    most_at_once = at_once = max(1, len(small) // _PARTS)
    passed = 0
    while len(trials) < most:
        left = [layer.name for layer in ranked if layer.name not in small]
        more = frozenset(left[passed : passed + at_once])
        if not more:
            break
        if trials.holds(small | more):
            small |= more
            at_once = min(2 * at_once, most_at_once)
        elif at_once > 1:
            at_once //= 2
        else:
            passed += 1
    return trials
