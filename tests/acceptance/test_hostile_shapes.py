"""One tenant sends the worst grammars of `tests/fuzz/hostile.py`: nothing ends, and another tenant is answered.

How quickly is measured by `make fuzz ARGS=hostile`, which sends all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from served import Served
from tests.fuzz.hostile import SHAPES, attack

WORST = (
    "references in a chain, 4000, in a stored response",
    "references that double, allOf, 60, in a tool",
    "choices that multiply, 200, in response_format",
    "a long text, 1000000000, in response_format",
    "rules in a chain, 8000, in guided_grammar",
    "ambiguous rules, 200, in guided_grammar",
    "new lines, 250000, in guided_grammar",
    "repeated counts, 1000, in regex",
)


@pytest.mark.timeout(120)
def test_no_grammar_of_one_tenant_ends_anything(served: Callable[..., Served]) -> None:
    shapes = [shape for shape in SHAPES if shape.name in WORST]
    assert len(shapes) == len(WORST) and len(SHAPES) >= 200
    seen = attack(served("fake:agent"), "fake:agent", shapes, quiet=3)
    assert not seen.deaths and not seen.failed and not seen.broken, seen
    assert seen.beside_s and set(seen.codes) <= {200, 400}
