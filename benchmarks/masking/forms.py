"""The ways a value is written that make it hard to see: grouped, full-width, broken, strewn with invisible
characters."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from benchmarks.masking import values
from benchmarks.masking.pieces import Piece
from benchmarks.masking.words import TITLES_EN, TITLES_ZH

ZERO_WIDTH: Final = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
_SEPARATORS: Final = (
    ("space", " "), ("space", " "), ("dash", "-"), ("dash", "-"), ("dot", "."), ("no-break space", "\u00a0"),
    ("full-width space", "\u3000"), ("en dash", "\u2013"), ("full-width dash", "\uff0d"), ("middle dot", "\u00b7"),
)  # fmt: skip
_GROUPS: Final = {
    "cn_mobile": ((3, 4, 4), (3, 4, 4), (4, 4, 3), (3, 3, 5)),
    "cn_id": ((6, 8, 4), (6, 8, 4), (6, 4, 4, 4), (3, 3, 4, 4, 4)),
    "bank_card": ((4, 4, 4, 4, 4), (4, 4, 4, 4, 4), (6, 13), (8, 11), (4, 6, 9)),
    "cn_uscc": ((2, 6, 9, 1), (4, 4, 4, 4, 2), (8, 10)),
    "iban": ((4, 4, 4, 4, 4, 4, 4),),
}
_WIDE: Final = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}


def full_width(text: str) -> str:
    return text.translate(_WIDE)


def grouped(text: str, sizes: Sequence[int], separator: str) -> str:
    """Return `text` with a separator between groups; what is left over is in the last group."""
    parts, at = [], 0
    for size in sizes:
        if at < len(text):
            parts.append(text[at : at + size])
            at += size
    if at < len(text):
        parts[-1] += text[at:]
    return separator.join(parts)


def strewn(random: Random, text: str) -> str:
    """Return `text` with one to four invisible characters between its own."""
    chars = list(text)
    for place in sorted(random.sample(range(1, len(chars)), min(random.randrange(1, 5), len(chars) - 1)), reverse=True):
        chars.insert(place, random.choice(ZERO_WIDTH))
    return "".join(chars)


def written(random: Random, kind: str) -> list[Piece]:
    """Return a value of `kind` as somebody wrote it, with the pieces that belong to it but identify nobody."""
    match kind:
        case "cn_landline":
            return _landline(random)
        case "email":
            return [_email(random)]
        case "us_ssn":
            return [_ssn(random)]
        case "phone":
            value = values.phone(random)
            return [_maybe_wide(random, kind, value)]
        case "ip":
            return _address(random)
        case "cn_plate":
            return [_plate(random)]
        case "cn_passport":
            value = values.cn_passport(random)
            draw = random.random()
            if draw < 0.08:
                return [Piece(value.lower(), kind, "lower case")]
            if draw < 0.16:
                return [Piece(full_width(value), kind, "full-width")]
            return [Piece(value, kind)]
        case "password":
            return [Piece(values.password(random), "secret", "password")]
        case "secret":
            return [Piece(values.secret(random), kind, "api key")]
        case "private_key":
            first, body, last = values.private_key(random)
            return [Piece(first + "\n", free=True), Piece(body, kind, "pem"), Piece("\n" + last, free=True)]
        case "name_zh" | "name_en" | "name_zh_bare" | "name_en_bare":
            return _name(random, kind)
        case "address_zh":
            return [Piece(values.address_zh(random), "address", "chinese")]
        case "address_en":
            return [Piece(values.address_en(random), "address", "english")]
        case _:
            return _number(random, kind)


def _number(random: Random, kind: str) -> list[Piece]:
    """A mobile, an identity number, a card, a credit code or an IBAN, disguised in a third of the cases and more."""
    text = values.MAKERS[kind](random)
    before: list[Piece] = []
    form = "plain"
    if kind in ("cn_id", "iban", "cn_uscc") and random.random() < 0.12:
        text, form = text.lower(), "lower case" if text.lower() != text else "plain"
    if kind == "cn_mobile" and random.random() < 0.22:
        prefix = random.choice(("+86", "+86 ", "+86-", "0086", "0086-", "86-", "(+86)", "（+86）", "+86 (0)", "＋86"))
        before, form = [Piece(prefix, free=True)], "+86"
    draw = random.random()
    label, separator = random.choice(_SEPARATORS)
    if draw < 0.58 or (draw >= 0.98 and kind in ("iban", "cn_uscc")):
        return [*before, Piece(text, kind, form)]
    if draw < 0.80:
        return [*before, Piece(grouped(text, random.choice(_GROUPS[kind]), separator), kind, _join(form, label))]
    if draw < 0.87:
        return [*before, Piece(full_width(text), kind, _join(form, "full-width"))]
    if draw < 0.90:
        joint = random.choice((" ", "\uff0d", "\u3000", "-"))
        return [
            *before,
            Piece(
                grouped(full_width(text), random.choice(_GROUPS[kind]), joint), kind, _join(form, "full-width grouped")
            ),
        ]
    if draw < 0.95:
        return [*before, Piece(strewn(random, text), kind, _join(form, "zero-width"))]
    if draw < 0.98:
        return [
            *before,
            Piece(
                grouped(text, random.choice(_GROUPS[kind]), random.choice(("\n", "\n", " \n", "-\n", "\r\n"))),
                kind,
                _join(form, "line break"),
            ),
        ]
    return [
        *before,
        Piece(
            separator.join(text) if label in ("space", "dash") else " ".join(text),
            kind,
            _join(form, "every digit apart"),
        ),
    ]


def _join(form: str, label: str) -> str:
    return label if form == "plain" else f"{form}, {label}"


def _maybe_wide(random: Random, kind: str, value: str) -> Piece:
    draw = random.random()
    if draw < 0.05:
        return Piece(full_width(value), kind, "full-width")
    if draw < 0.1:
        return Piece(strewn(random, value), kind, "zero-width")
    if draw < 0.15:
        return Piece(value.replace("-", ".").replace(" ", ".").replace("(", "").replace(")", ""), kind, "dot")
    return Piece(value, kind, "local" if value[0] != "+" else "plain")


def _landline(random: Random) -> list[Piece]:
    area, subscriber = values.cn_landline(random).split("-")
    text, form = random.choice((
        (f"{area}-{subscriber}", "plain"), (f"{area}-{subscriber}", "plain"), (f"{area} {subscriber}", "space"),
        (f"({area}){subscriber}", "brackets"), (f"（{area}）{subscriber}", "brackets"), (f"({area}) {subscriber}", "brackets"),
        (f"{area}{subscriber}", "joined"), (f"{area}-{subscriber[:4]}-{subscriber[4:]}", "dash"), (f"{area}－{subscriber}", "full-width dash"),
        (f"+86 {area[1:]} {subscriber}", "+86"), (f"+86-{area[1:]}-{subscriber}", "+86"), (f"0086-{area[1:]}-{subscriber}", "+86"),
        (f"+86{area[1:]}{subscriber}", "+86"), (full_width(f"{area}-{subscriber}"), "full-width"), (f"{area}.{subscriber}", "dot"),
    ))  # fmt: skip
    piece = [Piece(text, "cn_landline", form)]
    if random.random() < 0.1:
        piece.append(
            Piece(random.choice(("-", "转", " ext. ", "转分机")) + str(random.randrange(100, 9000)), free=True)
        )
    return piece


def _email(random: Random) -> Piece:
    value = values.email(random)
    draw = random.random()
    if draw < 0.06:
        return Piece(value.upper(), "email", "upper case")
    if draw < 0.1:
        return Piece(value.replace("@", "＠"), "email", "full-width @")
    if draw < 0.13:
        return Piece(full_width(value), "email", "full-width")
    if draw < 0.16:
        return Piece(strewn(random, value), "email", "zero-width")
    return Piece(value, "email")


def _ssn(random: Random) -> Piece:
    value = values.us_ssn(random)
    draw = random.random()
    if draw < 0.12:
        return Piece(value.replace("-", " "), "us_ssn", "space")
    if draw < 0.18:
        return Piece(value.replace("-", "\u2013"), "us_ssn", "en dash")
    if draw < 0.24:
        return Piece(full_width(value), "us_ssn", "full-width")
    if draw < 0.28:
        return Piece(strewn(random, value), "us_ssn", "zero-width")
    if draw < 0.36:
        return Piece(value.replace("-", ""), "us_ssn", "joined")
    return Piece(value, "us_ssn")


def _address(random: Random) -> list[Piece]:
    value = values.ip(random)
    if ":" in value:
        return [Piece(value.upper(), "ip", "v6 upper case") if random.random() < 0.1 else Piece(value, "ip", "v6")]
    form = "v4 private" if value.startswith(("10.", "192.168.", "172.16.")) else "v4"
    if random.random() < 0.05:
        return [Piece(full_width(value), "ip", f"{form}, full-width")]
    after = (
        [Piece(random.choice((f":{random.randrange(80, 60_000)}", "/24")), free=True)] if random.random() < 0.2 else []
    )
    return [Piece(value, "ip", form), *after]


def _plate(random: Random) -> Piece:
    value = values.cn_plate(random)
    draw = random.random()
    if draw < 0.15:
        return Piece(f"{value[:2]}{random.choice('·•. -')}{value[2:]}", "cn_plate", "dot or space")
    if draw < 0.2:
        return Piece(value.lower(), "cn_plate", "lower case")
    if draw < 0.25:
        return Piece(full_width(value), "cn_plate", "full-width")
    return Piece(value, "cn_plate")


def _name(random: Random, kind: str) -> list[Piece]:
    """A name with a title, or one that the words of the template announce."""
    if kind == "name_zh_bare":
        return [Piece(values.name_zh(random), "name", "chinese, announced")]
    if kind == "name_en_bare":
        return [Piece(values.name_en(random), "name", "english, announced")]
    if kind == "name_en":
        name = values.name_en(random) if random.random() < 0.7 else values.name_en(random).split()[-1]
        return [Piece(random.choice(TITLES_EN) + " ", free=True), Piece(name, "name", "english, title")]
    whole = values.name_zh(random)
    title = random.choice(TITLES_ZH)
    if random.random() < 0.3:
        whole = whole[:2] if whole[:2] in ("欧阳", "司马", "上官", "诸葛") else whole[:1]
        return [Piece(whole, "name", "chinese, surname and title"), Piece(title, free=True)]
    return [Piece(whole, "name", "chinese, title"), Piece(title if title != "总" else "经理", free=True)]
