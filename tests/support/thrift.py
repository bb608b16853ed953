"""How much of a long search `make test` does; the whole of it carries the marker `full`."""

from __future__ import annotations

import pytest


def some_or_all(name: str, some: int, every: int) -> pytest.MarkDecorator:
    """Return a parameter of a test that is `some` in `make test`, and `every` in `make test-full` besides."""
    return pytest.mark.parametrize(name, [some, pytest.param(every, marks=pytest.mark.full)])
