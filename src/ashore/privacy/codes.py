"""Codes of letters and digits: social credit codes, IBANs, passports, travel permits, identity cards of Hong Kong,
licence plates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ashore.privacy.checksums import hong_kong_check, passes_iban
from ashore.privacy.model import Entity
from ashore.privacy.page import Page
from ashore.privacy.rules import is_credit_code
from ashore.privacy.tables import IBAN_SIZES, PLATE_PLACES

_CREDIT: Final = re.compile(
    r"(?<![0-9A-Za-z])[1-9ANYany][0-9A-Ha-h](?:[ \-.]?[0-9]){6}"
    r"(?:[ \-.]?[0-9A-HJ-NP-RTUW-Ya-hj-np-rtuw-y]){10}(?![0-9A-Za-z])"
)
_IBAN: Final = re.compile(r"(?<![0-9A-Za-z])[A-Z]{2}[ \-]?[0-9]{2}(?=[ \-.]?[A-Za-z0-9])")
_IBAN_ANY_CASE: Final = re.compile(r"(?<![0-9A-Za-z])[A-Za-z]{2}[ \-]?[0-9]{2}(?=[ \-.]?[A-Za-z0-9])")
_DOCUMENT: Final = re.compile(
    r"(?<![0-9A-Za-z])[A-Za-z]{1,2}[ \-]?[0-9]{2}(?:[ \-]?[0-9]){4,8}(?:[ ]?[(（][0-9A-Za-z][)）])?(?![0-9A-Za-z])"
)
_E_PASSPORT: Final = re.compile(r"(?<![0-9A-Za-z])[Ee][ \-]?[A-HJ-NP-Za-hj-np-z](?:[ \-]?[0-9]){7}(?![0-9A-Za-z])")
_C_PERMIT: Final = re.compile(r"(?<![0-9A-Za-z])[CWcw][A-Za-z]?(?:[ \-]?[0-9]){7,8}(?![0-9A-Za-z])")
_PASSPORT_WORDS: Final = re.compile(r"护照|passport|旅行证件", re.IGNORECASE)
_PERMIT_WORDS: Final = re.compile(r"通行证|回乡证|台胞证|往来|permit|证件", re.IGNORECASE)
_ID_WORDS: Final = re.compile(r"身份证|身分證|證件|hkid|identity card|\bid (?:card|no|number)", re.IGNORECASE)
_PRODUCT_WORDS: Final = re.compile(
    r"(?:型号|编号|料号|序列号|单号|批号|货号|版本|model|part|sku|serial|order|version|batch|no\.?)[ :：#=\-]*\Z",
    re.IGNORECASE,
)

_PLATE: Final = re.compile(
    rf"(?<![0-9A-Za-z])[{PLATE_PLACES}][ ]?[A-HJ-NP-Za-hj-np-z]"
    r"[ ]?[·.\-]?[ ]?((?:[A-HJ-NP-Za-hj-np-z0-9][ \-·]?){4}"
    r"(?:[A-HJ-NP-Za-hj-np-z0-9](?:[ \-·]?[A-HJ-NP-Za-hj-np-z0-9])?|[挂学警港澳领]))"
    r"(?![0-9A-Za-z])"
)
_SEPARATORS: Final = re.compile(r"[^0-9A-Za-z挂学警港澳领]")
_NEW_ENERGY: Final = re.compile(r"[A-HJK][A-HJ-NP-Z0-9][0-9]{4}|[0-9]{5}[A-HJK]")


def find_codes(page: Page) -> Iterator[Entity]:
    """Yield codes."""
    text = page.text
    for found in _CREDIT.finditer(text):
        code = found[0]
        if (code.isalnum() or code == code.upper()) and is_credit_code(_bare(code)):
            yield page.entity("credit_code", found.start(), found.end())
    pattern = _IBAN_ANY_CASE if "iban" in text.lower() else _IBAN
    for found in pattern.finditer(text):
        end = _iban_end(text, found.start())
        if end:
            yield page.entity("iban", found.start(), end)
    for found in _DOCUMENT.finditer(text):
        kind = _document(page, found)
        if kind:
            yield page.entity(kind, found.start(), found.end())
    for found in _E_PASSPORT.finditer(text):
        if not _PRODUCT_WORDS.search(page.before(found.start())):
            yield page.entity("passport", found.start(), found.end())
    for found in _C_PERMIT.finditer(text):
        if len(_bare(found[0])) == 9 and _PERMIT_WORDS.search(page.around(*found.span())):
            yield page.entity("travel_permit", found.start(), found.end())


def find_plates(page: Page) -> Iterator[Entity]:
    """Yield licence plates."""
    for found in _PLATE.finditer(page.text):
        tail = _SEPARATORS.sub("", found[1]).upper()
        digits = sum(char.isdigit() for char in tail)
        if (len(tail) == 6 and _NEW_ENERGY.fullmatch(tail)) or (len(tail) == 5 and digits >= 2):
            yield page.entity("plate", found.start(), found.end())
        elif len(tail) == 6 and " " in found[1] and sum(char.isdigit() for char in tail[:5]) >= 2:
            cut = found.start(1) + found[1].rindex(" ")
            if len(_SEPARATORS.sub("", page.text[found.start(1) : cut])) == 5:
                yield page.entity("plate", found.start(), cut)


def _bare(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", text).upper()


def _iban_end(text: str, start: int) -> int:
    """Return the end of the IBAN that begins at `start`; 0: there is none."""
    size = IBAN_SIZES.get(text[start : start + 2].upper(), 0)
    chars: list[str] = []
    at = start
    gap = 0
    while at < len(text) and len(chars) < size:
        char = text[at]
        if char.isascii() and char.isalnum():
            chars.append(char)
            gap = 0
        elif char in " -." and not gap:
            gap = 1
        else:
            return 0
        at += 1
    if not size or len(chars) < size or (at < len(text) and text[at].isascii() and text[at].isalnum()):
        return 0
    return at if passes_iban("".join(chars).upper()) else 0


def _document(page: Page, found: re.Match[str]) -> str:
    """Return the kind of a letter or two with digits behind, empty where nothing says what it is."""
    bare = _bare(found[0])
    letters = bare[: 2 if bare[1].isalpha() else 1]
    digits = bare[len(letters) :]
    bracketed = found[0][-1] in ")）"
    if bracketed:
        return (
            "id_card"
            if len(digits) == 7 and digits[:6].isdigit() and hong_kong_check(letters, digits[:6]) == digits[6]
            else ""
        )
    around = page.around(*found.span())
    if len(digits) == 7 and _ID_WORDS.search(around) and hong_kong_check(letters, digits[:6]) == digits[6]:
        return "id_card"
    if len(letters) == 1 and len(digits) == 9 and digits[0] in "1289" and _ID_WORDS.search(around):
        return "id_card"
    if _PASSPORT_WORDS.search(around) and 6 <= len(digits) <= 9:
        return "passport"
    if letters in ("H", "M") and len(digits) in (8, 10) and _PERMIT_WORDS.search(around):
        return "travel_permit"
    if letters in ("C", "W", "L", "T") and len(digits) == 8 and _PERMIT_WORDS.search(around):
        return "travel_permit"
    if _PRODUCT_WORDS.search(page.before(found.start())):
        return ""
    if (letters in ("E", "G") and len(digits) == 8) or (letters in ("DE", "SE", "PE") and len(digits) == 7):
        return "passport"
    return ""
