"""Passkeys: the options for a browser, and the verification of its response. Pure.

Source: Web Authentication Level 2 (W3C), 6.1 (authenticator data), 7.1 (registration), 7.2 (assertion); RFC 9053.
Attestation, which names the maker of an authenticator, is neither requested nor checked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from ashore.control.sessions.cbor import read_cbor, read_first
from ashore.control.sessions.model import Visit
from ashore.core.errors import InvalidRequest, PermissionDenied, Unauthenticated
from ashore.kit.decode import UNDECODABLE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

CHALLENGE_BYTES: Final = 32
CHALLENGE_S: Final = 300
"""How long an authenticator may take."""
ES256: Final = -7
EDDSA: Final = -8
RS256: Final = -257
"""Of Windows Hello and of keys that a TPM holds (RFC 8812)."""
RSA_BYTES: Final = range(256, 513)
"""Of a modulus: 2,048 to 4,096 bits."""
RSA_EXPONENT: Final = b"\x01\x00\x01"
PRESENT: Final = 0x01
HAS_KEY: Final = 0x40
_HEAD_BYTES: Final = 37
"""Of authenticator data: digest of the domain, flags, counter."""
MOST_CHARS: Final = 16_384
MOST_ID_BYTES: Final = 1_023


class Sent(msgspec.Struct, frozen=True, rename="camel"):
    """The credential fields that the page's script posts, each in base64url."""

    id: str
    client_data: str
    attestation: str = ""
    """Of a new one."""
    authenticator_data: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkey:
    """A passkey of a person. Contains no secret."""

    id: str
    """Its own id, in base64url."""
    account: str
    domain: str
    """Where it was made, and counts."""
    key: str
    """COSE key, in base64url."""
    counter: int
    """Uses that the authenticator has counted; 0: it does not count."""
    title: str = ""
    created_s: int = 0
    last_s: int | None = None


def domain_of(visit: Visit) -> str:
    """Return the domain of passkeys here; empty: browsers support none at this address, which has no TLS or no name."""
    host = urlsplit(visit.base).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return host
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host if visit.is_secure else ""
    return ""


def new_challenge() -> str:
    """Return a new one-time challenge."""
    return encoded(secrets.token_bytes(CHALLENGE_BYTES))


def asked_to_make(challenge: str, *, domain: str, issuer: str, account: str, known: Iterable[Passkey]) -> str:
    """Return the options to create a passkey, as JSON."""
    user = hashlib.sha256(f"passkey:{domain}:{account}".encode()).digest()
    return _json(
        challenge=challenge,
        rp={"id": domain, "name": issuer},
        user={"id": encoded(user), "name": account, "displayName": account},
        pubKeyCredParams=[{"type": "public-key", "alg": one} for one in (ES256, EDDSA, RS256)],
        excludeCredentials=[{"type": "public-key", "id": one.id} for one in known],
        authenticatorSelection={"residentKey": "discouraged", "userVerification": "preferred"},
        attestation="none",
        timeout=CHALLENGE_S * 1000,
    )


def asked_to_use(challenge: str, *, domain: str, known: Iterable[Passkey]) -> str:
    """Return the options to use a passkey, as JSON."""
    return _json(
        challenge=challenge,
        rpId=domain,
        allowCredentials=[{"type": "public-key", "id": one.id} for one in known],
        userVerification="preferred",
        timeout=CHALLENGE_S * 1000,
    )


def read_sent(text: str) -> Sent:
    """Return the credential of a form.

    Raises:
        InvalidRequest: it is malformed.
    """
    try:
        if len(text) > MOST_CHARS:
            raise msgspec.DecodeError("too long")
        return msgspec.json.decode(text, type=Sent)
    except UNDECODABLE as fault:
        raise InvalidRequest("the browser sent no passkey", hint="try again, or use a code") from fault


def made(sent: Sent, challenge: str, visit: Visit, *, account: str, title: str, now_s: int) -> Passkey:
    """Verify a registration and return the passkey (7.1).

    Raises:
        PermissionDenied: it was made for another page, site or challenge.
        InvalidRequest: it cannot be read, or uses an unsupported algorithm.
    """
    domain = domain_of(visit)
    _check_client(sent, "webauthn.create", challenge, visit)
    attested = read_cbor(decoded(sent.attestation))
    data = attested.get("authData") if isinstance(attested, dict) else None
    if not isinstance(data, bytes):
        raise InvalidRequest("the passkey has no authenticator data", hint="try again")
    flags, counter = _head(data, domain)
    size = int.from_bytes(data[_HEAD_BYTES + 16 : _HEAD_BYTES + 18], "big")
    begin = _HEAD_BYTES + 18
    if not flags & HAS_KEY or not 1 <= size <= MOST_ID_BYTES or len(data) < begin + size:
        raise InvalidRequest("the passkey has no key", hint="try again")
    own, (_, end) = data[begin : begin + size], read_first(data, begin + size)
    raw = data[begin + size : end]
    if encoded(own) != sent.id.rstrip("="):
        raise PermissionDenied("the passkey has another id than the browser says", hint="try again", rule="passkey")
    key_of(raw)
    return Passkey(
        id=encoded(own), account=account, domain=domain, key=encoded(raw), counter=counter, title=title[:64],
        created_s=now_s,
    )  # fmt: skip


def used(sent: Sent, challenge: str, visit: Visit, passkey: Passkey) -> int:
    """Verify an assertion and return the counter (7.2).

    Raises:
        PermissionDenied: it was made for another page, site or challenge.
        Unauthenticated: the signature is wrong, or the passkey was copied.
        InvalidRequest: it cannot be read.
    """
    _check_client(sent, "webauthn.get", challenge, visit)
    data = decoded(sent.authenticator_data)
    if domain_of(visit) != passkey.domain:
        raise PermissionDenied("the passkey belongs to another address", hint="use a code", rule="passkey")
    _, counter = _head(data, passkey.domain)
    signed = data + hashlib.sha256(decoded(sent.client_data)).digest()
    if not _is_signed(key_of(decoded(passkey.key)), decoded(sent.signature), signed):
        raise Unauthenticated("the signature of the passkey is wrong", hint="try again, or use a code")
    if (counter or passkey.counter) and counter <= passkey.counter:
        raise Unauthenticated(
            "this passkey has counted fewer uses than before, so there is a copy of it",
            hint="use a code, and remove the passkey",
        )
    return counter


def _check_client(sent: Sent, kind: str, challenge: str, visit: Visit) -> None:
    """Check the client data: origin, challenge and type."""
    try:
        client: Any = msgspec.json.decode(decoded(sent.client_data))
    except UNDECODABLE as fault:
        raise InvalidRequest("the browser sent no passkey", hint="try again, or use a code") from fault
    if not isinstance(client, dict):
        client = {}
    right = (
        client.get("type") == kind
        and hmac.compare_digest(str(client.get("challenge", "")).rstrip("=").encode(), challenge.encode())
        and client.get("origin") == visit.base
        and client.get("crossOrigin", False) is False
    )
    if not challenge or not right:
        raise PermissionDenied(
            "the passkey was used for another page, another site, or an older question",
            hint="load the page again, and try again",
            rule="passkey",
        )


def _head(data: bytes, domain: str) -> tuple[int, int]:
    """Return flags and counter of authenticator data for a domain."""
    if len(data) < _HEAD_BYTES:
        raise InvalidRequest("the passkey has no authenticator data", hint="try again")
    if not domain or not hmac.compare_digest(data[:32], hashlib.sha256(domain.encode()).digest()):
        raise PermissionDenied("the passkey belongs to another address", hint="use a code", rule="passkey")
    if not data[32] & PRESENT:
        raise Unauthenticated("nobody touched the authenticator", hint="try again")
    return data[32], int.from_bytes(data[33:37], "big")


def key_of(raw: bytes) -> EllipticCurvePublicKey | Ed25519PublicKey | RSAPublicKey:
    """Return the public key of a COSE key (RFC 9053, 8230): P-256 for ES256, Ed25519 for EdDSA, or RSA for RS256.

    Raises:
        InvalidRequest: it has another type.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    found = read_cbor(raw)
    try:
        if isinstance(found, dict):
            x, y = found.get(-2), found.get(-3)
            shape = (found.get(1), found.get(3), found.get(-1))
            if shape == (2, ES256, 1) and isinstance(x, bytes) and isinstance(y, bytes) and len(x) == len(y) == 32:
                return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)
            if shape == (1, EDDSA, 6) and isinstance(x, bytes):
                return ed25519.Ed25519PublicKey.from_public_bytes(x)
            n = found.get(-1)
            if shape[:2] == (3, RS256) and isinstance(n, bytes) and len(n) in RSA_BYTES and x == RSA_EXPONENT:
                modulus = int.from_bytes(n, "big")
                if modulus.bit_length() == 8 * len(n) and modulus % 2:
                    return rsa.RSAPublicNumbers(65_537, modulus).public_key()
    except ValueError as fault:
        raise InvalidRequest("the passkey is no key of its kind", hint="use another authenticator") from fault
    raise InvalidRequest(
        "the passkey signs in a way that is not taken", hint="use one that signs by ES256, EdDSA or RS256"
    )


def _is_signed(key: EllipticCurvePublicKey | Ed25519PublicKey | RSAPublicKey, signature: bytes, data: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        if isinstance(key, EllipticCurvePublicKey):
            key.verify(signature, data, ECDSA(SHA256()))
        elif isinstance(key, RSAPublicKey):
            key.verify(signature, data, PKCS1v15(), SHA256())
        else:
            key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def encoded(raw: bytes) -> str:
    """Return bytes in base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """Return the bytes of base64url.

    Raises:
        InvalidRequest: it is malformed.
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as fault:
        raise InvalidRequest("the browser sent no passkey", hint="try again, or use a code") from fault


def _json(**fields: Any) -> str:
    return msgspec.json.encode(fields).decode()
