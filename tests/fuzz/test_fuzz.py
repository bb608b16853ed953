"""Readers of what others made hold their promises: on what once broke one, and on some hundred inputs by chance each.

`make fuzz` searches for more, guided by the branches that an input reaches; what it finds lies in `crashes/` and is run
here from then on.
"""

from __future__ import annotations

import random
import re
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.fuzz.patterns import AROUND, PIECES, expressions, slowest
from tests.fuzz.target import CRASHES, changed, checked
from tests.fuzz.targets import TARGETS


def test_every_expression_takes_time_in_proportion() -> None:
    """A sample of what `make fuzz ARGS=patterns` tries: an unfinished class of a pattern once ended a worker."""
    patterns = expressions()
    assert len(patterns) > 150
    bad = [str(one) for one in slowest(patterns, PIECES[::7], AROUND[:2]) if one.is_bad]
    assert bad == []


def test_an_expression_that_takes_the_square_is_found() -> None:
    (worst,) = slowest({"here": re.compile("|".join(rf"\[[^\]]+\]{n}" for n in range(4)))}, ("[",), (("", ""),))
    assert worst.is_bad and worst.piece == ("", "[", "")


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_holds_its_promises(name: str, tmp_path: Path) -> None:
    target, rng = TARGETS[name], random.Random(name)
    seeds = target.seeds()
    kept = [path.read_bytes() for path in sorted((CRASHES / name).glob("*"))]
    odd = [changed(seeds[number % len(seeds)], target.words, rng) for number in range(target.num_cases)]
    with ExitStack() as at_end:
        check = target.open(tmp_path, at_end)
        for data in (*seeds, *kept, *odd):
            try:
                checked(check, data)
            except Exception as fault:
                fault.add_note(f"the target {name} read {data[:2000]!r}")
                raise
