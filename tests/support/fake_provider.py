"""An OpenID provider without a network: signs what a test says, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from ashore.control.sessions.section import ProviderSection
from ashore.core.clock import ManualClock
from ashore.core.errors import SourceUnreachable
from ashore.data.authority import Issuer

URL = "https://id.corp.example"
CLIENT = "ashore-console"


@dataclass
class FakeProvider:
    """`fetch` stands for the network. A browser that is sent to `authorize` comes back with what that returns."""

    clock: ManualClock
    folder: Path
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    kid: str = "a"
    asked: dict[str, str] = field(default_factory=dict)
    """The query of the last browser that came."""
    codes: dict[str, dict[str, Any]] = field(default_factory=dict)
    challenges: dict[str, str] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    hangs: asyncio.Event | None = None
    """Its answers wait for this."""

    def __post_init__(self) -> None:
        self.publish()

    def publish(self) -> None:
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        (self.folder / "jwks.json").write_text(json.dumps({"keys": [{**public, "kid": self.kid}]}))

    @property
    def issuer(self) -> Issuer:
        return Issuer(
            name="corp", issuer=URL, audience="ashore", jwks_file=str(self.folder / "jwks.json"),
            groups_claim="groups", roles_claim="roles",
        )  # fmt: skip

    def section(self, **more: Any) -> ProviderSection:
        return ProviderSection(**{"issuer": "corp", "client_id": CLIENT, "client_secret": "s3cret", **more})

    def sign(self, **claims: Any) -> str:
        now_s = int(self.clock.now_s())
        body = {"iss": URL, "aud": CLIENT, "iat": now_s, "exp": now_s + 300, **claims}
        body = {name: value for name, value in body.items() if value is not None}
        return jwt.encode(body, self.key, algorithm="RS256", headers={"kid": self.kid})

    def authorize(self, url: str, **claims: Any) -> dict[str, str]:
        """Log somebody in; return the query with which their browser goes back."""
        assert url.startswith(f"{URL}/authorize?"), url
        self.asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        code = f"code-{len(self.codes)}"
        self.challenges[code] = self.asked["code_challenge"]
        nonce = claims.pop("nonce", self.asked["nonce"])
        self.codes[code] = {"sub": "alice", "nonce": nonce, "auth_time": int(self.clock.now_s()), **claims}
        return {"code": code, "state": self.asked["state"], "iss": URL}

    async def fetch(
        self, url: str, egress: Sequence[str], /, *, form: Mapping[str, str] | None = None, basic: str = ""
    ) -> bytes:
        self.fetched.append(url)
        if self.hangs is not None:
            await self.hangs.wait()
        if url.endswith("/.well-known/openid-configuration"):
            known = {"issuer": URL, "authorization_endpoint": f"{URL}/authorize", "token_endpoint": f"{URL}/token"}
            return json.dumps(known).encode()
        assert url == f"{URL}/token" and form is not None
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        proven = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == self.challenges.pop(form["code"], "")
        if not proven or basic != f"{CLIENT}:s3cret" or form["redirect_uri"] != self.asked["redirect_uri"]:
            raise SourceUnreachable(f"{url} returned status 400; expected 200")
        return json.dumps({"id_token": self.sign(**self.codes[form["code"]])}).encode()

    def logout_token(self, **claims: Any) -> str:
        events = {"http://schemas.openid.net/event/backchannel-logout": {}}
        return self.sign(**{"events": events, "jti": "j1", "sub": "alice", **claims})
