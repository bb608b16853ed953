"""Many trials of mixtures on one text, and a floor that still holds.

Pure: what a choice loses is asked of a function. As served, the loss strays by some tenths of a per cent from one
rounding to the next, so a choice that is too dear says little about the next larger one: the search passes over
layers that break the floor and goes on. Of many choices that are looked at, some seem to hold by chance, so each must
hold with as many standard errors more as the number of looks, and how much they differ, ask for.

What becomes of the inputs is chosen first, by what eight bits everywhere lose with inputs rounded and with none that
can be left: of what the floor allows, the rounding of activations can take the most. Bytes come first. Then speed is
given back: of equal bytes the fastest way that holds is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ashore.engines import Layer
from ashore.optimize.increase import Increase, errors_for_looks
from ashore.optimize.inputs import ROUND_ALL, Way
from ashore.optimize.layersearch import Choice, choice_of

Judged = Callable[[Choice, Way], Increase]
"""Gives the loss of a choice of layers and a way of its inputs."""

_ALONG: Final = 4
"""Trials that look for how far to go along the order."""
_PARTS: Final = 4
"""Layers are added by this part of those that hold, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A choice and what was measured of it."""

    small: Choice
    way: Way
    saved_bytes: int
    increase: Increase


class Trials:
    """What was tried so far, and what of it holds."""

    def __init__(self, ranked: Sequence[Layer], judge: Judged, *, floor: float, ways: Sequence[Way]) -> None:
        """Make the object; `ways` are those that are asked for, the fastest first."""
        self._ranked, self._judge, self._floor, self._ways = ranked, judge, floor, tuple(ways)
        self._tried: dict[tuple[Choice, Way], Tried] = {}
        self.num_errors = 1.0
        """Standard errors that are added to a mean before it is held against the floor."""

    def __len__(self) -> int:
        return len(self._tried)

    def look(self, small: Choice, way: Way) -> Increase:
        """Return what a choice loses; one that was judged before is not judged again."""
        if (small, way) not in self._tried:
            saved = sum(layer.saved_bytes for layer in self._ranked if layer.name in small)
            increase = self._judge(small, way)
            self._tried[small, way] = Tried(small=small, way=way, saved_bytes=saved, increase=increase)
            self.num_errors = errors_for_looks([each.increase for each in self._tried.values()])
        return self._tried[small, way].increase

    def holds(self, small: Choice, way: Way) -> bool:
        """Tell whether a choice is within the floor, all looks so far considered."""
        return self.look(small, way).reaches(self.num_errors) <= self._floor

    def best(self, way: Way | None = None) -> Tried | None:
        """Return the choice that saves most of those that hold, in one way or in any; None where none does. Of several
        that save as much it is the one in the fastest way."""
        held = [
            each
            for each in self._tried.values()
            if (way is None or each.way == way) and self.holds(each.small, each.way)
        ]
        return max(held, key=lambda each: (each.saved_bytes, -self._ways.index(each.way)), default=None)


def search_choices(
    ranked: Sequence[Layer],
    judge: Judged,
    *,
    floor: float,
    first: int,
    most: int,
    ways: Sequence[Way] = (ROUND_ALL,),
) -> Trials:
    """Try choices of layers, and return what was seen.

    First eight bits everywhere, in the fastest way and in the slowest; all else is tried in the one that loses less so,
    and nothing else where even that loses too much in the mean. Then the first layers in the order, as many as a
    cheaper measure says; their number is read off a straight line through what was seen, and halfway between one that
    holds and one that does not. From the largest choice that holds, the next layers are added, some at a time: where
    they break the floor half as many are, and a single one that breaks it is passed over. Last, what was found is tried
    in the faster ways.

    Args:
        ranked: From `rank_layers`.
        judge: Gives the loss of a choice.
        floor: Most loss that is allowed, standard errors included.
        first: Guess of a cheaper measure.
        most: Choices to judge, at most; 2 or more, and 2 more than there are ways.
        ways: Of the inputs, the fastest first.
    """
    trials = Trials(ranked, judge, floor=floor, ways=ways)
    way = min((ways[0], ways[-1]), key=lambda each: trials.look(frozenset(), each).mean)
    if trials.look(frozenset(), way).mean > floor:
        return trials
    faster = ways[: ways.index(way)]
    _search_in(trials, ranked, way, floor=floor, first=first, most=most - len(faster))
    _give_speed_back(trials, way, faster, floor=floor)
    return trials


def _search_in(trials: Trials, ranked: Sequence[Layer], way: Way, *, floor: float, first: int, most: int) -> None:
    """Try choices in one way, until `most` were tried in all."""
    eight = trials.look(frozenset(), way)
    along = min(len(trials) + _ALONG, most)
    held, too_many, count = 0, len(ranked) + 1, max(1, min(first, len(ranked)))
    while len(trials) < along and too_many - held > 1:
        loss = trials.look(choice_of(ranked, count), way)
        if trials.holds(choice_of(ranked, count), way):
            held = count
        else:
            too_many = count
        room, grown = floor - eight.reaches(trials.num_errors), loss.mean - eight.mean
        scaled = int(count * room / grown) if grown > 0 else len(ranked)
        between = held > 0 and too_many <= len(ranked)
        count = (held + too_many) // 2 if between else min(max(scaled, held + 1), too_many - 1)
    found = trials.best(way)
    small = found.small if found else frozenset()
    most_at_once = at_once = max(1, len(small) // _PARTS)
    passed = 0
    while len(trials) < most:
        left = [layer.name for layer in ranked if layer.name not in small]
        more = frozenset(left[passed : passed + at_once])
        if not more:
            break
        if trials.holds(small | more, way):
            small |= more
            at_once = min(2 * at_once, most_at_once)
        elif at_once > 1:
            at_once //= 2
        else:
            passed += 1


def _give_speed_back(trials: Trials, way: Way, faster: Sequence[Way], *, floor: float) -> None:
    """Try what was found in one way in the faster ones, but not in the fastest where eight bits everywhere lost so
    much more there that it cannot hold."""
    found = trials.best(way)
    if found is None or not faster:
        return
    more = trials.look(frozenset(), faster[0]).mean - trials.look(frozenset(), way).mean
    for each in faster if found.increase.reaches(trials.num_errors) + more <= floor else faster[1:]:
        if trials.holds(found.small, each):
            return
