"""Telephone numbers: Chinese mobiles and landlines, those of the United States and the United Kingdom, and E.164."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ashore.data.privacy.page import Page, Runs, stands_free
from ashore.data.privacy.tables import AREAS, COUNTRIES, REGIONS

_CONTEXT: Final = re.compile(
    r"(?:电话|手机|联系|致电|拨打|号码|座机|热线|传真"
    r"|tel|phone|call|mobile|cell|fax|contact|whatsapp|sms|dial|reach)[^0-9\n。？！?!;；]{0,14}\Z",
    re.IGNORECASE,
)
_PLUS: Final = re.compile(
    r"(?<![0-9A-Za-z+)）])\+ ?[(（]?[1-9](?:[ \-.·/]{0,2}[(（]?0?[)）]?[ \-.·]?[0-9]){6,18}(?![0-9A-Za-z+])"
)
_EXTENSION: Final = re.compile(r"(?: ?(?:转|分机|ext\.?|x|-) ?)[0-9]{1,5}(?!-?[0-9A-Za-z]| [0-9])", re.IGNORECASE)

_LOCAL_CONTEXT: Final = re.compile(r"(?:座机|固话|电话|传真)(?:号码)?(?:[:：是为]| ?[:：] ?)\Z")
_LOCAL_ENDS: Final = frozenset(":：是为 ")
"""How what `_LOCAL_CONTEXT` finds may end."""
_CHINA: Final = ("86", "0086")


def phone_of(page: Page, digits: str, runs: Runs) -> tuple[int, int, bool] | None:
    """Return the position of the telephone number in these digits, and whether its form alone identifies it."""
    size = len(digits)
    if size < 9:
        return _local(page, digits, runs)
    core = country = ""
    for code in _CHINA:
        if digits.startswith(code) and size - len(code) in (10, 11, 12):
            core, country = digits[len(code) :], code
            break
    if not country and (size not in (10, 11, 12) or not _may_be_dialled(digits)):
        return None
    start, end = runs[0][0], runs[-1][1]
    text = page.text
    widths = width = tuple([e - s for s, e in runs])
    if country:
        width = widths[1:] if widths[0] == len(country) else (widths[0] - len(country), *widths[1:])
    else:
        core = digits
    plus = start > 0 and text[start - 1] == "+"
    if _is_mobile(core) and _mobile_groups(width) and _alike(text, runs):
        if page.glued(start, end) or not stands_free(text, runs):
            return None
        return start - plus, end, bool(country) or len(runs) > 1
    if (plus and not country) or page.glued(start, end):
        return None
    if not stands_free(text, runs, next_width=0):
        return None
    bracket = (
        start > 0
        and text[start - 1] in "(（"
        and any(text[s - 1] in ")）" or text[s - 2] in ")）" for s, _ in runs[1:])
    )
    first = start - 1 if bracket else start
    if country == "86" and not plus and len(runs) == 1:
        return None
    if country:
        core = "0" + core if not core.startswith("0") else core
    if _is_landline(core, runs if not country else [(0, 0)], bracket or bool(country)):
        extension = _EXTENSION.match(text, end)
        return first - plus, extension.end() if extension else end, len(runs) > 1
    if plus or not stands_free(text, runs):
        return None
    if _is_american(page, digits, widths, runs, bracket):
        return first, end, True
    if _is_british(digits, widths, bracket) and not any("(" in gap or "（" in gap for gap in _gaps(text, runs)):
        return first, end, True
    if widths in ((4, 3, 3), (4, 6)) and digits.startswith("09") and len(digits) == 10:
        return first, end, True
    return None


def _local(page: Page, digits: str, runs: Runs) -> tuple[int, int, bool] | None:
    """Return the position of a number without an area code, if a label directly precedes it."""
    start, end = runs[0][0], runs[-1][1]
    if digits[0] not in "2345678" or not start or page.text[start - 1] not in _LOCAL_ENDS:
        return None
    if tuple([e - s for s, e in runs]) not in ((8,), (4, 4), (7,), (3, 4)):
        return None
    return (start, end, True) if _LOCAL_CONTEXT.search(page.before(start)) and not page.glued(start, end) else None


def international(text: str) -> Iterator[tuple[int, int]]:
    """Yield the positions of numbers with a plus sign."""
    at = text.find("+")
    while at >= 0:
        found = _PLUS.match(text, at)
        end = _international_end(found[0]) if found else 0
        if end:
            yield at, at + end
            at += end - 1
        at = text.find("+", at + 1)


def _international_end(written: str) -> int:
    """Return the length of the number after a plus sign, 0 if there is none: the last groups may belong to others."""
    end = len(written)
    while end:
        digits = "".join(char for char in written[:end] if char.isdigit())
        known = digits[:1] in ("1", "7") or digits[:2] in COUNTRIES or digits[:2] in REGIONS
        if not known or len(digits) < 8:
            return 0
        if len(digits) <= 15 and (digits[0] != "1" or len(digits) == 11):
            return end
        while end and written[end - 1].isdigit():
            end -= 1
        while end and not written[end - 1].isdigit():
            end -= 1
    return 0


def _may_be_dialled(digits: str) -> bool:
    """Return whether ten to twelve digits begin like a number without country code: of China, Britain or America."""
    return digits[0] in "01" or (len(digits) == 10 and digits[0] in "23456789" and digits[3] in "23456789")


def _is_mobile(digits: str) -> bool:
    return len(digits) == 11 and digits[0] == "1" and digits[1] in "3456789"


def _mobile_groups(widths: tuple[int, ...]) -> bool:
    if len(widths) == 1 or set(widths) == {1} or widths in ((3, 4, 4), (3, 8), (7, 4), (4, 4, 3), (4, 3, 4), (3, 3, 5)):
        return True
    return widths in ((5, 6), (6, 5), (3, 5, 3), (4, 7), (8, 3), (3, 2, 2, 2, 2), (1, 2, 4, 4), (5, 3, 3), (3, 2, 3, 3))


def _alike(text: str, runs: Runs) -> bool:
    return len(runs) < 4 or len(_gaps(text, runs)) <= 2


def _gaps(text: str, runs: Runs) -> set[str]:
    return {text[runs[i][1] : runs[i + 1][0]] for i in range(len(runs) - 1)}


def _is_landline(digits: str, runs: Runs, sure: bool) -> bool:
    if digits[0] != "0" or len(digits) > 12:
        return False
    area = 3 if digits[1] in "12" else 4
    local = digits[area:]
    if area == 3 and (digits[:3] not in ("010", *(f"02{n}" for n in "012345789")) or len(local) != 8):
        return False
    if area == 4 and (digits[:3] not in AREAS or len(local) not in (7, 8)):
        return False
    if local[0] not in "2345678" and not (local[0] == "9" and len(runs) > 1):
        return False
    first = runs[0][1] - runs[0][0]
    return sure or len(runs) == 1 or first == area or (len(runs) > 1 and first > area)


def _is_american(page: Page, digits: str, widths: tuple[int, ...], runs: Runs, bracket: bool) -> bool:
    if len(digits) == 11 and digits[0] == "1" and widths in ((1, 3, 3, 4), (1, 3, 7)):
        digits = digits[1:]
        widths = widths[1:]
    if len(digits) != 10 or digits[0] not in "23456789" or digits[3] not in "23456789":
        return False
    if digits[1:3] == "11":
        return False
    gaps = _gaps(page.text, runs)
    if len(gaps) > 1 and any("." in gap or "·" in gap for gap in gaps):
        return False
    if widths == (3, 3, 4) or (bracket and widths in ((3, 7), (3, 3, 4))):
        return True
    return widths in ((10,), (3, 7), (6, 4)) and bool(_CONTEXT.search(page.before(runs[0][0])))


def _is_british(digits: str, widths: tuple[int, ...], bracket: bool) -> bool:
    if len(digits) != 11 or digits[0] != "0":
        return False
    if digits[1] == "7" and digits[2] in "123456789":
        return widths in ((11,), (5, 6), (5, 3, 3), (4, 3, 4))
    if digits[1] == "2":
        return widths in ((3, 4, 4), (3, 8))
    return digits[1] == "1" and widths in ((5, 6), (4, 3, 4), (5, 3, 3)) and (bracket or len(widths) > 1)
