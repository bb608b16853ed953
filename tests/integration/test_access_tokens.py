"""Tokens of a real OpenID provider against a real worker: keys fetched beside the requests, a subject revoked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import oidc_provider_mock
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from http_worker import Worker, http_worker, state_link
from waiting import eventually

from ashore.data.authority import AccessSection, Issuer
from ashore.data.jobs import EgressSection

CHAT = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "hi"}]})


@contextmanager
def token_worker(run: Path, issuer: Issuer, egress: tuple[str, ...] = ()) -> Iterator[Worker]:
    with http_worker(
        run, state=state_link(run), access=AccessSection(issuers=(issuer,)), egress=EgressSection(allow=egress)
    ) as worker:
        yield worker


def bearer(worker: Worker, token: str, method: str = "POST", path: str = "/v1/chat/completions") -> int:
    body = CHAT if method == "POST" else None
    return worker.request(method, path, body, {"authorization": f"Bearer {token}"})[0]


def administrators(worker: Worker) -> str:
    """Make the three administrators and return the key of the security officer."""
    keys = {}
    for role in ("system-administrator", "auditor", "security-officer"):
        body = json.dumps({"id": role, "roles": [role], "key": {}})
        keys[role] = json.loads(worker.request("POST", "/admin/v1/users", body)[2])["key"]["key"]
    return str(keys["security-officer"])


def admin(worker: Worker, key: str, method: str, path: str, body: object) -> int:
    sent = json.dumps(body)
    return worker.request(method, f"/admin/v1{path}", sent, {"authorization": f"Bearer {key}"})[0]


def id_token(provider: str, subject: str, client: str) -> str:
    """Log in as a browser would, and return the ID token."""
    with httpx.Client(base_url=provider, trust_env=False) as http:
        asked = {
            "client_id": client,
            "redirect_uri": "http://127.0.0.1/back",
            "response_type": "code",
            "scope": "openid",
        }
        sent = http.post("/oauth2/authorize", params=asked, data={"sub": subject})
        code = parse_qs(urlsplit(sent.headers["location"]).query)["code"][0]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": asked["redirect_uri"]}
        return str(http.post("/oauth2/token", data=form, auth=(client, "secret")).json()["id_token"])


@pytest.mark.filterwarnings("default::ResourceWarning", "default::DeprecationWarning")
def test_a_token_of_a_real_provider_opens_until_its_subject_is_disabled(tmp_path: Path) -> None:
    with oidc_provider_mock.run_server_in_thread() as provider:
        url = f"http://localhost:{provider.server_port}"
        issuer = Issuer(
            name="corp", issuer=url, audience="ashore", jwks_url=f"http://127.0.0.1:{provider.server_port}/jwks"
        )
        with token_worker(tmp_path / "run", issuer, ("127.0.0.1",)) as worker:
            key = administrators(worker)
            token = id_token(url, "alice", "ashore")
            assert bearer(worker, token) == 403, "known, and allowed nothing"
            grant = {"grant": [{"subject": "user/corp:alice", "role": "developer"}]}
            assert admin(worker, key, "POST", "/bindings", grant) == 200
            assert [bearer(worker, token) for _ in range(4)] == [200] * 4
            assert bearer(worker, id_token(url, "alice", "another-client")) == 401
            assert bearer(worker, token[:-4]) == 401
            assert admin(worker, key, "PATCH", "/users/corp:alice", {"disabled": True}) == 200
            assert bearer(worker, token) == 401, "replayed after its subject was disabled"
            assert (
                "corp:alice"
                in worker.request("GET", "/admin/v1/users", None, {"authorization": f"Bearer {key}"})[2].decode()
            )


def test_without_a_network_the_keys_are_in_a_file_and_a_new_one_is_taken_by_itself(tmp_path: Path) -> None:
    old, new = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    file = tmp_path / "jwks.json"

    def write(key: rsa.RSAPrivateKey, name: str) -> None:
        public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        file.write_text(json.dumps({"keys": [{**public, "kid": name}]}))

    def token(key: rsa.RSAPrivateKey, name: str) -> str:
        now_s = int(time.time())
        claims = {
            "iss": "https://id.corp.example", "aud": "ashore", "sub": "bob", "iat": now_s, "exp": now_s + 300,
            "roles": ["developer", "auditor"],
        }  # fmt: skip
        return jwt.encode(claims, key, algorithm="RS256", headers={"kid": name})

    write(old, "a")
    issuer = Issuer(
        name="corp", issuer="https://id.corp.example", audience="ashore", jwks_file=str(file), roles_claim="roles"
    )
    with token_worker(tmp_path / "run", issuer) as worker:
        assert bearer(worker, token(old, "a")) == 200
        assert bearer(worker, token(old, "a"), "GET", "/admin/v1/users") == 403
        assert bearer(worker, token(new, "b")) == 401
        write(new, "b")
        eventually(lambda: bearer(worker, token(new, "b")) == 200)
        assert bearer(worker, token(old, "a")) == 401
        file.write_text("not JSON")
        time.sleep(1.5)  # two looks of the worker at its file
        assert bearer(worker, token(new, "b")) == 200, "the keys stay as they were"


def test_keys_are_not_fetched_where_egress_does_not_allow_it(tmp_path: Path) -> None:
    issuer = Issuer(name="corp", issuer="https://x", audience="ashore", jwks_url="http://127.0.0.1:9/jwks")
    with token_worker(tmp_path / "run", issuer) as worker:
        assert "does not allow 127.0.0.1:9" in worker.said()
        assert bearer(worker, worker.key) == 200
