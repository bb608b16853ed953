"""Invented values of the same form. Keyed, so that they reveal nothing without the key; taken from unassigned ranges if
there are any, so that they belong to no real person.
"""

from __future__ import annotations

import hmac
import string
from typing import Final

from ashore.data.privacy.checksums import credit_code_check, hong_kong_check, iban_check, id_card_check, luhn_check

_UPPER: Final = string.ascii_uppercase
_PLATE_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_PERSONS: Final = "甲乙丙丁戊己庚辛壬癸"
_EXAMPLES: Final = ("192.0.2", "198.51.100", "203.0.113")
"""Documentation ranges (RFC 5737), which are never routed."""


class Dice:
    """Characters drawn from a key, deterministically."""

    def __init__(self, key: bytes, *what: str) -> None:
        self._key = key
        self._what = "\x00".join(what).encode("utf-8", "surrogatepass")
        self._block = 0
        self._bytes = b""

    def below(self, bound: int) -> int:
        """Return a number from 0 to `bound` - 1; `bound` is small."""
        if len(self._bytes) < 4:
            self._bytes += hmac.digest(self._key, b"%d:" % self._block + self._what, "sha256")
            self._block += 1
        value, self._bytes = int.from_bytes(self._bytes[:4], "big"), self._bytes[4:]
        return value % bound

    def digits(self, size: int) -> str:
        """Return random digits."""
        return "".join(str(self.below(10)) for _ in range(size))

    def like(self, text: str) -> str:
        """Return a text in which each letter and digit is replaced by another of its class; the rest stays."""
        out = []
        for char in text:
            if char.isdigit():
                out.append(str(self.below(10)))
            elif char.isascii() and char.isalpha():
                drawn = _UPPER[self.below(26)]
                out.append(drawn if char.isupper() else drawn.lower())
            else:
                out.append(char)
        return "".join(out)


def pseudonym(kind: str, plain: str, key: bytes, attempt: int = 0) -> str:
    """Return the invented value for a plain one (folded, upper case, no separators where it is a number).

    Args:
        kind: Kind of the value.
        plain: The value.
        key: Secret, and different in each conversation.
        attempt: Raised if the previous result was already in use.
    """
    dice = Dice(key, kind, plain, str(attempt))
    match kind:
        case "id_card" if len(plain) == 18:
            year, month, day = 1900 + dice.below(10), 1 + dice.below(12), 1 + dice.below(28)
            body = f"99{dice.digits(4)}{year}{month:02d}{day:02d}{dice.digits(3)}"
            return body + id_card_check(body)
        case "id_card" if plain[:1].isalpha() and len(plain) in (8, 9):
            letters, digits = plain[: len(plain) - 7], dice.digits(6)
            return letters + digits + hong_kong_check(letters, digits)
        case "phone":
            return _phone(plain, dice)
        case "bank_card":
            body = "9999" + dice.digits(len(plain) - 5)
            return body + luhn_check(body)
        case "credit_code":
            body = f"{plain[:2]}99{dice.digits(4)}" + "".join(
                "0123456789ABCDEFGHJKLMNPQRTUWXY"[dice.below(31)] for _ in range(9)
            )
            return body + credit_code_check(body)
        case "iban":
            account = "0000" + dice.like(plain[4:])[4:] if plain[4:8].isdigit() else "XXXX" + dice.like(plain[8:])
            return plain[:2] + iban_check(plain[:2], account) + account
        case "ssn":
            return f"666{1 + dice.below(99):02d}{1 + dice.below(9999):04d}"
        case "email":
            return f"user{dice.digits(6)}@example.com"
        case "ip" if ":" in plain:
            return f"2001:db8::{1 + dice.below(65535):x}:{1 + dice.below(65535):x}"
        case "ip":
            return f"{_EXAMPLES[dice.below(3)]}.{1 + dice.below(254)}"
        case "mac":
            return "02" + "".join(f"{dice.below(256):02X}" for _ in range(5))
        case "plate":
            tail = "".join(
                str(dice.below(10)) if char.isdigit() else _PLATE_LETTERS[dice.below(24)] if char.isascii() else char
                for char in plain[2:]
            )
            return plain[:2] + tail
        case "name" if not plain.isascii():
            return "某" + _PERSONS[dice.below(10)] + (_PERSONS[dice.below(10)] if len(plain) > 2 or attempt else "")
        case "name":
            return f"Person {_UPPER[dice.below(26)]}{_UPPER[dice.below(26)]}"
        case _:
            return dice.like(plain)


def in_the_form_of(original: str, plain: str, invented: str) -> str:
    """Return an invented number with the separators of the original one, where both have as many characters."""
    if original == plain or len(plain) != len(invented):
        return invented
    chars = iter(invented)
    return "".join(next(chars, "") if char.isalnum() else char for char in original)


def _phone(plain: str, dice: Dice) -> str:
    """Return a number in an unassigned range."""
    national = plain[-11:]
    if len(plain) >= 11 and national[0] == "1" and national[1] in "3456789" and plain[:-11] in ("", "86", "0086"):
        return plain[:-11] + "154" + dice.digits(8)
    if len(plain) == 10 or (len(plain) == 11 and plain[0] == "1"):
        return (
            plain[:-10] + "555" + "555" + dice.digits(4)
            if dice.below(2)
            else plain[:-10] + f"{2 + dice.below(8)}{dice.digits(2)}55501{dice.digits(2)}"
        )
    keep = 3 if len(plain) > 7 else 1
    return plain[:keep] + "0" + dice.digits(len(plain) - keep - 1)
