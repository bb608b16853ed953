"""Fixtures of the tests that drive a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from console_people import make_office
from real_browser import RealBrowser, real_browser
from served import Served


@pytest.fixture(scope="module")
def browser() -> Iterator[RealBrowser]:
    """Chromium, once for a file."""
    with real_browser() as started:
        yield started


@pytest.fixture(scope="module")
def office(server: Served, browser: RealBrowser) -> dict[str, str]:
    """The three administrators of the file's `server`, as `make_office` makes them."""
    return make_office(browser, server)
