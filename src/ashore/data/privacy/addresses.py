"""Postal addresses: a street with a number, and its surroundings. Anchored at the number, so that long texts stay
cheap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ashore.data.privacy.model import Entity
from ashore.data.privacy.page import Page
from ashore.data.privacy.tables import PLACES

_NUMERAL: Final = "0-9一二三四五六七八九十百零〇"
_ANCHOR: Final = re.compile(
    rf"(?:路|街|大道|巷|弄|胡同|里|村|大街|道|园|苑|小区|新村|花园|公寓|广场|大厦|中心|镇|乡|屯|组)(?:[东南西北中]段)?[{_NUMERAL}]{{1,5}}(?:-[0-9]{{1,4}})?"
    rf"(?:号院?|弄|组|栋|幢|座|甲|乙)"
)
_ESTATE: Final = (
    r"(?:(?!电话|手机|联系|邮编|邮箱|收件|收货|请|的|是|在|与|和|及|有|附近|对面)"
    r"[\u4e00-\u9fff]{2,8}?(?=[，。；、,;\s）)]|\Z|[0-9A-Z]))?"
)
"""The name of an estate or a building."""
_TAIL: Final = re.compile(
    rf"(?:[，, ]?{_ESTATE}"
    rf"(?:[A-Za-z{_NUMERAL}]{{1,5}}(?:-[0-9]{{1,4}})?(?:号楼?|栋|幢|座|单元|室|层|楼|弄|户|房)){{1,6}})"
    rf"(?:[0-9]{{2,4}}室?)?|{_ESTATE[:-1]}|-?[0-9]{{1,4}}(?:-[0-9]{{1,4}}){{0,2}}室?"
)
_ADMIN: Final = re.compile(r"省|自治区|市|自治州|区|县|旗|镇|乡|街道|村|盟")
_WALK: Final = re.compile(r"[\u4e00-\u9fff0-9A-Za-z]{1,48}\Z")
_LEAD: Final = re.compile(
    r".*(?:地址|住址|住在|家住|位于|住所|寄到|送到|寄往|送往|寄至|送至|发往|发到|搬到"
    r"|来到|前往|地点|住|在|到|往|于|至|是|为|址)(?=[\u4e00-\u9fff])"
)
_PLACE: Final = re.compile("|".join(PLACES))

_STREET: Final = re.compile(
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Way|Place|Pl|Terrace|Square|Sq|Parkway"
    r"|Pkwy|Highway|Hwy|Circle|Close|Crescent)(?![A-Za-z])\.?"
)
_HOUSE: Final = re.compile(
    r"(?<![0-9A-Za-z.,-])[0-9]{1,5}[A-Za-z]?(?:-[0-9]{1,4})?(?: (?:[NSEW]\.?|North|South|East|West))?"
    r"(?: [A-Z0-9][A-Za-z0-9'’.-]{0,20}){1,4} \Z"
)
_CITY: Final = re.compile(
    r"(?:,? ?(?:Apt|Apartment|Suite|Ste|Unit|Floor|Fl|#)\.? ?#?[A-Za-z0-9-]{1,6})?"
    r"(?:, ?[A-Z][A-Za-z.'’ -]{1,30})?(?:,? [A-Z]{2}(?: [0-9]{5}(?:-[0-9]{4})?)?"
    r"|,? [A-Z]{1,2}[0-9][0-9A-Z]? ?[0-9][A-Z]{2})?(?![A-Za-z0-9])"
)


def find_addresses(page: Page) -> Iterator[Entity]:
    """Yield postal addresses."""
    text = page.text
    if not text.isascii():
        for anchor in _ANCHOR.finditer(text):
            start = _start(text, anchor.start() + 1)
            tail = _TAIL.match(text, anchor.end())
            end = tail.end() if tail else anchor.end()
            if end - start >= 6:
                yield page.entity("address", start, end)
    for street in _STREET.finditer(text):
        house = _HOUSE.search(text, max(0, street.start() - 60), street.start())
        if house is not None:
            city = _CITY.match(text, street.end())
            yield page.entity("address", house.start(), city.end() if city else street.end())


def _start(text: str, end: int) -> int:
    """Return where the address begins whose street ends at `end`."""
    walk = _WALK.search(text, max(0, end - 48), end)
    if walk is None:
        return end
    start, words = walk.start(), walk[0]
    place = _PLACE.search(words)
    if place is not None and (_ADMIN.search(words, place.end()) or len(words) - place.end() < 12):
        return start + place.start()
    lead = _LEAD.match(words)
    if lead is not None:
        start, words = start + lead.end(), words[lead.end() :]
    admin = _ADMIN.search(words)
    if admin is not None:
        return start + max(0, admin.start() - 4)
    return max(start, end - 6)
