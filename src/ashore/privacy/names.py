"""Names of people, where a title or a label says that they are names. A name that stands alone is not found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ashore.privacy.model import Entity
from ashore.privacy.page import Page
from ashore.privacy.tables import COMMON_SURNAMES, COMPOUND_SURNAMES, NOT_ENGLISH_NAMES, NOT_NAMES, SURNAMES

_TITLES: Final = (
    "先生|女士|小姐|太太|夫人|老师|医生|大夫|医师|护士|教授|博士|律师|法官|警官|经理|总监|主任|主管|总经理|董事长|总裁|处长|科长|局长"
    "|部长|院长|校长|所长|站长|队长|组长|厂长|店长|行长|书记|秘书|会计|工程师|工|总|董|老板|师傅|同学|同志|阿姨|叔叔|大爷|奶奶"
)
_TITLED: Final = re.compile(rf"([\u4e00-\u9fff]{{1,4}}?)({_TITLES})")
_TITLE: Final = re.compile(_TITLES.replace("|工|总|董", ""))
_SHORT_TITLE: Final = re.compile(r"(?:总|工|董)(?=[，。！？、：:,!?\s（(）)]|$|好|您|的|和|与|在|说|请|来|已|将)")
_LABEL: Final = re.compile(
    r"(?:姓名|名字|联系人|收件人|收货人|寄件人|发件人|户名|持卡人|患者|病人|申请人|被保险人|投保人|法定代表人|法人代表|经办人|负责人|客户姓名|称呼|开户人|乘客|旅客|员工|当事人|证人|原告|被告)"
    r"(?:姓名|名称)?(?: ?[:：是为叫] ?|\s{1,2}|[“「\"])(?=[\u4e00-\u9fff])"
    r"|(?:我叫|我是|名叫|本人|名字叫|他叫|她叫)(?=[\u4e00-\u9fff])"
)
_CHINESE: Final = re.compile(r"[\u4e00-\u9fff]+(?:·[\u4e00-\u9fff]+)*")
_NO_GIVEN: Final = frozenset(
    "的了是在和与及或有不也都就这那为从向到给对把被让等各每某们个位名全体所其该本此之于以因但而如若则么吗呢吧啊很最更请您你我他她它"
    "，。号人只要电住身手"
)
_ENGLISH_TITLE: Final = re.compile(r"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Professor|Sir|Madam|Mx)(?:\. ?| )(?=[A-Z])")
_ENGLISH_LABEL: Final = re.compile(
    r"\b(?:(?:[Ff]ull |[Cc]ustomer |[Pp]atient |[Cc]ardholder |[Aa]ccount holder )?[Nn]ame|NAME|[Cc]ardholder"
    r"|[Pp]atient"
    r"|[Cc]ontact"
    r"|[Ss]igned|[Rr]ecipient|[Aa]ttn)(?: ?[:=] ?| is )(?=[A-Z])"
    r"|\b(?:[Mm]y name is|I am called|[Ss]incerely, ?|[Rr]egards, ?) ?(?=[A-Z][a-z])"
)
_ENGLISH_NAME: Final = re.compile(
    r"[A-Z][A-Za-z'’-]{0,20}\.?(?:(?: (?:van|von|de|der|den|la|le|bin|al|di|da) ?| )"
    r"[A-Z][A-Za-z'’-]{0,20}(?:\.(?= [A-Z]))?){0,3}"
)


def find_names(page: Page) -> Iterator[Entity]:
    """Yield names with a title or a label."""
    text = page.text
    if not text.isascii():
        yield from _chinese(page)
    for found in _ENGLISH_TITLE.finditer(text):
        name = _ENGLISH_NAME.match(text, found.end())
        if name and len(name[0]) > 1 and name[0].split()[0] not in NOT_ENGLISH_NAMES:
            yield page.entity("name", name.start(), name.start() + len(_cut(name[0])))
    for found in _ENGLISH_LABEL.finditer(text):
        name = _ENGLISH_NAME.match(text, found.end())
        if name and " " in name[0] and name[0].split()[0] not in NOT_ENGLISH_NAMES:
            yield page.entity("name", name.start(), name.start() + len(_cut(name[0])))


def _cut(name: str) -> str:
    words = name.split(" ")
    while len(words) > 1 and words[-1].rstrip(".") in NOT_ENGLISH_NAMES | {
        "I",
        "He",
        "She",
        "We",
        "They",
        "It",
        "If",
        "When",
        "ID",
        "SSN",
    }:
        words.pop()
    return " ".join(words).rstrip("-'’.")


def _chinese(page: Page) -> Iterator[Entity]:
    text = page.text
    for pattern in (_TITLE, _SHORT_TITLE):
        for title in pattern.finditer(text):
            start = _before_title(text, title.start(), short=pattern is _SHORT_TITLE)
            if start >= 0:
                yield page.entity("name", start, title.start())
    for label in _LABEL.finditer(text):
        run = _CHINESE.match(text, label.end())
        if run is not None:
            size = _name_size(run[0])
            if size and not (text[label.start()] in "我本" and size < 2):
                yield page.entity("name", run.start(), run.start() + size)


def _before_title(text: str, end: int, *, short: bool) -> int:
    """Return where the name in front of a title begins, -1 where none stands there."""
    for size in (4, 3, 2, 1):
        start = end - size
        if start < 0 or (short and size > 1):
            continue
        name = text[start:end]
        if not all("\u4e00" <= char <= "\u9fff" for char in name):
            continue
        given = _given(name)
        if given is None or len(given) > 2 or name[:2] in NOT_NAMES or name in NOT_NAMES:
            continue
        if given and (set(given) & _NO_GIVEN):
            continue
        if start and text[start - 1] + name[0] in NOT_NAMES:
            continue
        if size == 1 and name not in COMMON_SURNAMES:
            continue
        if (
            size > 1
            and name[0] not in COMMON_SURNAMES
            and name[:2] not in COMPOUND_SURNAMES
            and start
            and "\u4e00" <= text[start - 1] <= "\u9fff"
        ) and size < 3:
            continue
        return start
    return -1


def _given(name: str) -> str | None:
    """Return the given name behind a surname; None: it begins with no surname."""
    if name[:2] in COMPOUND_SURNAMES:
        return name[2:]
    return name[1:] if name[0] in SURNAMES or name[0] in COMMON_SURNAMES else None


def _name_size(run: str) -> int:
    """Return how many characters at the start of `run` are a name; 0: none are."""
    if "·" in run:
        first = re.match(r"[\u4e00-\u9fff]{1,7}(?:·[\u4e00-\u9fff]{1,7})+", run)
        return first.end() if first else 0
    surname = 2 if run[:2] in COMPOUND_SURNAMES else 1 if run[0] in SURNAMES or run[0] in COMMON_SURNAMES else 0
    if not surname or run[:2] in NOT_NAMES:
        return 0
    size = surname
    while size < min(len(run), surname + 2) and run[size] not in _NO_GIVEN:
        size += 1
    return size if size > surname else 0
