"""The same behind Envoy with two workers: who a client is, where it comes from, and how soon a revocation holds."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from served import Served

from ashore.core.errors import MissingExtra
from ashore.data.authority import new_key
from ashore.machine.edge import find_envoy

Start = Callable[..., Served]

ECHO = "fake:echo"


def has_envoy() -> bool:
    try:
        find_envoy()
    except MissingExtra:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_envoy(), reason="needs ashore[edge]")


class Client:
    def __init__(self, server: Served) -> None:
        self._url = f"https://localhost:{server.port}"
        self._authority = server.home / "edge" / "ca.pem"

    def ask(
        self, path: str, key: str, body: object = None, *, method: str = "", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, object]]:
        request = urllib.request.Request(
            self._url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {key}", "content-type": "application/json", **(headers or {})},
            method=method or ("GET" if body is None else "POST"),
        )
        try:
            trust = ssl.create_default_context(cafile=str(self._authority))
            with urllib.request.urlopen(request, context=trust, timeout=20) as answer:
                return int(answer.status), json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.loads(refused.read())

    def chat(self, key: str, headers: dict[str, str] | None = None) -> int:
        body = {"model": ECHO, "messages": [{"role": "user", "content": "hi"}]}
        return self.ask("/v1/chat/completions", key, body, headers=headers)[0]


def test_behind_envoy_with_two_workers(served: Start, tmp_path: Path) -> None:
    signing = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = jwt.algorithms.RSAAlgorithm.to_jwk(signing.public_key(), as_dict=True)
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [public]}))
    config = f"""
[[model]]
name = "{ECHO}"
[http]
workers = 2
[edge]
kind = "envoy"
[[access.issuer]]
name = "corp"
issuer = "https://id.corp.example"
audience = "ashore"
jwks_file = "{tmp_path / "jwks.json"}"
"""
    server = served(config=config, wait=False)
    client = Client(server)
    end = time.monotonic() + 60
    while True:
        try:
            if client.ask("/readyz", "-")[0] == 200:
                break
        except (OSError, FileNotFoundError):
            pass
        assert time.monotonic() < end and server.process.poll() is None, server.everything_said()
        time.sleep(0.1)
    first = server.key
    assert client.chat(first) == 200

    keys = {}
    for role in ("system-administrator", "auditor", "security-officer"):
        status, made = client.ask("/admin/v1/users", first, {"id": role, "roles": [role], "key": {}})
        assert status == 200, made
        keys[role] = made["key"]["key"]  # type: ignore[index]
    officer = str(keys["security-officer"])
    assert [client.chat(first) for _ in range(8)] == [401] * 8, "the first key is dead in both workers"

    # a token means the same with Envoy as without
    now_s = int(time.time())
    claims = {"iss": "https://id.corp.example", "aud": "ashore", "sub": "alice", "iat": now_s, "exp": now_s + 300}
    token = jwt.encode(claims, signing, algorithm="RS256")
    assert client.chat(token) == 403
    grant = {"grant": [{"subject": "user/corp:alice", "role": "developer"}]}
    assert client.ask("/admin/v1/bindings", officer, grant)[0] == 200
    assert [client.chat(token) for _ in range(8)] == [200] * 8
    assert client.chat(jwt.encode({**claims, "aud": "x"}, signing, algorithm="RS256")) == 401
    assert client.ask("/admin/v1/users/corp:alice", officer, {"disabled": True}, method="PATCH")[0] == 200
    assert [client.chat(token) for _ in range(8)] == [401] * 8, "in both workers when the answer is there"

    # a key for another network is refused, whatever address the client claims
    wish = {"id": "app", "roles": ["developer"], "key": {"networks": ["10.0.0.0/8"]}}
    _, made = client.ask("/admin/v1/users", officer, wish)
    narrow = str(made["key"]["key"])  # type: ignore[index]
    for headers in ({}, {"x-forwarded-for": "10.0.0.1"}, {"x-real-ip": "10.0.0.1"}, {"forwarded": "for=10.0.0.1"}):
        assert client.chat(narrow, headers) == 403
    # a client on the edge's own machine has that machine's address there, never the one that it claims
    _, refused = client.ask("/v1/models", narrow, headers={"x-forwarded-for": "10.0.0.1"})
    mine = str(refused["error"]["message"]).partition(". Hint: ")[0].rpartition(" ")[2]  # type: ignore[index]
    assert not mine.startswith("10.0.0.")
    _, made = client.ask("/admin/v1/keys", officer, {"owner": "app", "networks": [f"{mine}/32"]})
    key = str(made["key"])
    # a worker remembers by itself whom it has heard: so often that both have heard both keys
    assert [client.chat(key) for _ in range(24)] == [200] * 24
    assert [client.ask("/admin/v1/keys", officer)[0] for _ in range(24)] == [200] * 24

    # guessing is held against the client's address, and claiming others does not help
    statuses = [client.chat(new_key(), {"x-forwarded-for": f"10.0.0.{n}"}) for n in range(40)]
    assert statuses[-1] == 429
    assert client.chat(key) == 200, "a key that was right from there before is still heard"

    # a revocation holds in both workers when its answer is there
    assert client.ask(f"/admin/v1/keys/{key[:12]}", officer, method="DELETE")[0] == 200
    assert not {200} & {client.chat(key) for _ in range(8)}
