"""How a site joins: a token that works once, a key made at the site, and a certificate of the centre's authority.

The secret of the token never travels. Both sides prove that they know it: the site over its request, the centre over
its answer. So nobody between can put in another key or another root, and TLS is not what this rests on.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from ashore.control.sites.identity import common_name, p256_key
from ashore.control.sites.model import SiteName
from ashore.core.errors import InvalidRequest, Unauthenticated
from ashore.core.foreign import foreign_errors

if TYPE_CHECKING:
    from cryptography import x509
CERTIFICATE_DAYS: Final = 1_825
"""A certificate ends by being revoked, at once. A site that hears the centre gets the next one at half of its life, so
its date is a last bound for one that was forgotten."""
TOKEN: Final = re.compile(r"([a-z0-9][a-z0-9-]{0,62})\.([A-Za-z0-9_-]{32})\.([0-9a-f]{64})")


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A site asks to join."""

    site: SiteName
    csr: Annotated[bytes, msgspec.Meta(max_length=4_096)]
    """PEM; its key is the site's."""
    audit_key: Annotated[str, msgspec.Meta(max_length=64)]
    """Public key of its audit log, as base64."""
    proof: bytes


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """The centre's answer."""

    certificate: str
    """PEM."""
    authority: str
    """PEM of the centre's authority for sites."""
    root: bytes
    """The root that the site pins."""
    centre_ca: str = ""
    """PEM of what the centre's HTTPS is signed with, where ashore made it."""
    proof: bytes = b""


def new_token(name: str, root: bytes) -> tuple[str, str]:
    """Return a token, and the key that the centre keeps of it."""
    secret = secrets.token_urlsafe(24)
    return f"{name}.{secret}.{hashlib.sha256(root).hexdigest()}", hashlib.sha256(secret.encode()).hexdigest()


def ask(token: str, csr: bytes, audit_key: str) -> bytes:
    """Return what a site sends to join.

    Raises:
        InvalidRequest: the token is malformed.
    """
    name, key, _ = _read(token)
    asked = Ask(site=name, csr=csr, audit_key=audit_key, proof=b"")
    return msgspec.json.encode(msgspec.structs.replace(asked, proof=_proof(key, b"ask", asked)))


def take_answer(token: str, body: bytes) -> Joined:
    """Return the centre's answer, once it is sure that it is that of the token's centre.

    Raises:
        InvalidRequest: the token is malformed.
        Unauthenticated: it is not.
    """
    _, key, digest = _read(token)
    with foreign_errors("the answer cannot be read", Unauthenticated, hint=_HINT):
        answer = msgspec.json.decode(body, type=Joined)
    bare = msgspec.structs.replace(answer, proof=b"")
    if not hmac.compare_digest(answer.proof, _proof(key, b"answer", bare)):
        raise Unauthenticated("the answer is not that of the centre that made the token", hint=_HINT)
    if hashlib.sha256(answer.root).hexdigest() != digest:
        raise Unauthenticated("the centre answered with another root than the token pins", hint=_HINT)
    return answer


def read_ask(body: bytes) -> Ask:
    """Return what a site asks; its proof is not checked yet.

    Raises:
        InvalidRequest: it cannot be read.
    """
    with foreign_errors("the request to join cannot be read", InvalidRequest, hint=""):
        return msgspec.json.decode(body, type=Ask)


def is_proven(asked: Ask, key: str) -> bool:
    """Return whether who asks knows the secret of a token."""
    return hmac.compare_digest(asked.proof, _proof(key, b"ask", msgspec.structs.replace(asked, proof=b"")))


def proven(answer: Joined, key: str) -> bytes:
    """Return the answer with its proof, as it travels."""
    return msgspec.json.encode(msgspec.structs.replace(answer, proof=_proof(key, b"answer", answer)))


class SiteAuthority:
    """Signs certificates of sites. Its key is derived from 32 secret bytes of the state."""

    def __init__(self, secret: bytes) -> None:
        self._key = p256_key(secret)

    def certificate(self, now_s: float) -> str:
        """Return a certificate of the authority itself, in PEM; every one has the same key and name."""
        return _pem(self._signed(common_name("ashore sites"), self._key.public_key(), now_s, is_authority=True))

    def sign(self, site: str, csr: bytes, now_s: float) -> tuple[str, str, bytes]:
        """Return the certificate of a site in PEM, its SHA-256, and the public key that it certifies, in DER.

        Raises:
            InvalidRequest: the request is not one, or its key is not EC P-256.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        with foreign_errors("the certificate request cannot be read", InvalidRequest, hint=""):
            asked = x509.load_pem_x509_csr(csr)
            key = asked.public_key()
        if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)):
            raise InvalidRequest(
                "the key of a site must be EC P-256", hint="make the key with the same version of ashore"
            )
        if not asked.is_signature_valid:
            raise InvalidRequest("the certificate request is not signed by its own key")
        der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return *self.renew(site, der, now_s), der

    def renew(self, site: str, public_key: bytes, now_s: float) -> tuple[str, str]:
        """Return a certificate for the key that a site proved at joining, in PEM, and its SHA-256."""
        from cryptography.hazmat.primitives import hashes, serialization

        made = self._signed(common_name(f"site {site}"), serialization.load_der_public_key(public_key), now_s)
        return _pem(made), made.fingerprint(hashes.SHA256()).hex()

    def _signed(self, subject: x509.Name, key: object, now_s: float, *, is_authority: bool = False) -> x509.Certificate:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import ExtendedKeyUsageOID

        now = datetime.fromtimestamp(now_s, UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(common_name("ashore sites"))
            .public_key(key)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS * (4 if is_authority else 1)))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), True)
        )
        if not is_authority:
            made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        return made.sign(self._key, hashes.SHA256())


_HINT: Final = "check the address; ask who runs the centre for a new token"


def _read(token: str) -> tuple[str, str, str]:
    found = TOKEN.fullmatch(token.strip())
    if found is None:
        raise InvalidRequest("this is not a token of a centre", hint="`ashore site create NAME` prints one")
    return found[1], hashlib.sha256(found[2].encode()).hexdigest(), found[3]


def _proof(key: str, what: bytes, said: msgspec.Struct) -> bytes:
    return hmac.digest(bytes.fromhex(key), what + b"\n" + msgspec.json.encode(said, order="deterministic"), "sha256")


def _pem(made: x509.Certificate) -> str:
    from cryptography.hazmat.primitives import serialization

    return made.public_bytes(serialization.Encoding.PEM).decode()
