# ruff: noqa: E501 (patterns and word lists stay on one line)
"""Chinese questions: frame, what is asked for, and words. What the word lists do not know is compared character by character."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from ashore.cache.semantic.chineseframes import (
    DROPPED,
    FRAMES,
    POLITE,
    REWRITES,
    ROLES_AFTER,
    ROLES_BEFORE,
    WHOLE_WORDS,
)
from ashore.cache.semantic.facts import facts_in
from ashore.cache.semantic.lexicon import chinese_groups
from ashore.cache.semantic.model import Reading, Word
from ashore.cache.semantic.plain import HAN
from ashore.cache.semantic.wordset import words_of

_LATIN = re.compile(r"[a-z]+(?:[-'./&+][a-z]+)*")
_PUNCTUATION = re.compile(rf"[^\w\s⟦⟧#{HAN}]")
_NEGATIONS = (
    "并没有",
    "没有",
    "没法",
    "不曾",
    "从不",
    "从未",
    "不会",
    "无法",
    "不能够",
    "不能",
    "不可以",
    "不",
    "没",
    "未",
    "无",
    "非",
    "别",
    "勿",
    "莫",
)
_NOT_NEGATIONS = (
    "不同之处", "不同点", "不同", "不错", "不过", "不久", "不仅", "不但", "不断", "无线网络", "无线网", "无线", "非常", "未来", "无论", "不管", "没问题", "非洲",
    "特别", "区别", "差别", "类别", "级别", "别人", "别墅", "性别", "识别", "告别", "分别", "无人机", "不动产", "未婚", "非遗", "不得不", "不锈钢", "只不过",
)  # fmt: skip
_COMPLEMENTS = "上了到出开进起下动掉通"
_IDLE = words_of("休 放 享受 享有 含 含有 包含 具有 拥有 收 花 花费")
_DONE = re.compile("(?<![忘丢坏为除])了(?=[哪什多几]|$)")
_CASUAL_ASK = re.compile("(?<![什怎这那多要])么$")
_TURN = "⁂"
"""Stands in the text where a question word stood that could as well stand elsewhere."""
_ADVERBIAL = frozenset({"how", "what-to-do", "when", "where", "why", "how-long"})
_WHO = "(?:谁|哪些人|哪位|什么人|哪个人)都?"
_WHO_MAY = {
    "can": re.compile(f"{_WHO}(?:可以|能够|能|有权|允许)"),
    "must": re.compile(f"{_WHO}(?:必须|一定要|需要|要(?!求)|得)"),
}
_DONE_BY = re.compile("由(?:谁|哪|什么人)")
_USING = words_of("用 使用 利用 做 进行 出现 遇到 碰到 发生")
_PERSONS = {"你": "you", "您": "you", "他": "he", "她": "she", "他们": "they", "她们": "they"}
_PAST = re.compile("曾经|曾(?!祖)|已经|(?<![超通经错不])过(?=的|吗|什么|几|多少|哪|没有|$)")
_FUTURE = re.compile("将会|将要|即将|将(?!军|来|近|一|[^发在]{1,8}(?:转|设|导|分|添|保|改|放|移|存|变|换|借|给))")
_FUTURE_ASKED = re.compile("(?<![不社机])会(?![议员计话面场展长费见])")
_SYMMETRIC = re.compile("区别|差别|不同|差异|比较|对比|相比|还是|哪个好|哪个更|一样|相同|关系|之间")


_EXEMPT = re.compile("不必|不用|无需|无须|不需要?|不要求|免于")
_HAS_TO = re.compile("需要|(?<![不只重主])要(?![求是点素])")
_STANCES = {
    "can": re.compile(
        "可以|可否|(?<![功性智才职技产节效动电热])能(?![力量源耗效])|允许|准许|有权|有资格|不得(?!不)|禁止"
    ),
    "must": re.compile("必须|一定要|务必|必需|强制|有义务|不得不"),
    "should": re.compile("应该|应当|(?<!应)该(?=[不怎])|理应"),
    "advise": re.compile("建议|推荐|最好"),
    "want": re.compile("想要?(?!象|法|念)|希望|打算|愿意"),
    "will": _FUTURE_ASKED,
}


def _stance(whole: str, kind: str) -> frozenset[str]:
    """Return what the question says of may, must and should; who need not is another than who must not."""
    text = _EXEMPT.sub(" ", whole)
    found = {name for name, pattern in _STANCES.items() if pattern.search(text)}
    if kind in ("when", "where", "who", "what", "yes-no") and _HAS_TO.search(text):
        found.add("must")
    return frozenset(found | {"exempt"} if text != whole else found)


def read_chinese(marked: str) -> Reading:
    """Read a question whose facts are marked."""
    text = re.sub(r"⟦[^⟧]*⟧|[^⟦]+", lambda m: m.group() if m.group()[0] == "⟦" else m.group().lower(), marked)
    pieces = re.split(r"(⟦[^⟧]*⟧)", text)
    text = "".join(p if p.startswith("⟦") else _PUNCTUATION.sub(" ", p) for p in pieces)
    text = re.sub(rf"(?<=[{HAN}⟧])\s+(?=[{HAN}⟦])", "", re.sub(r"\s+", " ", text)).strip()
    text = _CASUAL_ASK.sub("吗", text)
    whole = text
    text = _without_politeness(text)
    for pattern, spelled in REWRITES:
        text = pattern.sub(spelled, text)
    kinds: list[str] = []
    modals: set[str] = set()
    for frame in FRAMES:
        if frame.kind in ("yes-no", "what") and kinds and frame.kind not in kinds:
            continue
        stands_free = frame.kind in _ADVERBIAL or (frame.kind == "who" and _DONE_BY.search(text))
        leaves = _TURN if stands_free and frame.leaves == " " else frame.leaves
        changed = frame.pattern.sub(leaves, text)
        if changed != text:
            text = changed
            kinds.append(frame.kind)
            if frame.modal:
                modals.add(frame.modal)
    kind = kinds[0] if kinds else ""
    if kind in ("how", "what-to-do", "when", "where", "how-much", "how-long"):
        modals.clear()
    elif kind == "who":
        modals |= {modal for modal, pattern in _WHO_MAY.items() if pattern.search(whole)}
    words, turn = _words(text, kind)
    return Reading(
        language="zh",
        turn=turn,
        kind=kind,
        words=words,
        facts=facts_in(text),
        modals=frozenset(modals),
        stance=_stance(whole, kind),
        tense=_tense(whole, kind),
        persons=frozenset()
        if kind in ("how", "what-to-do")
        else frozenset(p for w, p in _PERSONS.items() if w in text),
        symmetric=bool(_SYMMETRIC.search(whole)),
    )


def _without_politeness(text: str) -> str:
    before = None
    while text != before:
        before = text
        text = POLITE.sub("", text).strip()
    return text or (before or "")


def _tense(whole: str, kind: str) -> str:
    if kind in ("how", "why", "what-to-do", "consequence"):
        return "present"
    if _FUTURE.search(whole):
        return "future"
    if kind == "yes-no" and _FUTURE_ASKED.search(whole):
        return "general"
    if kind == "yes-no" and re.search("了[吗么]?$|有没有", whole):
        return "past"
    if kind in ("what", "how-many", "how-much") and _DONE.search(whole):
        return "past"
    return "past" if _PAST.search(whole) and kind not in ("how", "what-to-do") else "present"


def _words(text: str, kind: str, most: int = 99) -> tuple[tuple[Word, ...], int]:
    groups = chinese_groups()
    out: list[Word] = []
    role, negated, place = "", False, 0
    turn = 0
    while place < len(text):
        if text[place] == _TURN:
            turn, role, place = turn or len(out), "", place + 1
            continue
        if text[place] == " ":
            place += 1
            continue
        if text[place] == "⟦":
            stop = text.index("⟧", place)
            out.append(Word(text=text[place + 1 : stop], role=role, negated=negated))
            role, negated, place = "", False, stop + 1
            continue
        latin = _LATIN.match(text, place)
        if latin:
            word = latin.group()
            out.append(Word(text=word, meanings=groups.meanings.get(word, frozenset()), role=role, negated=negated))
            role, negated, place = "", False, latin.end()
            continue
        piece = _longest(text, place, most)
        if piece == "不" and out and place + 1 < len(text) and text[place + 1] in _COMPLEMENTS and not negated:
            out[-1] = _failing(out[-1], text[place + 1])
            place += 2
            continue
        if piece in _NEGATIONS:
            negated = not negated
            place += len(piece)
            continue
        if piece in _PLACES and not _is_locative(text, place + len(piece), out, role):
            out.append(Word(text=piece, role=role, negated=negated))
            negated, place = False, place + len(piece)
            continue
        if piece in DROPPED:
            ends = piece in _ENDS_ROLE and not (piece == "了" and text[place - 1 : place] in tuple("给到成向往"))
            role = "at" if piece == "在" and place + 1 < len(text) else ("" if ends else role)
            place += len(piece)
            continue
        if piece in ROLES_BEFORE and piece not in groups.meanings:
            role, place = ROLES_BEFORE[piece], place + len(piece)
            continue
        if piece in ROLES_AFTER:
            out.append(Word(text=ROLES_AFTER[piece], negated=negated))
            negated, place = False, place + len(piece)
            continue
        out.append(
            Word(
                text=piece,
                meanings=groups.meanings.get(piece, frozenset()),
                role=role,
                negated=negated,
                verb=piece in groups.verbs,
                parts=_parts(piece, role),
            )
        )
        # A direction word governs the whole noun after it, which may be several unknown characters.
        stays = role and len(piece) == 1 and piece not in groups.verbs
        role, negated, place = role if stays else "", False, place + len(piece)
    if negated:
        out.append(Word(text="不", negated=True))
    idle = _IDLE if kind in ("how-many", "how-much", "what", "how-long") else frozenset()
    another_verb = any(w.verb and w.text not in _USING for w in out)
    if (kind == "how" and len(out) > 2) or (kind in ("how", "what-to-do") and another_verb):
        idle = _USING
    kept = [at for at, w in enumerate(out) if w.text not in idle or w.negated] or list(range(len(out)))
    return tuple(out[at] for at in kept), sum(at < turn for at in kept)


@lru_cache(maxsize=8192)
def _parts(piece: str, role: str) -> tuple[Word, ...]:
    """Return the words of a compound, each by itself: `差旅` and `费用`. Nothing if a function word is among them."""
    if len(piece) < 3:
        return ()
    words, _ = _words(piece, "", len(piece) - 1)
    if "".join(w.text for w in words) != piece or any(w.negated or w.role for w in words):
        return ()
    return tuple(replace(w, role=role) for w in words)


def _is_locative(text: str, stop: int, out: list[Word], role: str) -> bool:
    """Tell whether `上` only closes a place (`网站上`): after a noun, before a break, a verb or a mark."""
    if not out:
        return False
    if role == "at" or stop >= len(text) or text[stop] in f" 的⟦{_TURN}":
        return True
    return stop < len(text) and bool(_longest(text, stop) in chinese_groups().verbs or _LATIN.match(text, stop))


def _failing(word: Word, complement: str) -> Word:
    """Read `打不开` as `不 打开`."""
    groups = chinese_groups()
    text = word.text + complement if word.text + complement in groups.meanings else word.text
    return Word(
        text=text,
        meanings=groups.meanings.get(text, word.meanings),
        role=word.role,
        negated=not word.negated,
        verb=text in groups.verbs,
    )


_PLACES = words_of("上 下 这 那")
_ENDS_ROLE = words_of("的 上 里 里面 中 内 时 时候 的时候 了 地 得")
_TABLES = (
    frozenset(_NEGATIONS),
    DROPPED,
    frozenset(ROLES_BEFORE),
    frozenset(ROLES_AFTER),
    WHOLE_WORDS,
    frozenset(_NOT_NEGATIONS),
)


def _longest(text: str, place: int, most: int = 99) -> str:
    """Return the longest known word that starts here, or one character."""
    groups = chinese_groups()
    for length in range(min(max(groups.longest, 6), len(text) - place, most), 1, -1):
        piece = text[place : place + length]
        if piece in groups.meanings or any(piece in table for table in _TABLES):
            return piece
    return text[place]
