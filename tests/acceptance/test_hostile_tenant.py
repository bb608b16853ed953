"""A developer of a tenant, and somebody with no key, at every route of administration; and bodies that grow."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from home_processes import processes_of
from served import Served, start_served

from ashore.control.faces.table import ROUTES

ADMIN = sorted({(route.method, route.path) for route in ROUTES if route.guard == "admin"})
FOR_DEVELOPERS = {
    ("POST", "/admin/v1/privacy/detect"): 400,
    ("POST", "/admin/v1/keys"): 200,
    ("GET", "/admin/v1/assistants"): 200,
    ("PUT", "/admin/v1/assistants/{name}"): 400,
    ("DELETE", "/admin/v1/assistants/{name}"): 404,
    ("GET", "/admin/v1/conversations"): 200,
    ("GET", "/admin/v1/conversations/{conversation}"): 404,
}
"""What is for everybody: to try a text, to make a key of one's own, and one's own assistants and conversations."""
LOOKS_LIKE_HOME = {
    "x-forwarded-for": "127.0.0.1",
    "forwarded": "for=127.0.0.1",
    "x-real-ip": "127.0.0.1",
    "host": "localhost",
    "x-ashore-principal": "sam",
    "x-ashore-origin": "127.0.0.1",
    "x-authz-user": "root",
}


class House:
    """A server with three administrators and one developer."""

    def __init__(self, server: Served) -> None:
        self.server = server
        self.keys: dict[str, str] = {"first": server.key}
        for name, role in (("otto", "security-officer"), ("sam", "system-administrator"), ("ada", "auditor")):
            self.make("first", name, role)
        self.make("otto", "dev", "developer")

    def make(self, by: str, name: str, role: str) -> None:
        status, answer = self.ask(by, "POST", "/admin/v1/users", {"id": name, "roles": [role], "key": {}})
        assert status in (200, 201), answer
        self.keys[name] = answer["key"]["key"]

    def ask(
        self,
        who: str,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        key = self.keys.get(who, "")
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            sent = ({"authorization": f"Bearer {key}"} if key else {}) | (headers or {})
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(raw)
        except ValueError:
            return answer.status, raw


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    import socket

    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], two.getsockname()[1]
    home = tmp_path_factory.mktemp("hostile") / "home"
    server = start_served(home, ("fake:echo",), store=None, port=ports[0], grpc_port=ports[1])
    try:
        yield House(server)
    finally:
        server.stop()


def concrete(path: str) -> str:
    return re.sub(r"\{\w+\}", "ada", path)


def test_there_are_routes_of_administration() -> None:
    assert len(ADMIN) > 20


@pytest.mark.parametrize(("method", "path"), ADMIN, ids=lambda part: part)
def test_a_developer_administers_nothing(house: House, method: str, path: str) -> None:
    body = {} if method in ("POST", "PUT", "PATCH") else None
    assert house.ask("", method, concrete(path), body)[0] == 401
    status, answer = house.ask("dev", method, concrete(path), body, LOOKS_LIKE_HOME)
    assert status == FOR_DEVELOPERS.get((method, path), 403), answer


@pytest.mark.parametrize(
    "path",
    [
        "//admin/v1/users",
        "/v1/../admin/v1/users",
        "/admin/v1/%75sers",
        "/admin/v1/users/",
        "/admin/v1/users%2f",
        "/admin/v1/users?x=1",
        "/admin/v1/users;a",
        "/ADMIN/v1/users",
        "/admin/v1/users%00",
        "http://localhost/admin/v1/users",
    ],
)
def test_no_spelling_of_a_path_goes_around_the_guard(house: House, path: str) -> None:
    for who, expected in (("", (401, 404, 400)), ("dev", (403, 404, 400))):
        assert house.ask(who, "GET", path, None, LOOKS_LIKE_HOME)[0] in expected


@pytest.mark.parametrize("office", ["system-administrator", "security-officer", "auditor"])
def test_nobody_takes_an_office(house: House, office: str) -> None:
    grant = {"grant": [{"subject": "user/dev", "role": office}]}
    assert house.ask("dev", "POST", "/admin/v1/bindings", grant)[0] == 403
    mine = {"grant": [{"subject": "user/otto", "role": office}]}
    status, answer = house.ask("otto", "POST", "/admin/v1/bindings", mine)
    if office != "security-officer":  # that one otto has already, and nothing changes
        assert status in (400, 403), answer
    policy = house.ask("otto", "GET", "/admin/v1/policy")[1]
    held = {one["role"] for one in policy["bindings"] if one["subject"] == "user/otto"}
    assert held == {"security-officer"}


@pytest.mark.parametrize("squeeze", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
def test_a_body_that_would_grow_is_not_unpacked(house: House, squeeze: Callable[[bytes], bytes]) -> None:
    bomb = squeeze(b" " * 100_000_000)
    before = resident_kib(house.server.home)
    for encoding in ("gzip", "deflate", "br", "zstd", "gzip, gzip"):
        headers = {"content-encoding": encoding}
        assert house.ask("dev", "POST", "/v1/chat/completions", bomb, headers)[0] in (400, 413, 415)
    assert resident_kib(house.server.home) - before < 50_000


def resident_kib(home: Path) -> int:
    """Return the memory of the API worker of a home."""
    (worker,) = processes_of(home, "ashore.data.worker")
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{worker}/status").read_text())[0])
