"""Whether two questions may share an answer: what must be equal is equal, and every word has its counterpart in place.

A veto is final whatever the similarity says. What is merely loose is counted, and the prior turns the counts into a
probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ashore.cache.semantic.lexicon import english_words
from ashore.cache.semantic.model import Reading, Word
from ashore.cache.semantic.wordset import words_of

KINDS_ALIKE = {
    frozenset(pair.split())
    for pair in [
        "when what-date",
        "when what-time",
        "when what-year",
        "what ",
        "how ",
        "how-much what",
        "how-long how-many",
        "how-much how-many",
        "yes-no ",
        "how what-to-do",
        "how-big what",
        "how-old what",
        "how-high what",
        "how-fast what",
        "how-hot what",
        "how-heavy what",
        "how-deep what",
    ]
}
SOFT_ROLES = frozenset(
    {"", "in", "on", "at", "for", "with", "about", "of", "via", "through", "during", "per", "to", "as"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far two readings agree."""

    veto: str = ""
    """What differs that must not; empty when nothing does."""
    loose_kind: int = 0
    synonyms: int = 0
    """Pairs of different words that stand for the same thing."""
    moved: int = 0
    """Pairs of words that changed places in a way that keeps the meaning."""
    loose_roles: int = 0
    scope: int = 0
    """Negations that hang on another word."""
    words: int = 0
    same_surface: bool = False
    """Nothing but courtesy stands in one question and not in the other."""

    @property
    def identical(self) -> bool:
        return not (self.veto or self.loose_kind or self.synonyms or self.moved or self.loose_roles or self.scope)


def agree(mine: Reading, theirs: Reading) -> Agreement:
    """Compare two readings. Symmetric."""
    veto, loose_kind = _frame(mine, theirs)
    if veto:
        return Agreement(veto=veto)
    pairs, left, right = aligned(*opened(mine.words, theirs.words))
    if left or right:
        single = singles(mine.words), singles(theirs.words)
        if single != (mine.words, theirs.words):
            pairs_of_singles, *rest = aligned(*single)
            if not any(rest):
                pairs, left, right = pairs_of_singles, [], []
    if (
        pairs
        and len(left) + len(right) == 1
        and _says_kind(mine if left else theirs, theirs if left else mine, *left, *right)
    ):
        return _placed(mine, theirs, pairs, loose_kind=1)
    if left or right:
        return Agreement(veto=_unmatched(left, right), words=len(pairs))
    if _asks_something_open(mine, theirs) or _asks_something_open(theirs, mine):
        return Agreement(veto="kind", words=len(pairs))
    return _placed(mine, theirs, pairs, loose_kind=loose_kind)


def _placed(mine: Reading, theirs: Reading, pairs: list[Pair], *, loose_kind: int) -> Agreement:
    """Compare where the paired words stand: their directions, their order, and what a negation hangs on."""
    scope = sum(a.negated != b.negated for _, _, a, b in pairs)
    if sum(w.negated for w in mine.words) != sum(w.negated for w in theirs.words):
        return Agreement(veto="negation")
    roles = 0
    turned = False
    for _, _, a, b in pairs:
        if a.role != b.role:
            if a.role not in SOFT_ROLES or b.role not in SOFT_ROLES:
                return Agreement(veto="direction")
            roles += 1
            turned |= "to" in (a.role, b.role)
    moved = 1 if _turned(pairs, mine, theirs) else _moves(pairs, mine, theirs)
    if moved is None:
        return Agreement(veto="order")
    if turned and moved:
        return Agreement(veto="direction")
    if mine.kind == theirs.kind == "who" and any({a.role, b.role} == {"", "with"} for _, _, a, b in pairs):
        return Agreement(veto="direction")
    if mine.passive != theirs.passive and not moved and mine.kind in VOICED and len(pairs) > 1:
        return Agreement(veto="voice")
    grades = [grade(a, b) for _, _, a, b in pairs]
    return Agreement(
        loose_kind=loose_kind,
        synonyms=grades.count(2),
        moved=moved,
        loose_roles=roles,
        scope=scope,
        words=len(pairs),
        same_surface=mine.surface == theirs.surface,
    )


def opened(mine: tuple[Word, ...], theirs: tuple[Word, ...]) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
    """Take phrases apart that the other side does not know as one (`password reset`), the longest first."""
    while True:
        closed = [w for w in mine if w.parts and not w.negated and not any(grade(w, o) for o in theirs)]
        other = [w for w in theirs if w.parts and not w.negated and not any(grade(w, o) for o in mine)]
        if not closed and not other:
            return mine, theirs
        longest = max([*closed, *other], key=lambda w: len(w.text))
        mine, theirs = (
            tuple(part for w in words for part in (w.parts if w is longest else (w,))) for words in (mine, theirs)
        )


def singles(words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Take every phrase apart: one side's `agenda` may have stood for the other's `meeting agenda`."""
    return tuple(part for w in words for part in (singles(w.parts) if w.parts and not w.negated else (w,)))


def _says_kind(holder: Reading, other: Reading, word: Word) -> bool:
    """Tell whether a word on one side only names what the other side asks for: `delivery time`, `how many days`."""
    if word.negated or word.role in _BINDING:
        return False
    if word.text in _TIME_UNITS:
        return {holder.kind, other.kind} <= _LENGTHS and bool({"how-long"} & {holder.kind, other.kind})
    return holder.kind in ("", "what", other.kind) and word.text in _NAMES_OF_KINDS.get(other.kind, _NO_NAMES)


_TIME_UNITS = words_of("second minute hour day workday week month year 秒 分钟 小时 天 工作日 周 星期 个月 月 年")
_LENGTHS = frozenset({"how-long", "how-many"})
_BINDING = frozenset({"per", "before", "after", "than", "by", "from", "without", "until", "since", "within", "between"})
_NO_NAMES: frozenset[str] = frozenset()
_HOURS = frozenset(
    f"{kind} hours"
    for kind in ["opening", "business", "operating", "office", "visiting", "service", "working", "trading"]
)
_NAMES_OF_KINDS = {
    "when": _HOURS | words_of("time date schedule day deadline moment 时间 日期 时刻 期限 日子 哪天"),
    "what-time": words_of("time hour 时间 时刻 钟点"),
    "what-date": words_of("date day 日期 时间 日子"),
    "what-year": words_of("year 年份 年 份"),
    "how-long": words_of("duration period length 时长 长度 期限 期 周期 用时 时限 年限"),
    "how": words_of(
        "method way step procedure process instruction guide tutorial manual how-to "
        "formula command 公式 命令 方法 步骤 流程 办法 方式 操作 教程 手续 指南 途径 做法 过程 程序 法"
    ),
    "where": words_of("location place venue 地点 位置 地方 何处 场所"),
    "who": words_of("person people responsible responsibility contact 人 人员 负责人 员 作者 者 联系人 责任人 负责"),
    "how-much": words_of("price cost money amount 价格 多少钱 金额 费用 额 数额"),
    "how-many": words_of("number count quantity 数量 个数 数 人数 天数 次数 份数 量 数目 件数 年限 期限"),
    "what": words_of("need require"),
    "why": words_of("reason cause 原因 理由"),
    "how-often": words_of("frequency interval cycle 频率 周期 间隔 次数"),
    "how-old": words_of("age 年龄 岁数"),
    "how-hot": words_of("temperature 温度"),
    "how-far": words_of("distance 距离 路程"),
    "how-high": words_of("height 高度"),
    "how-deep": words_of("depth 深度"),
    "how-big": words_of("size area capacity 大小 面积 容量"),
    "how-fast": words_of("speed 速度"),
    "how-heavy": words_of("weight 重量"),
    "consequence": words_of("consequence result 后果 结果 影响"),
    "whom": words_of("person recipient contact 人 对象"),
}
"""What a question of each kind asks for, as a noun."""
MEASURES = words_of(
    "how-much how-many how-long how-far how-high how-deep how-big how-fast how-heavy how-hot how-old how-wide"
)
"""Kinds of question whose measure the words themselves may name (`warranty period`)."""

_NEED_NO_NAME = MEASURES | {"", "what", "how", "what-to-do", "yes-no", "differ", "population"}


@cache
def asks_for(word: str) -> frozenset[str]:
    """Return the kinds of question that this noun can stand for."""
    return frozenset(kind for kind, names in _NAMES_OF_KINDS.items() if word in names)


def _asks_something_open(vague: Reading, asked: Reading) -> bool:
    """Tell whether one asks who, when, where or why, and the other only names the subject: `card renewal`."""
    if vague.kind or asked.kind in _NEED_NO_NAME:
        return False
    return not any(asked.kind in asks_for(w.text) for word in vague.words for w in (word, *word.parts))


def search_keys(word: Word) -> tuple[str, ...]:
    """Return names such that two words that can be paired share at least one."""
    names = [word.text, *(f"~{m}" for m in word.meanings)]
    names += [name for part in word.parts for name in search_keys(part)]
    info = english_words().get(word.text)
    if info is not None and not word.text.startswith("#"):
        names += info.verbs
    return tuple(names)


def _frame(mine: Reading, theirs: Reading) -> tuple[str, int]:
    if mine.unfit or theirs.unfit:
        return "unfit", 0
    if mine.language != theirs.language:
        return "language", 0
    if mine.facts != theirs.facts:
        return "facts", 0
    if asked_apart(mine, theirs):
        return "kind", 0
    loose = 0
    if mine.kind != theirs.kind:
        kinds = frozenset((mine.kind, theirs.kind))
        if "" in kinds or kinds in KINDS_ALIKE:
            loose = 1
        else:
            return "kind", 0
    if stances_differ(mine, theirs):
        return "modal", 0
    asks_what_is_needed = mine.kind == "what" != theirs.kind or theirs.kind == "what" != mine.kind
    if asks_what_is_needed and (mine.bare or theirs.bare) and mine.modals | theirs.modals == {"must"}:
        loose = 1
    elif mine.modals != theirs.modals:
        return "modal", 0
    if mine.tense != theirs.tense:
        if {mine.tense, theirs.tense} != {"present", "general"}:
            return "tense", 0
        loose = 1
    if mine.persons != theirs.persons:
        return "person", 0
    if not mine.words or not theirs.words:
        return "no words", 0
    return "", loose


def asked_apart(mine: Reading, theirs: Reading) -> bool:
    """Tell whether one asks who (when, where, why, how many) and the other something else of these."""
    return bool(mine.asked and theirs.asked) and not mine.asked & theirs.asked


def stances_differ(mine: Reading, theirs: Reading) -> bool:
    """Tell whether one asks what may be done and the other what must, should or will be.

    How I do something is the same question with each of them: readings of that have no stance.
    """
    if mine.stance & theirs.stance or (mine.language == "zh" and {mine.kind, theirs.kind} & OF_ANY_STANCE):
        return False
    return bool(mine.stance and theirs.stance)


OF_ANY_STANCE = frozenset({"how", "what-to-do", "consequence", "why"})
VOICED = frozenset({"yes-no", "who", "what", "why"})
"""Kinds of question in which `was paid` and `paid` ask of different people."""
Pair = tuple[int, int, Word, Word]


def aligned(mine: tuple[Word, ...], theirs: tuple[Word, ...]) -> tuple[list[Pair], list[Word], list[Word]]:
    """Pair the words, best grade first, nearest place first."""
    free = set(range(len(theirs)))
    paired: dict[int, int] = {}
    for wanted in (3, 2):
        for i, a in enumerate(mine):
            if i in paired:
                continue
            fits = [j for j in free if grade(a, theirs[j]) == wanted]
            if fits:
                same = [j for j in fits if theirs[j].role == a.role and theirs[j].negated == a.negated] or fits
                paired[i] = min(same, key=lambda j: (abs(i - j), j))
                free.discard(paired[i])
    pairs = [(i, j, mine[i], theirs[j]) for i, j in sorted(paired.items())]
    return pairs, [w for i, w in enumerate(mine) if i not in paired], [theirs[j] for j in sorted(free)]


def grade(a: Word, b: Word) -> int:
    """3 the same word, 2 another word for it, 0 not the same."""
    if a.text == b.text:
        return 3
    if a.text.startswith("#") or b.text.startswith("#"):
        return 0
    if a.meanings & b.meanings:
        return 2
    known = english_words()
    first, second = known.get(a.text), known.get(b.text)
    if first is None or second is None or b.text in first.antonyms:
        return 0
    if b.text in first.verbs or a.text in second.verbs:
        return 2
    return 0


def _moves(pairs: list[Pair], mine: Reading, theirs: Reading) -> int | None:
    """Count the pairs that changed places; None if one of them may not."""
    count = 0
    kinds = {mine.kind, theirs.kind}
    keywords = mine.bare or theirs.bare
    one_limit = sum(a.text in _LIMITS for _, _, a, _ in pairs) == 1
    free_verbs = (
        bool(kinds & _VERB_FREE)
        or (mine.language == "zh" and bool(kinds & _VERB_FREE_ZH))
        or mine.passive != theirs.passive
    )
    for at, (_, j, a, b) in enumerate(pairs):
        for _, other_j, other_a, other_b in pairs[at + 1 :]:
            if other_j > j:
                continue
            count += 1
            same_roles = a.role == b.role and other_a.role == other_b.role
            if same_roles and a.role != other_a.role:
                continue
            if timely(a) != timely(other_a):
                continue
            if (not a.role + b.role and _attributive(other_a, other_b)) or (
                not other_a.role + other_b.role and _attributive(a, b)
            ):
                continue
            if _is_nominal(a, b) != _is_nominal(other_a, other_b):
                continue
            parted = keywords and (_apart(a, other_a, mine) or _apart(b, other_b, theirs))
            if parted and not {a.text, other_a.text} <= _LIMITS and not _verb_between(pairs, at, other_j, j):
                continue
            if keywords and one_limit and {a.text, other_a.text} & _LIMITS:
                continue
            if free_verbs and (a.verb and b.verb) != (other_a.verb and other_b.verb):
                continue
            if mine.symmetric and theirs.symmetric and a.role in ("", "between") and other_a.role in ("", "between"):
                continue
            return None
    return count


def _is_nominal(a: Word, b: Word) -> bool:
    """`overtime approval` against `approve overtime`: the noun stands after what the verb stands before."""
    if a.text == b.text or a.text.startswith("#") or b.text.startswith("#"):
        return False
    known = english_words()
    first, second = known.get(a.text), known.get(b.text)
    return first is not None and second is not None and (b.text in first.verbs or a.text in second.verbs)


def _apart(a: Word, b: Word, reading: Reading) -> bool:
    return not reading.bare and a.chunk != b.chunk


def _verb_between(pairs: list[Pair], at: int, low: int, high: int) -> bool:
    """Tell whether a doing stands between two words, so that their order says who does it to whom."""
    first = next(n for n, pair in enumerate(pairs) if pair[1] == high)
    second = next(n for n, pair in enumerate(pairs) if pair[1] == low)
    between = [p for n, p in enumerate(pairs) if first < n < second or low < p[1] < high]
    return any(a.verb and b.verb and a.text not in NOUNS_RATHER for _, _, a, b in between)


_LIMITS = words_of("maximum max minimum min")
"""Stands before or after what it limits; with two of them the order tells which limits what."""
NOUNS_RATHER = words_of("list file book table hour time date document form report order")
_VERB_FREE = frozenset({"how", "what-to-do", ""})
_VERB_FREE_ZH = frozenset(
    {"how-often", "who", "when", "where", "why", "yes-no", "how-long", "what-date", "what-year", "what-time"}
)


def timely(word: Word) -> bool:
    """A date or a time may stand anywhere."""
    return word.text.startswith(("#date", "#time", "#quarter")) or word.text in _TIMES


_TIMES = words_of(
    "周末 中午 凌晨 半夜 上周 下周 本周 这周 每周 周六日 "
    "today tomorrow yesterday now 今天 明天 昨天 今年 去年 明年 每年 每月 每天 每周 早上 上午 下午 晚上 现在 本月 "
    "permanently temporarily automatically manually remotely directly securely anonymously immediately "
    "上个月 下个月 周一 周二 周三 周四 周五 周六 周日 星期一 星期二 星期三 星期四 星期五 星期六 星期日"
)


def _attributive(a: Word, b: Word) -> bool:
    """`wage in Germany` against `Germany wage`: a place or owner that only one side joins by a preposition."""
    return a.role != b.role and "" in (a.role, b.role) and (a.role or b.role) in _ATTRIBUTIVE


_ATTRIBUTIVE = frozenset({"in", "on", "at", "for", "of"})


def _turned(pairs: list[Pair], mine: Reading, theirs: Reading) -> bool:
    """Tell whether one question is the other with what stood before the question word put last."""
    order = [j for _, j, _, _ in pairs]
    plain = list(range(len(order)))
    rotated = [plain[reading.turn :] + plain[: reading.turn] for reading in (theirs, mine)]
    if mine.language != "zh" or mine.kind != theirs.kind or order == plain:
        return False
    inverse = sorted(plain, key=lambda at: order[at])
    return (theirs.turn > 0 and order == rotated[0]) or (mine.turn > 0 and inverse == rotated[1])


def _unmatched(left: list[Word], right: list[Word]) -> str:
    return "words: " + " ".join(w.text for w in left) + " / " + " ".join(w.text for w in right)
