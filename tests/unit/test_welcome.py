"""`GET /`: what a client writes into the page."""

from __future__ import annotations

import pytest

from ashore.data.http.routes import HOST


@pytest.mark.parametrize(
    ("host", "is_shown"),
    [
        ("ashore.corp:8000", True),
        ("[fd00::1]:8000", True),
        ("x$(id)", False),
        ("x; rm -rf ~ #", False),
        ('x"><script>', False),
        ("x\n", False),
        ("", False),
    ],
)
def test_a_host_that_a_shell_would_read_is_not_shown_in_a_command(host: str, is_shown: bool) -> None:
    assert (HOST.fullmatch(host) is not None) == is_shown
