"""Cookies of the console: their names, attributes and authenticity, and the CSRF tokens of forms.

A cookie is 32 random bytes and a 16-byte tag under the state's secret, so that forged ones cost no database read. The
state stores the SHA-256 of the whole, which is useless to a thief.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from ashore.control.sessions.model import CONSOLE, Visit

Kind = Literal["session", "visit", "device"]

_RANDOM_BYTES: Final = 32
_TAG_BYTES: Final = 16
_CHARS: Final = 64
"""Of a cookie: base64 of the 48 bytes."""
DEVICE_S: Final = 90 * 86_400
MOST_HEADER_CHARS: Final = 16_384


@dataclass(frozen=True, slots=True)
class Cookies:
    """Creates and reads cookies with one secret of the state."""

    secret: bytes

    def new(self, kind: Kind) -> str:
        """Return the value of a new cookie, valid for its kind only: strangers get those of a visit."""
        random = secrets.token_bytes(_RANDOM_BYTES)
        return base64.urlsafe_b64encode(random + self._tag(kind, random)).decode()

    def read(self, visit: Visit, kind: Kind) -> str:
        """Return the value of a genuine cookie; empty: missing or forged."""
        value = _values(visit.cookie).get(name_of(visit, kind), "")
        if len(value) != _CHARS:
            return ""
        try:
            raw = base64.urlsafe_b64decode(value)
        except ValueError:
            return ""
        random, tag = raw[:_RANDOM_BYTES], raw[_RANDOM_BYTES:]
        return value if hmac.compare_digest(tag, self._tag(kind, random)) else ""

    def csrf(self, value: str) -> str:
        """Return the CSRF token of forms shown to the holder of this cookie."""
        return hmac.digest(self.secret, b"form:" + value.encode(), "sha256").hex()

    def _tag(self, kind: Kind, random: bytes) -> bytes:
        return hmac.digest(self.secret, f"cookie-{kind}:".encode() + random, "sha256")[:_TAG_BYTES]


def digest_of(value: str) -> str:
    """Return the digest that the state stores of a cookie, a link or an invitation."""
    return hashlib.sha256(value.encode()).hexdigest()


def name_of(visit: Visit, kind: Kind) -> str:
    """Return the name of a cookie, with the prefix that makes browsers enforce its attributes.

    `__Host-`: over TLS, from this host only, so that no other host of the domain can plant one. It requires the path
    `/`; if several servers share a host under prefixes, `__Secure-` and the path below the prefix separate them.
    Without TLS there are no such prefixes, and the port is in the name: browsers share cookies among ports.
    """
    tail = "" if kind == "session" else f"-{kind}"
    if not visit.is_secure:
        return f"ashore-{urlsplit(visit.base).port or 80}{tail}"
    return f"{'__Secure-' if visit.prefix else '__Host-'}ashore{tail}"


def set_cookie(visit: Visit, kind: Kind, value: str, *, strict: bool) -> str:
    """Return a `Set-Cookie` header. An empty value removes the cookie.

    Args:
        visit: Where it is set.
        kind: Its kind. Only a device cookie outlives the browser.
        value: What it holds.
        strict: `SameSite=Strict`. `Lax` is needed when people return from a provider.
    """
    bare = visit.is_secure and not visit.prefix
    path = "/" if bare else f"{visit.prefix}{CONSOLE}"
    parts = [f"{name_of(visit, kind)}={value}", f"Path={path}", "HttpOnly"]
    parts.append("SameSite=Strict" if strict else "SameSite=Lax")
    if visit.is_secure:
        parts.append("Secure")
    if not value:
        parts.append("Max-Age=0")
    elif kind == "device":
        parts.append(f"Max-Age={DEVICE_S}")
    return "; ".join(parts)


def _values(header: str) -> dict[str, str]:
    """Return the cookies of a header, the first of each name: browsers send the most specific first."""
    found: dict[str, str] = {}
    for part in header[:MOST_HEADER_CHARS].split(";"):
        name, equals, value = part.strip().partition("=")
        if equals:
            found.setdefault(name, value)
    return found
