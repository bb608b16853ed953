# ruff: noqa: E501 (patterns and word lists stay on one line)
"""Facts that must be equal: numbers with units, money, dates, times, versions, identifiers, quotations, addresses.

Each becomes one mark, `⟦#...⟧`, where it stood, so that its order counts too. Units are named, never converted.
"""

from __future__ import annotations

import re
from decimal import Decimal

from ashore.cache.semantic.numerals import (
    CHINESE_NUMERAL,
    CHINESE_SCALE,
    ORDINAL,
    SCALES,
    SHORT_SCALES,
    is_spelled,
    number_text,
    parse_chinese,
    parse_digits,
    parse_english,
)

MARK = re.compile(r"⟦(#[^⟧]*)⟧")

_UNITS = """
kg kilogram kilograms kilo kilos kgs 公斤 千克
g gram grams 克
mg milligram milligrams 毫克
lb lbs pound pounds 磅
oz ounce ounces 盎司
jin 斤
tonne tonnes 吨
ton tons
km kilometer kilometers kilometre kilometres kms 公里 千米
m meter meters metre metres 米
cm centimeter centimeters centimetre centimetres 厘米 公分
mm millimeter millimeters millimetre millimetres 毫米
mile miles mi 英里
ft foot feet 英尺
inch inches 英寸 寸
yard yards 码
l liter liters litre litres 升
ml milliliter milliliters millilitre 毫升
gallon gallons 加仑
cup cups 杯
hour hours hr hrs h 小时 个小时 钟头 个钟头
minute minutes min mins 分钟
second seconds sec secs s 秒 秒钟
day days 天 日
weekday workday workdays working_days 工作日 个工作日
week weeks 周 星期 个星期 个礼拜 礼拜
month months 个月 月
year years yr yrs 年
century centuries 世纪 个世纪
kb kilobyte kilobytes
mb megabyte megabytes 兆
gb gigabyte gigabytes gigs
tb terabyte terabytes
mbps
gbps
celsius °c ℃ 摄氏度
fahrenheit °f 华氏度
degree degrees ° 度
percent % pct 百分点
v volt volts 伏
w watt watts 瓦
kw kilowatt kilowatts 千瓦
kwh 千瓦时
hz hertz 赫兹
ghz
mhz
ms millisecond milliseconds 毫秒
usd dollar dollars bucks $ us$ 美元 美金
eur euro euros € 欧元
gbp £ 英镑
cny rmb yuan ¥ 元 块 块钱 人民币 元人民币
jpy yen 日元
hkd 港元 港币
krw 韩元
inr rupee rupees 卢比
person people persons 人 个人 名 位
time times 次
"""
_UNIT = {name.replace("_", " "): line.split()[0] for line in _UNITS.strip().splitlines() for name in line.split()}
UNITS = frozenset(_UNIT) | frozenset(_UNIT.values())
"""Every name of a unit."""
_LATIN_UNITS = "|".join(sorted((re.escape(u) for u in _UNIT if u.isascii() and u[0].isalpha()), key=len, reverse=True))
_HAN_UNITS = "|".join(sorted((re.escape(u) for u in _UNIT if not u[0].isascii()), key=len, reverse=True))
_MONTHS = {
    m: i + 1 for i, m in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
}
_MONTH = r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?:,?\s*(?P<year>\d{4}))?"
_CN = CHINESE_NUMERAL
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_EDGE_L, _EDGE_R = r"(?<![A-Za-z0-9_⟦#.])", r"(?![A-Za-z0-9_⟧])"

_LITERALS = re.compile(
    r"(?P<quote>\"[^\"]{1,120}\"|`[^`]{1,120}`|(?<![A-Za-z])'[^']{2,120}'(?![A-Za-z]))"
    r"|(?P<url>https?://[^\s，。？！\u4e00-\u9fff]+|www\.[^\s，。？！\u4e00-\u9fff]+)"
    r"|(?P<mail>[\w.+-]+@[\w-]+\.[\w.-]+)"
    r"|(?P<path>(?<![\w/])(?:~|\.{1,2})?/[\w.-]+(?:/[\w.-]*)*|[A-Za-z]:\\[\w\\.-]+)",
    re.ASCII,
)
_CODE = re.compile(
    r"(?<![A-Za-z0-9_⟦#])(?:--?[A-Za-z][\w-]*"
    r"|[A-Za-z_][A-Za-z0-9_]*(?:(?:\.|::|->)[A-Za-z_][A-Za-z0-9_]*)+(?:\(\))?"
    r"|[A-Za-z0-9]*_[A-Za-z0-9_]*[A-Za-z][A-Za-z0-9_]*(?:\(\))?"
    r"|[A-Za-z_][A-Za-z0-9_]*\(\)"
    r"|c\+\+|c#|f#|\.net|\.[a-z]{2,5}(?![a-z])"
    r"|[A-Za-z]+-?\d+[A-Za-z0-9]*(?:[.-]\d+[A-Za-z0-9]*)*"
    r"|\d+[a-zA-Z]+\d+[A-Za-z0-9]*)(?![A-Za-z0-9_])",
    re.IGNORECASE,
)
_VERSION = re.compile(
    r"(?<![\w.])v?\d+(?:\.\d+){2,}(?:[-.]?(?:rc|beta|alpha|a|b)\d*)?(?![\w.]*\d)|(?<![\w.])v\d+(?:\.\d+)*",
    re.I | re.ASCII,
)
_DATES = (
    re.compile(r"(?<!\d)(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})(?!\d)"),
    re.compile(r"(?<![\d.-])(?P<year>(?:19|20)\d{2})-(?P<month>0[1-9]|1[0-2])(?P<day>)(?![\d.-])"),
    re.compile(r"(?<![\d./])(?P<month>0[1-9]|1[0-2])/(?P<year>(?:19|20)\d{2})(?P<day>)(?![\d./])"),
    re.compile(rf"(?<![A-Za-z0-9]){_MONTH}\s+{_DAY}(?!\d){_YEAR}(?![\d:])", re.I),
    re.compile(rf"(?<![\d.]){_DAY}\s+(?:of\s+)?{_MONTH}(?![a-z]){_YEAR}", re.I),
    re.compile(rf"(?<![A-Za-z0-9])(?P<day>)(?!may\b){_MONTH}(?![a-z]),?\s+(?P<year>\d{{4}})(?!\d)", re.I),
    re.compile(rf"(?:(?P<year>\d{{4}}|\d{{2}}|[零〇一二三四五六七八九]{{4}})\s*年\s*)(?P<month>\d{{1,2}}|{_CN})\s*月(?:份)?(?:\s*(?P<day>\d{{1,2}}|{_CN})\s*[日号])?"),
    re.compile(rf"(?P<year>)(?<![\d个])(?P<month>\d{{1,2}}|{_CN})\s*月\s*(?P<day>\d{{1,2}}|{_CN})\s*[日号]?"),
    re.compile(r"(?P<year>)(?P<day>)(?<![\d个])(?P<month>1[0-2]|[1-9]|十[一二]?|[一二三四五六七八九])\s*月份?(?![球亮薪光饼底])"),
)  # fmt: skip
_TIMES = re.compile(
    r"(?<![\d.])(?P<h>\d{1,2}):(?P<m>\d{2})(?::\d{2})?\s*(?P<half>am|pm|a\.m\.|p\.m\.)?(?![\d])"
    r"|(?<![\d.])(?P<h2>\d{1,2})\s*(?P<half2>am|pm|a\.m\.|p\.m\.|o'clock)(?![a-z])"
    rf"|(?P<part>凌晨|早上|早晨|上午|中午|下午|傍晚|晚上|夜里)?(?P<h3>\d{{1,2}}|{_CN})\s*点(?:钟|整|(?P<m3>半|一刻|三刻|\d{{1,2}}分?|{_CN}分))?(?![儿的击])",
    re.I,
)
_MONEY = re.compile(rf"(?P<cur>US\$|[$€£¥]|\b(?:USD|EUR|GBP|CNY|RMB|JPY)\b)\s*(?P<num>{_NUMBER})\s*(?P<scale>k|m|bn|mn|million|billion|thousand|万|亿)?{_EDGE_R}", re.I)  # fmt: skip
_PERCENT_CN = re.compile(rf"百分之(?P<num>{_NUMBER}|{_CN})")
_PLAIN = re.compile(
    rf"(?P<sign>(?<![^\s(=<>取为是到])-)?{_EDGE_L}(?P<num>{_NUMBER})\s*(?P<scale>(?:k|bn|mn|million|billion|thousand|trillion)(?![a-z])|[百千万亿]+(?!克|米|瓦))?"
    rf"(?:\s*-?(?P<unit>%|°[cf]?|{_HAN_UNITS}|(?:{_LATIN_UNITS})(?![A-Za-z])))?",
    re.I,
)
_HAN_NUMBER = re.compile(
    rf"(?P<ord>第)?(?P<num>{_CN})(?:点(?P<frac>[零一二三四五六七八九]+))?\s*(?P<unit>{_HAN_UNITS})?"
)
_SEASON = re.compile(r"第?([1-4一二三四])季度")
_NOT_NUMBERS = re.compile(
    "一战|二战|第一次世界大战|第二次世界大战|一下|一般|一起|一些|一样|一直|一定|一切|万一|唯一|统一|一点|一旦|一律|一边|一时|之一|一共|一致|一种|一个人|一方面|三明治|"
    "四川|五金|七夕|十分|百度|百科|千万别|一番|万物|百分|一带|三亚|九寨沟|一部分|千克|千米|千瓦|进一步|一键|一次性|星期[一二三四五六]|"
    "周[一二三四五六]|礼拜[一二三四五六]|三角|四季|万能|百货|零食|零售|零钱|八卦|两者|第一次"
)
_ONE_UNIT = re.compile(rf"[\s-]+(?:hundred|thousand|million|billion|(?:{_LATIN_UNITS})(?![A-Za-z]))", re.I)
_NUMBER_HYPHEN = re.compile(
    rf"\b(two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|twenty|thirty)-({_LATIN_UNITS})\b",
    re.I,
)
_OPERATOR = re.compile(
    r"[A-Za-z0-9_]*(?:\+\+|--(?=[A-Za-z_\s]|$)|==|!=|<=|>=|&&|\|\||=>|->|\*\*|<<|>>|\^)[A-Za-z0-9_]*"
)
_EQUATION = re.compile(
    r"(?<![\w#⟦.])(?=\S{0,40}\d)[\w().^*/+-]{0,40}[\w)]\s?=\s?[\w(+-][\w().^*/+=-]{0,40}(?![\w⟧])", re.ASCII
)
_CRONTAB = re.compile(r"(?<![\w*/])(?=[^\n*]*\*)(?:[\d*][\d*/,-]*\s){4}[\d*][\d*/,-]*(?![\w*/])")
"""`0 2 * * 1`: five fields, one of them a star, whose order is the schedule."""
_TWO_FACTOR = re.compile(
    r"\b(?:2fa|(?:two|2)[- ]?(?:factor|step) (?:authentication|verification)|two[- ]factor)\b", re.I
)
_TIMES_OVER = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s?[x×](?!\w)|(?<![\w.])(\d+(?:\.\d+)?)\s?倍")
_ORDINAL_WORDS = {
    "1": "first",
    "2": "second",
    "3": "third",
    "4": "fourth",
    "5": "fifth",
    "6": "sixth",
    "7": "seventh",
    "8": "eighth",
    "9": "ninth",
    "10": "tenth",
}
_ONE_OF = re.compile(
    r"(?<![一二三四五六七八九十百千万第\d每])[一1](?:个(?!月|小时|钟头|星期|礼拜|工作日|世纪|人)|台|间|张|份|名|位|条|本|种|款|家|座|辆|部|根|只|件|支|篇|项|套|门|场|封)(?=[\u4e00-\u9fffA-Za-z])"
)
_NEXT_ONE = re.compile(r"(?<=[下上每哪某这那同])一(?=[次个年月周届天位])")
_WORD = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)*")


def mark_facts(text: str) -> str:
    """Return the text with every fact replaced by its mark."""
    text = _NUMBER_HYPHEN.sub(r"\1 \2", text)
    text = _TWO_FACTOR.sub(" twofactor ", text)
    text = _TIMES_OVER.sub(lambda m: f"{m[1] or m[2]} times ", text)
    text = _ONE_OF.sub("", _NEXT_ONE.sub("", text))
    text = _LITERALS.sub(_literal, text)
    text = _outside(_CRONTAB, lambda m: _mark("code " + m.group()), text)
    text = _outside(_EQUATION, lambda m: _mark("code " + m.group().replace(" ", "").lower().rstrip(".")), text)
    text = _outside(_OPERATOR, lambda m: _mark("code " + m.group()), text)
    for pattern in _DATES:
        text = _outside(pattern, _date, text)
    text = _outside(_SEASON, lambda m: _mark(f"quarter {_read(m[1])}"), text)
    text = _outside(_VERSION, lambda m: _mark("version " + m.group().lower().lstrip("v")), text)
    text = _outside(_TIMES, _time, text)
    text = _outside(_MONEY, _money, text)
    text = _outside(_PERCENT_CN, lambda m: _mark(_read(m["num"]) + " percent") if _read(m["num"]) else m.group(), text)
    text = _outside(ORDINAL, lambda m: _ORDINAL_WORDS.get(m[1]) or _mark("rank " + m[1]), text)
    text = _outside(_CODE, _code, text)
    text = _outside(_PLAIN, _plain, text)
    text = _outside(re.compile(rf"{_NOT_NUMBERS.pattern}|{_HAN_NUMBER.pattern}"), _han, text)
    return _spelled(text)


def facts_in(marked: str) -> tuple[str, ...]:
    """Return the facts of a marked text, sorted."""
    return tuple(sorted(MARK.findall(marked)))


def _mark(text: str) -> str:
    return f" ⟦#{text}⟧ "


def _outside(pattern: re.Pattern[str], replace: object, text: str) -> str:
    """Replace where no mark stands yet."""
    pieces = re.split(r"(⟦[^⟧]*⟧)", text)
    return "".join(p if p.startswith("⟦") else pattern.sub(replace, p) for p in pieces)  # type: ignore[call-overload]


def _literal(match: re.Match[str]) -> str:
    if match["quote"]:
        inside = match["quote"][1:-1].strip().replace("⟧", "")
        return (
            f" {inside} "
            if re.fullmatch(r"[\w ]{2,40}", inside) and match["quote"][0] != "`"
            else _mark("quote " + inside)
        )
    return _mark(f"{match.lastgroup} {match.group().rstrip('.,?!')}")


def _code(match: re.Match[str]) -> str:
    text = match.group()
    if text.lower() in ("e-mail", "wi-fi"):
        return text
    return _mark("code " + (text.lower() if text.replace("-", "").isalnum() else text))


def _read(text: str | None) -> str:
    if not text:
        return ""
    if text[0].isdigit():
        return number_text(parse_digits(text))
    value = parse_chinese(text)
    return "" if value is None else number_text(value)


def _date(match: re.Match[str]) -> str:
    month = match["month"].lower()
    number = str(_MONTHS[month[:3]]) if month[:3] in _MONTHS else _read(month)
    day, year = _read(match["day"]), _read(match["year"])
    if not number or int(number) > 12 or (day and int(day) > 31):
        return match.group()
    return _mark(f"date {year}-{int(number):02}" + (f"-{int(day):02}" if day else ""))


def _time(match: re.Match[str]) -> str:
    hour = _read(match["h"] or match["h2"] or match["h3"])
    if not hour or int(hour) > 24:
        return match.group()
    half = (match["half"] or match["half2"] or "").lower().replace(".", "")
    part, minutes = match["part"] or "", match["m"] or ""
    if match["m3"]:
        minutes = {"半": "30", "一刻": "15", "三刻": "45"}.get(match["m3"]) or _read(match["m3"].rstrip("分"))
    value = int(hour)
    if (half == "pm" or part in ("下午", "傍晚", "晚上")) and value < 12:
        value += 12
    if half == "am" and value == 12:
        value = 0
    sure = "" if half in ("am", "pm") or part or value > 12 or match["h"] else "?"
    return _mark(f"time {value:02}:{int(minutes or 0):02}{sure}")


def _scaled(number: Decimal, scale: str | None) -> Decimal:
    for name in [scale.lower()] if scale and scale[0].isascii() else list(scale or ""):
        number *= SCALES.get(name) or SHORT_SCALES.get(name) or CHINESE_SCALE[name]
    return number


def _money(match: re.Match[str]) -> str:
    return _mark(f"{number_text(_scaled(parse_digits(match['num']), match['scale']))} {_UNIT[match['cur'].lower()]}")


def _plain(match: re.Match[str]) -> str:
    sign = match["sign"] or ""
    if match["num"].endswith("0") and "." in match["num"] and not match["scale"] and not match["unit"]:
        return _mark(sign + match["num"])  # may be a release: 3.10 is not 3.1
    value = sign + number_text(_scaled(parse_digits(match["num"]), match["scale"]))
    return _mark(_with_unit(value, match["unit"]))


def _with_unit(value: str, unit: str | None) -> str:
    name = _UNIT[unit.lower()] if unit else ""
    if name == "year" and len(value) == 4:
        name = ""
    return f"{value} {name}".rstrip()


def _han(match: re.Match[str]) -> str:
    if match["num"] is None:
        return match.group()
    value = parse_chinese(match["num"])
    if value is None:
        return match.group()
    text = number_text(value) + (("." + _read(match["frac"])) if match["frac"] else "")
    return _mark("rank " + text if match["ord"] else _with_unit(text, match["unit"]))


def _spelled(text: str) -> str:
    out, words, at = [], list(_WORD.finditer(text)), 0
    place = 0
    while place < len(words):
        word = words[place]
        inside = text.rfind("⟦", 0, word.start()) > text.rfind("⟧", 0, word.start())
        single = word.group().lower() == "one" and not _ONE_UNIT.match(text, word.end())
        if inside or single or not is_spelled(word.group().lower()):
            place += 1
            continue
        near = [w.group().lower() for w in words[place : place + 8]]
        found = parse_english(near)
        if found is None:
            place += 1
            continue
        value, taken = found
        stop = words[place + taken - 1].end()
        unit = re.match(rf"[\s-]*({_LATIN_UNITS})(?![A-Za-z])", text[stop:], re.I)
        out.append(text[at : word.start()] + _mark(_with_unit(number_text(value), unit[1] if unit else None)))
        at = stop + (unit.end() if unit else 0)
        while place < len(words) and words[place].start() < at:
            place += 1
    return "".join(out) + text[at:]
