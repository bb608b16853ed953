"""Readers of what others made hold their promises: on what once broke one, and on some hundred inputs by chance each.

`make fuzz` searches for more, guided by the branches that an input reaches; what it finds lies in `crashes/` and is run
here from then on.
"""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.fuzz.target import CRASHES, changed, checked
from tests.fuzz.targets import TARGETS


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
