"""What `[mcp]` of ashore.toml may say, and what is said of it where it may not."""

from __future__ import annotations

from typing import Any

import pytest

from ashore.control.faces.owntools import check_own_calls
from ashore.core.errors import InvalidSpec
from ashore.data.mcp import McpSection
from ashore.kit.section import read_section


@pytest.mark.parametrize(
    ("server", "message", "hint"),
    [
        ({"name": "Bank"}, "expected 1 to 24 small letters, digits and hyphens", ""),
        ({"url": None}, "has no url", 'write url = "https://'),
        ({"url": "tools.corp/mcp"}, "expected https://HOST/PATH", "begin it with https://"),
        ({"url": "https://me:secret@tools.corp/mcp"}, "expected https://HOST/PATH", "write a token as token"),
        ({"command": "npx", "args": ["a"]}, "unknown key 'command'", "starts no programs"),
        ({"headers": {"Authorization": "Bearer a"}}, "unknown key 'headers'", "as token"),
        ({"tokn": "a"}, "unknown key 'tokn'", "did you mean 'token'?"),
    ],
)
def test_a_server_that_cannot_be_meant_so_is_refused_with_what_to_write(
    server: dict[str, Any], message: str, hint: str
) -> None:
    whole = {"name": "bank", "url": "https://tools.corp/mcp", **server}
    table = {"server": [{key: value for key, value in whole.items() if value is not None}]}
    with pytest.raises(InvalidSpec) as refused:
        read_section(McpSection, table, "ashore.toml [mcp]")
    assert message in refused.value.message and hint in refused.value.hint


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("acess key *", "did you mean 'access"),
        ("job cancle", "did you mean 'job cancel'"),
        ("job canc*", "name what changes something in full: job cancel"),
        ("audit export", "known"),
        ("", ""),
    ],
)
def test_a_pattern_that_offers_no_call_is_refused_with_the_nearest_name(pattern: str, hint: str) -> None:
    check_own_calls(["mcp *", "*", "job cancel"], "here")
    with pytest.raises(InvalidSpec) as refused:
        check_own_calls(["mcp *", pattern], "here")
    assert repr(pattern) in refused.value.message and hint.partition("known")[0] in refused.value.hint
