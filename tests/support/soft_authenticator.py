"""An authenticator in memory, with the browser in front of it: makes passkeys and proofs, true ones and others."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from ashore.control.sessions.webauthn import encoded


def cbor(value: Any) -> bytes:
    """Write a value as CBOR."""
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(map(cbor, value))
    assert isinstance(value, dict)
    return _head(5, len(value)) + b"".join(cbor(key) + cbor(one) for key, one in value.items())


def _head(kind: int, size: int) -> bytes:
    for code, count in ((0, 0), (24, 1), (25, 2), (26, 4), (27, 8)):
        if count == 0 and size < 24:
            return bytes([kind << 5 | size])
        if count and size < 1 << (8 * count):
            return bytes([kind << 5 | code]) + size.to_bytes(count, "big")
    raise AssertionError(size)


@dataclass
class SoftAuthenticator:
    """One key. Its fields are what it says; a test changes them to lie."""

    origin: str = "https://ai.corp.example"
    domain: str = "ai.corp.example"
    kind: Literal["p256", "edwards", "rsa"] = "p256"
    counter: int = 0
    flags: int = 0x41
    cross: bool = False
    id: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    def __post_init__(self) -> None:
        self.key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
        if self.kind == "edwards":
            self.key = ed25519.Ed25519PrivateKey.generate()
        elif self.kind == "rsa":
            self.key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        else:
            self.key = ec.generate_private_key(ec.SECP256R1())

    @property
    def cose(self) -> dict[int, Any]:
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return {1: 1, 3: -8, -1: 6, -2: self.key.public_key().public_bytes_raw()}
        if isinstance(self.key, rsa.RSAPrivateKey):
            modulus = self.key.public_key().public_numbers().n
            return {1: 3, 3: -257, -1: modulus.to_bytes(256, "big"), -2: b"\x01\x00\x01"}
        point = self.key.public_key().public_numbers()
        return {1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32, "big"), -3: point.y.to_bytes(32, "big")}

    def client(self, kind: str, challenge: str) -> bytes:
        said = {"type": f"webauthn.{kind}", "challenge": challenge, "origin": self.origin, "crossOrigin": self.cross}
        return json.dumps(said).encode()

    def data(self, flags: int) -> bytes:
        digest = hashlib.sha256(self.domain.encode()).digest()
        return digest + bytes([flags]) + self.counter.to_bytes(4, "big")

    def make(self, asked: str, *, cose: Any = None, raw: bytes | None = None) -> str:
        """Return what a browser posts of a new passkey."""
        head = self.data(self.flags) + bytes(16) + len(self.id).to_bytes(2, "big") + self.id
        attested = {"fmt": "none", "attStmt": {}, "authData": head + cbor(cose or self.cose)}
        return json.dumps({
            "id": encoded(self.id),
            "clientData": encoded(self.client("create", json.loads(asked)["challenge"])),
            "attestation": encoded(cbor(attested) if raw is None else raw),
        })  # fmt: skip

    def use(self, asked: str, *, kind: str = "get", spoil: bytes = b"") -> str:
        """Return what a browser posts of a proof. `spoil`: is signed beside what should be."""
        client, data = self.client(kind, json.loads(asked)["challenge"]), self.data(self.flags & 0x05)
        signed = data + hashlib.sha256(client).digest() + spoil
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            signature = self.key.sign(signed)
        elif isinstance(self.key, rsa.RSAPrivateKey):
            signature = self.key.sign(signed, PKCS1v15(), SHA256())
        else:
            signature = self.key.sign(signed, ec.ECDSA(SHA256()))
        return json.dumps({
            "id": encoded(self.id), "clientData": encoded(client), "authenticatorData": encoded(data),
            "signature": encoded(signature),
        })  # fmt: skip
