"""Codes of letters and digits: social credit codes, IBANs, passports, travel permits, identity cards of Hong Kong,
licence plates."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import Final

from ashore.data.privacy.checksums import hong_kong_check, passes_iban
from ashore.data.privacy.model import Entity
from ashore.data.privacy.page import Page
from ashore.data.privacy.rules import is_credit_code
from ashore.data.privacy.tables import DEPARTMENTS, IBAN_SIZES, PLATE_PLACES, PROVINCES

_GAP: Final = r"(?:[ .·\-]| ?-?\r?\n)?"
_RUN: Final = re.compile("[0-9][0-9]*")
_CREDIT: Final = re.compile(
    rf"(?<![0-9A-Za-z])[1-9ANYany]{_GAP}[1-9]{_GAP}[0-9](?:{_GAP}[0-9]){{5}}"
    rf"(?:{_GAP}[0-9A-HJ-NP-RTUW-Ya-hj-np-rtuw-y]){{10}}(?![0-9A-Za-z])"
)
_CREDIT_WORDS: Final = re.compile(r"信用代码|税号|uscc|credit code|tax", re.IGNORECASE)
_DATES: Final = re.compile(r"(?:19|20)[0-9]{2}[- ][01][0-9][- ][0-3][0-9]")
_MORE_DIGITS: Final = re.compile(r"[ .·\-][0-9]")
_WORD: Final = re.compile(r"(?<![0-9A-Za-z])[a-z]{3,}(?![0-9A-Za-z])")

_IBAN: Final = re.compile(rf"(?<![0-9A-Za-z])(?:[A-Z]{{2}}|[a-z]{{2}}){_GAP}[0-9]{_GAP}[0-9](?={_GAP}[A-Za-z0-9])")

_DOCUMENT: Final = re.compile(
    r"(?<![0-9A-Za-z])[A-Za-z]{1,2}[ \-]?[0-9]{2}(?:[ \-]?[0-9]){4,8}(?:[ ]?[(（][0-9A-Za-z][)）])?(?![0-9A-Za-z])"
)
_E_PASSPORT: Final = re.compile(r"(?<![0-9A-Za-z])[Ee][ \-]?[A-HJ-NP-Za-hj-np-z](?:[ \-]?[0-9]){7}(?![0-9A-Za-z])")
_C_PERMIT: Final = re.compile(r"(?<![0-9A-Za-z])[CWcw][A-Za-z]?(?:[ \-]?[0-9]){7,8}(?![0-9A-Za-z])")
_PASSPORT_WORDS: Final = re.compile(r"护照|passport|旅行证件", re.IGNORECASE)
_PERMIT_WORDS: Final = re.compile(r"通行证|回乡证|台胞证|往来|permit|证件", re.IGNORECASE)
_PASSPORT_NEAR: Final = re.compile(r"(?:护照|passport|旅行证件)[^0-9\n]{0,14}\Z", re.IGNORECASE)
_ID_NEAR: Final = re.compile(
    r"(?:身份证|身分證|證件|hkid|identity card|(?<![A-Za-z])id)[^0-9\n]{0,10}\Z", re.IGNORECASE
)
_PRODUCT_WORDS: Final = re.compile(
    r"(?:型号|编号|料号|序列号|单号|批号|货号|版本|model|part|sku|serial|order|version|batch|no\.?)[ :：#=\-]*\Z",
    re.IGNORECASE,
)
_PRODUCT_ENDS: Final = frozenset("号本ltuurnho.LTURNHO")
"""How the words of `_PRODUCT_WORDS` end."""

_PLATE: Final = re.compile(
    rf"[{PLATE_PLACES}][ ]?[A-HJ-NP-Za-hj-np-z]"
    r"[ ]?[·.\-]?[ ]?((?:[A-HJ-NP-Za-hj-np-z0-9][ \-·]?){4}"
    r"(?:[A-HJ-NP-Za-hj-np-z0-9](?:[ \-·]?[A-HJ-NP-Za-hj-np-z0-9])?|[挂学警港澳领]))"
    r"(?![0-9A-Z]|(?<=[A-Za-z])[a-z])"
)
_GAPS_OF: Final = re.compile(r"[^0-9A-Za-z]+")
_GAPS: Final = frozenset(" .·-\r\n")
_LETTERS: Final = frozenset(string.ascii_letters)
_ALNUM: Final = frozenset(string.ascii_letters + string.digits)
_CREDIT_HEADS: Final = DEPARTMENTS | {digit + gap for digit in "123456789" for gap in _GAPS}
"""How a credit code may begin that has a digit first."""
_ONE_GAP: Final = re.compile(_GAP)
_SEPARATORS: Final = re.compile(r"[^0-9A-Za-z挂学警港澳领]")
_NEW_ENERGY: Final = re.compile(r"[A-HJK][A-HJ-NP-Z0-9][0-9]{4}|[0-9]{5}[A-HJK]")


def find_codes(page: Page) -> list[Entity]:
    """Return codes. Each has digits near its beginning: the search starts there and reads backwards."""
    text = page.text
    found: list[Entity] = []
    size = len(text)
    for run in _RUN.finditer(text):
        start, end = run.span()
        if text[start : start + 2] in _CREDIT_HEADS and (end - start > 7 or (end < size and text[end] in _GAPS)):
            region = text[start + 2 : start + 4]
            if end - start < 4 or region in PROVINCES or region == "10":
                _credit_code(page, start, found)
        if start < 1:
            continue
        last = start - 1
        sign = text[last]
        if sign in " -" and last:
            last -= 1
            sign = text[last]
        if sign not in _LETTERS:
            continue
        first = last - 1 if last and text[last - 1] in _LETTERS else last
        if first and text[first - 1] in _ALNUM:
            continue
        if first == last:
            if sign in "ANYany":
                _credit_code(page, last, found)
        elif text[first : last + 1].upper() in IBAN_SIZES:
            _iban(page, first, found)
        if end - start > 5 or (end < size and text[end] in " -"):
            found.extend(_documents(page, first))
    return found


def _credit_code(page: Page, start: int, found: list[Entity]) -> None:
    code = _CREDIT.match(page.text, start)
    if code is not None and _is_whole_code(page, code) and is_credit_code(_bare(code[0])):
        found.append(page.entity("credit_code", start, code.end()))


def _iban(page: Page, start: int, found: list[Entity]) -> None:
    if _IBAN.match(page.text, start):
        end = _iban_end(page.text, start)
        if end and not page.glued(start, end):
            found.append(page.entity("iban", start, end))


def _documents(page: Page, first: int) -> Iterator[Entity]:
    text = page.text
    found = _DOCUMENT.match(text, first)
    if found:
        kind = _document(page, found)
        if kind:
            yield page.entity(kind, found.start(), found.end())
    found = _E_PASSPORT.match(text, first)
    if found and not _says_product(page.before(first)):
        yield page.entity("passport", found.start(), found.end())
    found = _C_PERMIT.match(text, first)
    if found and len(_bare(found[0])) == 9 and _says_permit(page, *found.span()):
        yield page.entity("travel_permit", found.start(), found.end())


def _says_product(before: str) -> bool:
    return before.rstrip(" :：#=-")[-1:] in _PRODUCT_ENDS and _PRODUCT_WORDS.search(before) is not None


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


def _is_whole_code(page: Page, found: re.Match[str]) -> bool:
    """Return whether a code with separators is neither part of a longer number nor words of a sentence."""
    code = found[0]
    if code.isalnum():
        return True
    if _MORE_DIGITS.match(page.text, found.end()) or len(set(_GAPS_OF.findall(code))) > 1:
        return False
    if code not in (code.upper(), code.lower()):  # `1234 5678 x E12345678`
        return False
    return not _WORD.search(code) or " " not in code or bool(_CREDIT_WORDS.search(page.before(found.start())))


def _bare(text: str) -> str:
    return text.upper() if text.isalnum() else _GAPS_OF.sub("", text).upper()


def _says_permit(page: Page, start: int, end: int) -> bool:
    around = page.around(start, end)
    worth = "证" in around or "往来" in around or "permit" in around.lower()
    return worth and _PERMIT_WORDS.search(around) is not None


def _iban_end(text: str, start: int) -> int:
    """Return the end of the IBAN that begins at `start`; 0 if there is none."""
    size = IBAN_SIZES.get(text[start : start + 2].upper(), 0)
    joined = text[start : start + size]
    whole = joined.isascii() and joined.isalnum()
    chars = list(joined) if whole else []
    at, width = start + len(chars), 0
    while at < len(text) and len(chars) < size:
        char = text[at]
        if char.isascii() and char.isalnum():
            chars.append(char)
            at, width = at + 1, width + 1
            continue
        gap = _ONE_GAP.match(text, at)
        if gap is None or not gap[0] or width % 4:  # groups are of four characters
            return 0
        at, width = gap.end(), 0
    if not size or len(chars) < size or (at < len(text) and text[at].isascii() and text[at].isalnum()):
        return 0
    return at if passes_iban("".join(chars).upper()) else 0


def _document(page: Page, found: re.Match[str]) -> str:
    """Return the kind of a document number of one or two letters and digits, empty if no label identifies it."""
    bare = _bare(found[0])
    letters = found[0][: 2 if bare[1].isalpha() else 1]
    digits = bare[len(letters) :]
    start, end = found.span()
    if found[0][-1] in ")）":
        whole = len(digits) == 7 and digits[:6].isdigit()
        return "id_card" if whole and hong_kong_check(letters.upper(), digits[:6]) == digits[6] else ""
    joined = found[0].isalnum()
    before, low = page.before(start), page.low_before(start)
    named = "护照" in low or "passport" in low or "旅行证件" in low  # the few that are worth an expression
    if joined and ((named and _PASSPORT_NEAR.search(before)) or _PASSPORT_WORDS.search(page.text[end : end + 8])):
        return "passport" if 6 <= len(digits) <= 9 else ""
    if joined and ("id" in low or "证" in low or "證" in low) and _ID_NEAR.search(before):
        if len(digits) == 7 and hong_kong_check(letters.upper(), digits[:6]) == digits[6]:
            return "id_card"
        if len(letters) == 1 and len(digits) == 9 and digits[0] in "1289":
            return "id_card"
    if _says_permit(page, start, end):
        if letters.upper() in ("H", "M") and len(digits) in (8, 10):
            return "travel_permit"
        if letters.upper() in ("C", "W", "L", "T") and len(digits) == 8:
            return "travel_permit"
    if _says_product(before) or page.text[end : end + 1] in ("-", "/", "_"):
        return ""
    if not joined and not (letters.isupper() and found[0][len(letters)].isdigit() and not _DATES.search(found[0])):
        return ""
    if letters.upper() in ("D", "E", "G", "P", "S") and len(digits) == 8:
        return "passport"
    return (
        "passport"
        if letters.upper() in ("DE", "SE", "PE") and len(digits) == 7 and _PASSPORT_WORDS.search(before)
        else ""
    )
