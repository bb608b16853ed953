# ruff: noqa: E501 (word lists stay on one line)
"""Pairs of questions for the semantic cache: the committed development pairs, and traps made from them by rule."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DEV = Path(__file__).parent / "data" / "cache" / "dev"
SEEN = (DEV.parent, DEV.parent / "second", DEV.parent / "third")
"""Sets that were blind once. Each has been read for a mend since, so they are pairs like any other now."""

_OPPOSITES_EN = (
    "open close,buy sell,increase decrease,before after,first last,more less,maximum minimum,highest lowest,enable disable,"
    "install uninstall,start stop,import export,upload download,lock unlock,add remove,accept reject,above below,inside outside,"
    "early late,old new,hot cold,high low,long short,with without,lend borrow,send receive,join leave,push pull,all some,always never,"
    "men women,morning evening,internal external,public private,paid unpaid,full-time part-time,today tomorrow,left right,best worst"
)  # fmt: skip
_OPPOSITES_ZH = (
    "打开 关闭,买 卖,增加 减少,之前 之后,最大 最小,最高 最低,启用 禁用,安装 卸载,导入 导出,上传 下载,添加 删除,接受 拒绝,以上 以下,早上 晚上,"
    "男 女,可以 不可以,需要 不需要,必须 可以,所有 部分,内 外,申请 取消,批准 驳回,提高 降低,开始 结束,公司 家里,今年 去年,每年 每月,借 还,快 慢,"
    "高 低,多 少,前 后,有 没有,能 不能,怎么 为什么,什么时候 哪里,多久 多少钱,谁 什么时候"
)  # fmt: skip
_NAMES = [
    "Alice",
    "Bob",
    "Paris",
    "London",
    "Berlin",
    "Tokyo",
    "Python",
    "Java",
    "Windows",
    "Linux",
    "Oracle",
    "Microsoft",
    "Germany",
    "France",
    "China",
    "Japan",
]
_NAMES_ZH = ["北京", "上海", "广州", "深圳", "德国", "法国", "日本", "韩国", "微软", "谷歌", "张三", "李四"]
_AUXILIARY = re.compile(r"\b(is|are|was|were|can|could|should|must|will|does|do|did|has|have)\b")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions, and whether the second may be given the first one's answer."""

    first: str
    second: str
    language: str
    kind: str
    same: bool


def load(path: Path, *, same: bool) -> list[Pair]:
    """Read a file of pairs."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    return [Pair(r["a"], r["b"], r["language"], r.get("class", "paraphrase"), same) for r in rows]


def independent(folder: Path) -> list[Pair]:
    """Read the files written by others: traps as pairs; of a group of paraphrases, the base with each other."""
    pairs = []
    for path in sorted(folder.glob("traps_*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            pairs.append(Pair(row["a"], row["b"], row["lang"], row["class"], False))
    for path in sorted(folder.glob("paraphrases_*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            base, *others = row["questions"]
            pairs += [Pair(base["text"], q["text"], row["lang"], q["level"], True) for q in others]
    return pairs


def development() -> list[Pair]:
    """Return the written pairs and, for each question in them, traps made by rule; no trap twice."""
    written = load(DEV / "paraphrases.jsonl", same=True)
    written += load(DEV / "traps.jsonl", same=False) + load(DEV / "near_words.jsonl", same=False)
    questions = sorted({(p.first, p.language) for p in written} | {(p.second, p.language) for p in written if p.same})
    seen = {(p.first, p.second) for p in written}
    made = []
    chance = random.Random(7)
    for question, language in questions:
        for kind, trap in _mutations(question, language, chance):
            if trap != question and (question, trap) not in seen:
                seen.add((question, trap))
                made.append(Pair(question, trap, language, kind, False))
    return written + made


def _mutations(question: str, language: str, chance: random.Random) -> Iterator[tuple[str, str]]:
    for match in re.finditer(r"(?<![\w.])\d+(?:\.\d+)*", question):
        number = match.group()
        changed = (
            str(int(number) + chance.randint(1, 9))
            if number.isdigit()
            else number[:-1] + str((int(number[-1]) + 1) % 10)
        )
        yield "number", question[: match.start()] + changed + question[match.end() :]
    if language == "en":
        yield from _english(question, chance)
    else:
        yield from _chinese(question, chance)


def _english(question: str, chance: random.Random) -> Iterator[tuple[str, str]]:
    auxiliary = _AUXILIARY.search(question)
    if auxiliary and not re.search(r"\bnot\b|n't\b", question):
        yield "negation", question[: auxiliary.end()] + " not" + question[auxiliary.end() :]
        swapped = {
            "is": "was",
            "are": "were",
            "does": "did",
            "do": "did",
            "will": "did",
            "can": "must",
            "should": "can",
        }
        if auxiliary.group() in swapped and not re.match(
            r"(How (can|should))|(What|Where|Who) (can|should) I\b", question
        ):
            yield "tense or modal", _put(question, auxiliary, swapped[auxiliary.group()])
    for pair in _OPPOSITES_EN.split(","):
        one, other = pair.split()
        for a, b in ((one, other), (other, one)):
            match = re.search(rf"\b{a}\b", question, re.I)
            if match:
                yield "opposite", _put(question, match, b)
    for match in re.finditer(r"(?<!^)\b[A-Z][a-z]{2,}\b", question):
        if match.start() > 0:
            yield "name", _put(question, match, chance.choice([n for n in _NAMES if n != match.group()]))
    direction = re.search(r"\bfrom (\S+) to (\S+?)(?=[ ?,.]|$)", question)
    if direction:
        yield "direction", _put(question, direction, f"from {direction[2]} to {direction[1]}")
    compared = re.search(r"\b(\w+) (\w+er) than (\w+)", question)
    if compared:
        yield "direction", _put(question, compared, f"{compared[3]} {compared[2]} than {compared[1]}")
    yield "language", question.rstrip("?") + " in French?"
    yield "scope", question.rstrip("?") + " in Canada?"
    yield "scope", question.rstrip("?") + " for interns?"
    for a, b in (
        ("per year", "per month"),
        ("days", "weeks"),
        ("hours", "minutes"),
        ("Who", "When"),
        ("When", "Where"),
        ("How", "Why"),
    ):
        if a in question:
            yield "unit or question word", question.replace(a, b, 1)


def _chinese(question: str, chance: random.Random) -> Iterator[tuple[str, str]]:
    for pair in _OPPOSITES_ZH.split(","):
        one, other = pair.split()
        for a, b in ((one, other), (other, one)):
            if (
                re.search(f"(?<!{a[-1]}不){a}(?!不{a[0]})", question)
                and a + "不" not in question
                and not (len(a) == 1 and a in "内外前后高低多少借还快慢有能是男女" and other in question)
            ):
                yield "opposite", question.replace(a, b, 1)
    for name in _NAMES_ZH:
        if name in question:
            yield "name", question.replace(name, chance.choice([n for n in _NAMES_ZH if n != name]), 1)
    for match in re.finditer(r"[A-Za-z]{2,}", question):
        yield "name", _put(question, match, chance.choice([n for n in _NAMES if n.lower() != match.group().lower()]))
    direction = re.search(r"从(\S{1,6})到(\S{1,6}?)(?=的|要|需|有|多|$)", question)
    if direction:
        yield "direction", _put(question, direction, f"从{direction[2]}到{direction[1]}")
    compared = re.search(r"(\w{1,6})比(\w{1,6}?)(?=更|快|慢|高|低|多|少|大|小)", question)
    if compared:
        yield "direction", _put(question, compared, f"{compared[2]}比{compared[1]}")
    for numeral, changed in zip("一二三四五六七八九", "二三四五六七八九十", strict=True):
        match = re.search(f"{numeral}(?=天|月|年|季度|号|日|倍|个|根|台)", question)
        if match:
            yield "number", _put(question, match, changed)
    for a, b in (("天", "周"), ("小时", "分钟"), ("公斤", "磅"), ("美元", "英镑"), ("每年", "每月")):
        if a in question:
            yield "unit", question.replace(a, b, 1)
    yield "language", "用英文回答：" + question
    yield "scope", "加拿大" + question
    yield "scope", "实习生" + question


def _put(text: str, match: re.Match[str], new: str) -> str:
    return text[: match.start()] + new + text[match.end() :]
