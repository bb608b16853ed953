"""Check digits of identifiers. Each function takes characters without separators, in upper case."""

from __future__ import annotations

import string
from operator import mul
from typing import Final

_ID_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECK: Final = "10X98765432"
_CREDIT_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CREDIT_VALUE: Final = {char: value for value, char in enumerate(_CREDIT_ALPHABET)}
_CREDIT_WEIGHTS: Final = tuple(pow(3, power, 31) for power in range(17))
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_TWICE: Final = str.maketrans("0123456789", "".join(map(str, _DOUBLED)))
_VALUE: Final = {char: value for value, char in enumerate(string.digits + string.ascii_uppercase)}


def id_card_check(body: str) -> str:
    """Return the check character of the first 17 digits of a Chinese identity number (GB 11643, ISO 7064 MOD 11-2)."""
    return _ID_CHECK[sum(map(mul, _ID_WEIGHTS, map(int, body))) % 11]


def credit_code_check(body: str) -> str:
    """Return the check character of the first 17 characters of a unified social credit code (GB 32100, MOD 31)."""
    total = sum(weight * _CREDIT_VALUE[char] for weight, char in zip(_CREDIT_WEIGHTS, body, strict=True))
    return _CREDIT_ALPHABET[-total % 31]


def luhn_check(body: str) -> str:
    """Return the digit that makes `body` pass Luhn's test (ISO/IEC 7812-1)."""
    total = sum(_DOUBLED[int(digit)] for digit in body[::-2]) + sum(int(digit) for digit in body[-2::-2])
    return str(-total % 10)


def passes_luhn(number: str) -> bool:
    """Return whether a number passes Luhn's test."""
    return sum(map(int, number[::-2] + number[-2::-2].translate(_TWICE))) % 10 == 0


def iban_check(country: str, account: str) -> str:
    """Return the two check digits of an IBAN (ISO 7064 MOD 97-10)."""
    return f"{98 - _mod97(account + country + '00'):02d}"


def passes_iban(number: str) -> bool:
    """Return whether a whole IBAN passes its test."""
    return _mod97(number[4:] + number[:4]) == 1


def hong_kong_check(letters: str, digits: str) -> str:
    """Return the check character of a Hong Kong identity card: one or two letters and six digits."""
    padded = letters.rjust(2)
    values = [36 if char == " " else _VALUE[char] for char in padded] + [int(digit) for digit in digits]
    rest = -sum(value * weight for value, weight in zip(values, range(9, 1, -1), strict=True)) % 11
    return "A" if rest == 10 else str(rest)


def _mod97(text: str) -> int:
    return int("".join(str(_VALUE[char]) for char in text)) % 97
