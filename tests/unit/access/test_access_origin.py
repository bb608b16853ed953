"""Where a request comes from: only an edge is believed, and only what it says itself."""

from __future__ import annotations

import pytest

from ashore.core.errors import Overloaded, PermissionDenied, Unauthenticated
from ashore.core.ids import TenantId
from ashore.data.authority import Principal, denial_of
from ashore.data.origin import grpc_peer, origin_of


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted_proxies", "origin"),
    [
        ("10.0.0.7", "", 0, "10.0.0.7"),
        ("10.0.0.7", "1.2.3.4", 0, "10.0.0.7"),
        ("10.0.0.7", "1.2.3.4", 3, "10.0.0.7"),
        ("", "", 0, ""),
        ("/run/api.sock", "", 0, ""),
        ("/run/api.sock", "1.2.3.4", 0, "1.2.3.4"),
        ("", "6.6.6.6, 1.2.3.4", 0, "1.2.3.4"),
        ("", "6.6.6.6, 1.2.3.4, 10.0.0.1", 1, "1.2.3.4"),
        ("", "10.0.0.1", 5, "10.0.0.1"),
        ("", " , ", 0, ""),
        ("", "x" * 10_000, 0, "x" * 64),
    ],
)
def test_the_origin(peer: str, forwarded: str, trusted_proxies: int, origin: str) -> None:
    assert origin_of(peer, forwarded, trusted_proxies=trusted_proxies) == origin


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:1.2.3.4:50", "1.2.3.4"),
        ("ipv6:[::1]:50", "::1"),
        ("ipv6:%5B::1%5D:50", "::1"),
        ("unix:/run/x", ""),
        ("unix:", ""),
    ],
)
def test_the_peer_of_grpc(peer: str, address: str) -> None:
    assert grpc_peer(peer) == address


def test_who_is_turned_away_is_recorded_and_nothing_else_is() -> None:
    alice = Principal(id="alice", tenant=TenantId("t"), key_id="ash_00000000")
    denied = PermissionDenied("no", action="infer", resource="model/x", rule="deny infer on *")
    act = denial_of(denied, alice, origin="1.2.3.4", request_id="r")
    assert act is not None
    assert (act.action, act.actor, act.tenant, act.resource, act.outcome) == (
        "infer",
        "alice",
        "t",
        "model/x",
        "denied",
    )
    assert (act.origin, act.request_id, act.reason) == ("1.2.3.4", "r", "deny infer on *")
    failed = denial_of(Unauthenticated("who?"), None, origin="1.2.3.4")
    assert failed is not None and (failed.action, failed.actor) == ("access:authenticate", "-")
    assert denial_of(Overloaded(), alice) is None
