"""Where a visit of the console comes from, behind an edge and without."""

from __future__ import annotations

import pytest
from direct import Direct

from ashore.control.faces.visiting import visit_of
from ashore.data.http.exchange import Exchange
from ashore.kit.processes.ports import is_own_address


def exchange(peer: str = "", **headers: str) -> Exchange:
    scope = {
        "type": "http", "method": "GET", "path": "/console", "client": (peer, 1) if peer else None,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "ashore.direct": Direct(),
    }  # fmt: skip
    return Exchange(scope, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "behind_tls", "base"),
    [
        ("ai.corp.example", True, "https://ai.corp.example"),
        ("127.0.0.1:8080", False, "http://127.0.0.1:8080"),
        ("[::1]:8080", False, "http://[::1]:8080"),
        ('x"><script>', False, "http://127.0.0.1"),
        ("a b", True, "https://127.0.0.1"),
    ],
)
def test_the_base_is_what_the_browser_used(host: str, behind_tls: bool, base: str) -> None:
    assert visit_of(exchange(host=host), "10.0.0.9", behind_tls=behind_tls).base == base


def test_a_browser_on_this_machine_is_one_behind_an_edge_too() -> None:
    """Envoy says an address of its own of a client on loopback."""
    assert is_own_address("127.0.0.1") and not is_own_address("203.0.113.7") and not is_own_address("no address")
    assert visit_of(exchange(host="h"), "127.0.0.9", behind_tls=True).origin == "127.0.0.1"
    assert visit_of(exchange(host="h"), "127.0.0.9", behind_tls=False).origin == "127.0.0.1"
    assert visit_of(exchange("127.0.0.9", host="h"), "127.0.0.9", behind_tls=False).origin == "127.0.0.9"
    assert visit_of(exchange(host="h"), "203.0.113.7", behind_tls=True).origin == "203.0.113.7"


@pytest.mark.parametrize("said", ["//evil", "/a//b", "https://evil", "/a b", "/" + "x/" * 20, "javascript:x"])
def test_a_prefix_that_could_lead_away_is_none(said: str) -> None:
    assert visit_of(exchange(host="h", x_forwarded_prefix=said), "", behind_tls=False).prefix == ""
    assert visit_of(exchange(host="h", x_forwarded_prefix="/ai/house/"), "", behind_tls=False).prefix == "/ai/house"


def test_what_a_proxy_passed_on_comes_from_nowhere_near() -> None:
    told = {"host": "h", "x_forwarded_for": "10.0.0.9"}
    assert visit_of(exchange("127.0.0.1", **told), "127.0.0.1", behind_tls=False).passed_on
    assert not visit_of(exchange("127.0.0.1", host="h"), "127.0.0.1", behind_tls=False).passed_on
    assert not visit_of(exchange(**told), "10.0.0.9", behind_tls=False).passed_on, "the edge, by its socket"
    for more in ({"x_forwarded_for": "203.0.113.7, 127.0.0.1"}, {"via": "1.1 proxy"}, {"x_real_ip": "203.0.113.7"}):
        behind = visit_of(exchange(**(told | more)), "127.0.0.1", behind_tls=True)
        assert behind.origin == "127.0.0.1" and behind.passed_on, "a proxy of this machine, in front of the edge"
