"""What is no URL has no parts, and raises nothing."""

from __future__ import annotations

import pytest

from ashore.core.addresses import split_url


@pytest.mark.parametrize(
    "text", ["https://[half", "https://id.corp.ex[mple/jwks", "http://host:port", "http://h:99999"]
)
def test_what_is_no_url_has_no_parts(text: str) -> None:
    assert split_url(text) == ("", "", "", "", "")


def test_a_url_has_its_parts() -> None:
    parts = split_url("https://user@host:8443/a?b=c")
    assert (parts.scheme, parts.hostname, parts.port, parts.path, parts.query) == ("https", "host", 8443, "/a", "b=c")
