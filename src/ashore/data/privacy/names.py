"""Names of people next to a title or a label. A name without either is not found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ashore.data.privacy.model import Entity
from ashore.data.privacy.page import Page
from ashore.data.privacy.tables import COMMON_SURNAMES, COMPOUND_SURNAMES, NOT_ENGLISH_NAMES, NOT_NAMES, SURNAMES

_TITLES: Final = (
    "先生|女士|小姐|太太|夫人|老师|医生|大夫|医师|护士|教授|博士|律师|法官|警官|经理|总监|主任|主管|总经理|董事长|总裁|处长|科长|局长"
    "|部长|院长|校长|所长|站长|队长|组长|厂长|店长|行长|书记|秘书|会计|工程师|工|总|董|老板|师傅|同学|同志|阿姨|叔叔|大爷|奶奶"
)
_TITLE: Final = re.compile(
    _TITLES.replace("|工|总|董", "")
    .replace("|老师|", "|老师(?!傅)|")
    .replace("|经理", "|经理(?!人)")
    .replace("|总监|", "|总监(?![听控管测视])|")
)
_SHORT_TITLE: Final = re.compile(
    r"(?:总|工|董)(?=[，。！？、；;：:,!?\s（(）)]|$|开|签|好|您|的|和|与|在|说|请|来|已|将)"
)
_LABEL: Final = re.compile(
    r"(?:姓名|名字|联系人|收件人|收货人|签收人|寄件人|发件人|户名|持卡人|患者|病人|申请人|被保险人|投保人|法定代表人|法人代表|经办人|负责人|客户姓名|称呼|开户人|乘客|旅客|员工|当事人|证人"
    r"|原告|被告|就诊人|监护人|入住人|乘机人|乘车人|住客|学员|考生|法人|股东|报案人|投诉人|借款人|担保人|承租人|出租人|经手人|受益人|审批人|签字人|嘉宾|讲师)"
    r"(?:姓名|名称)?(?: ?[:：是为叫] ?|\s{1,2}|[“「\"])(?=[\u4e00-\u9fff])"
    r"|[\"'](?:name|fullName|userName|姓名|customer)[\"'] ?: ?[\"'](?=[\u4e00-\u9fff]{2,4}[\"'])"
    r"|name ?[:=：] ?(?=[\u4e00-\u9fff]{2,4}(?![\u4e00-\u9fff]))"
    r"|(?:客户|患者|病人|乘客|旅客|户名|收件人|联系人|司机|员工|会员|用户|业主|房东|租客|学生|家长|监护人|就诊人|入住人|乘机人|借款人|受益人|法人|签收人|Patient|Customer|Client|Name)"
    r"(?=[\u4e00-\u9fff]{2,4}(?:[（(，,、。；;：:]|$))"
    r"|(?:我叫|我是|名叫|本人|名字叫|他叫|她叫)(?=[\u4e00-\u9fff])"
)
_LABEL_HEAD: Final = re.compile(
    r"姓(?=名)|名(?=[字叫])|联(?=系)|收(?=[件货])|签(?=[收字])|寄(?=件)|发(?=件)"
    r"|户(?=名)|持(?=卡)|患(?=者)|病(?=人)|申(?=请)|被(?=[保告])|投(?=[保诉])"
    r"|法(?=[定人])|经(?=[办手])|负(?=责)|客(?=户)|称(?=呼)|开(?=户)|乘(?=[客机车])"
    r"|旅(?=客)|员(?=工)|当(?=事)|证(?=人)|原(?=告)|就(?=诊)|监(?=护)|入(?=住)"
    r"|住(?=客)|学(?=[员生])|考(?=生)|股(?=东)|报(?=案)|借(?=款)|担(?=保)|承(?=租)"
    r"|出(?=租)|受(?=益)|审(?=批)|嘉(?=宾)|讲(?=师)|\"(?=[nfu姓c])|'(?=[nfu姓c])"
    r"|n(?=a)|N(?=a)|司(?=机)|会(?=员)|用(?=户)|业(?=主)|房(?=东)|租(?=客)"
    r"|家(?=长)|P(?=a)|C(?=[ul])|我(?=[叫是])|本(?=人)|他(?=叫)|她(?=叫)"
)
"""The first two characters of every label."""
_CHINESE: Final = re.compile(r"[\u4e00-\u9fff]+(?:·[\u4e00-\u9fff]+)*")
_NO_GIVEN: Final = frozenset(
    "的了是在和与及或有不也都就这那为从向到给对把被让等各每某们个位名全体所其该本此之于以因但而如则么吗呢吧啊很最更请您你我他她它"
    "，。号人只要电住身手"
)
_ENGLISH_TITLES: Final = ("Mr", "Ms", "Miss", "Dr", "Prof", "Sir", "Madam", "Mx")
_ENGLISH_TITLE: Final = re.compile(r"(?:Mrs|Mr|Ms|Miss|Dr|Professor|Prof|Sir|Madam|Mx)(?:\. ?| )(?=[A-Z])")
_ENGLISH_WORDS: Final = (
    "name passenger employee client buyer seller applicant guest student member holder beneficiary payee tenant "
    "insured witness attention person customer patient contact signed recipient attn cardholder signature from"
)
_ENGLISH_LABEL: Final = re.compile(
    rf"(?<![a-z])(?:{'|'.join(_ENGLISH_WORDS.split())}|(?:ship|bill) to|am called|sincerely|regards)\Z"
)
"""For texts in lower case."""
_LABEL_ENDS: Final = frozenset(word[-2:] for word in (*_ENGLISH_WORDS.split(), "to", "called", "sincerely", "regards"))
_ENGLISH_SIGN: Final = re.compile(r"[:=,\n] ?(?=[A-Z])")
_ENGLISH_IS: Final = re.compile(r" is (?=[A-Z])")
LABEL_CHARS: Final = 16
_ENGLISH_NAME: Final = re.compile(
    r"[A-Z][A-Za-z'’-]{0,20}\.?(?:(?: (?:van|von|de|der|den|la|le|bin|al|di|da) ?| )"
    r"[A-Z][A-Za-z'’-]{0,20}(?:\.(?= [A-Z]))?){0,3}"
)

_COMPOUND_HEADS: Final = frozenset(surname[0] for surname in COMPOUND_SURNAMES)


def find_names(page: Page) -> Iterator[Entity]:
    """Yield names with a title or a label."""
    text = page.text
    if not text.isascii():
        yield from _chinese(page)
    if any(title in text for title in _ENGLISH_TITLES):
        for found in _ENGLISH_TITLE.finditer(text):
            if not page.letter_before(found.start()):
                yield from _english(page, found.end(), fewest_words=1)
    low = page.low
    for sign in (_ENGLISH_SIGN, _ENGLISH_IS):
        for found in sign.finditer(text):
            start = found.start()
            if text[start - 1 : start] == " ":
                start -= 1
            if low[start - 2 : start] in _LABEL_ENDS and _ENGLISH_LABEL.search(low, max(0, start - LABEL_CHARS), start):
                yield from _english(page, found.end(), fewest_words=2)


def _english(page: Page, start: int, *, fewest_words: int) -> Iterator[Entity]:
    name = _ENGLISH_NAME.match(page.text, start)
    if name is None:
        return
    words = _cut(name[0])
    if len(words) > 1 and words.count(" ") >= fewest_words - 1 and words.split()[0] not in NOT_ENGLISH_NAMES:
        yield page.entity("name", start, start + len(words))


def _cut(name: str) -> str:
    words = name.split(" ")
    while len(words) > 1 and (words[-1].rstrip(".") in NOT_ENGLISH_NAMES or words[-1].isupper()):
        words.pop()
    return " ".join(words).rstrip("-'’.")


def _chinese(page: Page) -> Iterator[Entity]:
    text = page.text
    for pattern in (_TITLE, _SHORT_TITLE):
        for title in pattern.finditer(text):
            start = _before_title(text, title.start(), short=pattern is _SHORT_TITLE)
            if start >= 0:
                yield page.entity("name", start, title.start())
    for head in _LABEL_HEAD.finditer(text):
        at = head.start()
        label = _LABEL.match(text, at)
        run = _CHINESE.match(text, label.end()) if label else None
        if label is not None and run is not None:
            size = _name_size(run[0])
            honorific = _TITLE.search(text, run.start() + 1, run.start() + size + 1) if size else None
            if honorific is not None:  # 我是张先生: the characters before a title were checked already
                size = honorific.start() - run.start()
            if size > 1 or (size and honorific is not None):
                yield page.entity("name", run.start(), run.start() + size)


def _before_title(text: str, end: int, *, short: bool) -> int:
    """Return where the name before a title begins, -1 if there is none."""
    for size in (4, 3, 2, 1):
        start = end - size
        if start < 0 or (short and size > 2):
            continue
        name = text[start:end]
        if not all("\u4e00" <= char <= "\u9fff" for char in name):
            continue
        given = _given(name)
        if given is None or len(given) > 2 or name[:2] in NOT_NAMES or name in NOT_NAMES:
            continue
        if short and given:
            continue
        if given and (set(given) & _NO_GIVEN):
            continue
        if start and text[start - 1] + name[0] in NOT_NAMES:
            continue
        if (
            size > 2
            and name[0] not in COMMON_SURNAMES
            and name[:2] not in COMPOUND_SURNAMES
            and _given(name[1:]) is not None
            and name[1] in COMMON_SURNAMES | _COMPOUND_HEADS
        ):
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
    """Return the given name after a surname; None if the text does not begin with a surname."""
    if name[:2] in COMPOUND_SURNAMES:
        return name[2:]
    return name[1:] if name[0] in SURNAMES or name[0] in COMMON_SURNAMES else None


def _name_size(run: str) -> int:
    """Return the length of a name at the start of `run`, in characters; 0 if there is none."""
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
