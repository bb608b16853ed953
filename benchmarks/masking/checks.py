"""The published rules that make a number one that could have been issued."""

from __future__ import annotations

from datetime import date

USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)
_USCC_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)


def luhn_digit(body: str) -> str:
    """Return the digit that ends a card number. Source: ISO/IEC 7812-1, annex B."""
    doubled = (int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(body)))
    return str(-sum(value - 9 if value > 9 else value for value in doubled) % 10)


def luhn_holds(number: str) -> bool:
    return luhn_digit(number[:-1]) == number[-1]


def identity_digit(body: str) -> str:
    """Return the eighteenth character of a resident identity number. Source: GB 11643-1999, MOD 11-2."""
    total = sum(weight * int(digit) for weight, digit in zip(_ID_WEIGHTS, body, strict=True))
    return "10X98765432"[total % 11]


def identity_holds(number: str) -> bool:
    """Return whether check character and birth date hold."""
    if len(number) != 18 or not number[:17].isdigit() or identity_digit(number[:17]) != number[17].upper():
        return False
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    return 1900 <= born.year <= 2026


def organisation_digit(body: str) -> str:
    """Return the check character of an organisation code of eight characters. Source: GB 11714-1997."""
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    rest = -sum(weight * alphabet.index(char) for weight, char in zip(_ORGANISATION_WEIGHTS, body, strict=True)) % 11
    return "X" if rest == 10 else str(rest)


def uscc_digit(body: str) -> str:
    """Return the check character of a unified social credit code. Source: GB 32100-2015, MOD 31-3."""
    total = sum(weight * USCC_ALPHABET.index(char) for weight, char in zip(_USCC_WEIGHTS, body, strict=True))
    return USCC_ALPHABET[-total % 31]


def uscc_holds(code: str) -> bool:
    return len(code) == 18 and set(code) <= set(USCC_ALPHABET) and uscc_digit(code[:17]) == code[17]


def iban_digits(country: str, account: str) -> str:
    """Return the two digits behind the country. Source: ISO 13616, by ISO/IEC 7064 MOD 97-10."""
    number = "".join(str(int(char, 36)) for char in account + country + "00")
    return f"{98 - int(number) % 97:02d}"


def iban_holds(iban: str) -> bool:
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1
