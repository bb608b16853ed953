"""The second factor: time-based codes (RFC 6238) and recovery codes. Pure, except for random new secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final
from urllib.parse import quote, urlencode

SECRET_BYTES: Final = 20
"""RFC 4226 recommends 160 bits."""
DIGITS: Final = 6
STEP_S: Final = 30
DRIFT: Final = 1
"""Steps before and after this one whose codes are taken: clocks of telephones differ."""
NUM_RECOVERY: Final = 10
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without characters that look alike."""
_CHARS: Final = 16
"""Of a recovery code: 79 bits, so that a plain digest of it can be kept."""


def new_secret() -> bytes:
    """Return a new secret to share with an authenticator."""
    return secrets.token_bytes(SECRET_BYTES)


def written(secret: bytes) -> str:
    """Return a secret for typing: base32 in groups of four."""
    text = base64.b32encode(secret).decode().rstrip("=")
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def uri_of(secret: bytes, *, account: str, issuer: str) -> str:
    """Return the URI of the QR code for authenticators.

    Source: Google Authenticator, Key Uri Format. SHA-1 is what all of them support; it is used as an HMAC here.
    """
    label = quote(f"{issuer}:{account}", safe="")
    query = {
        "secret": base64.b32encode(secret).decode().rstrip("="), "issuer": issuer, "algorithm": "SHA1",
        "digits": str(DIGITS), "period": str(STEP_S),
    }  # fmt: skip
    return f"otpauth://totp/{label}?{urlencode(query, quote_via=quote)}"


def code_at(secret: bytes, step: int) -> str:
    """Return the code of a step, six digits."""
    from cryptography.hazmat.primitives.hashes import SHA1
    from cryptography.hazmat.primitives.twofactor.totp import TOTP

    return TOTP(secret, DIGITS, SHA1(), STEP_S).generate(step * STEP_S).decode()


def step_of(secret: bytes, code: str, now_s: float, *, after: int) -> int | None:
    """Return the step that a code belongs to; None: it is wrong, or not newer than the used step `after`.

    Compares every candidate, so that the timing reveals nothing.
    """
    now = int(now_s) // STEP_S
    found = None
    for step in range(now - DRIFT, now + DRIFT + 1):
        right = hmac.compare_digest(code_at(secret, step).encode(), code.encode())
        if right and step > after and found is None:
            found = step
    return found


def is_code(text: str) -> bool:
    """Return whether a text has the form of an authenticator code."""
    return len(text) == DIGITS and text.isascii() and text.isdigit()


def new_recovery_codes() -> tuple[str, ...]:
    """Return new one-time recovery codes."""
    return tuple(_spaced("".join(secrets.choice(_ALPHABET) for _ in range(_CHARS))) for _ in range(NUM_RECOVERY))


def digest_of_recovery(code: str) -> str:
    """Return the stored digest of a recovery code; spaces, dashes and case do not matter."""
    plain = "".join(char for char in code.casefold() if char.isalnum())
    return hashlib.sha256(f"recovery:{plain}".encode()).hexdigest()


def _spaced(code: str) -> str:
    return "-".join(code[at : at + 4] for at in range(0, len(code), 4))
