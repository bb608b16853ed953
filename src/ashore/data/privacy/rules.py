"""Checks that digits are a card, an identity number or a code. Pure; characters without separators, in upper case."""

from __future__ import annotations

from typing import Final

from ashore.data.privacy.checksums import credit_code_check, id_card_check, passes_luhn
from ashore.data.privacy.tables import DEPARTMENTS, PROVINCES

_LAST_DAY: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
CREDIT_CHARS: Final = frozenset("0123456789ABCDEFGHJKLMNPQRTUWXY")


def is_region(digits: str) -> bool:
    """Return whether a number begins with the code of a region."""
    return digits[:2] in PROVINCES


def is_birthday(digits: str) -> bool:
    """Return whether eight digits are a possible birthday of a living person."""
    year, month, day = int(digits[:4]), int(digits[4:6]), int(digits[6:8])
    if not (1850 <= year <= 2099 and 1 <= month <= 12 and 1 <= day <= _LAST_DAY[month - 1]):
        return False
    return not (month == 2 and day == 29 and (year % 4 or (year % 100 == 0 and year % 400)))


def is_id_card(number: str) -> bool:
    """Return whether 18 characters are an identity number: region, birthday and check character."""
    return is_region(number) and is_birthday(number[6:14]) and id_card_check(number[:17]) == number[17]


def is_credit_code(code: str) -> bool:
    """Return whether 18 characters are a unified social credit code."""
    if code[:2] not in DEPARTMENTS or (code[2:4] not in PROVINCES and code[2:4] != "10"):
        return False
    return set(code) <= CREDIT_CHARS and code[2:8].isdigit() and credit_code_check(code[:17]) == code[17]


def is_bank_card(digits: str) -> bool:
    """Return whether digits are a card number: the prefix and length of an issuer, and Luhn's test."""
    return _issued(digits) and passes_luhn(digits) and len(set(digits)) > 1


def is_ssn(digits: str) -> bool:
    """Return whether nine digits may have been issued by the Social Security Administration."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


def _issued(digits: str) -> bool:
    size, head = len(digits), int(digits[:4])
    match digits[0]:
        case "4":
            return size in (13, 16, 18, 19)
        case "5":
            return size == 16 if 5100 <= head <= 5599 else 16 <= size <= 19
        case "2":
            return size == 16 and 2221 <= head <= 2720
        case "3":
            if digits[:2] in ("34", "37"):
                return size == 15
            if digits[:2] in ("36", "38", "39") or 3000 <= head <= 3059:
                return 14 <= size <= 19
            return (16 <= size <= 19 and 3500 <= head <= 3589) or (size in (16, 19) and digits[:2] in ("35", "30"))
        case "6":
            return 16 <= size <= 19
        case "8" | "9":
            return 16 <= size <= 19
        case _:
            return False
