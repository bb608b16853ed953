"""Text that looks like an identifier and is none: numbers that fail their checks, and what machines write."""

from __future__ import annotations

import string
import uuid
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from benchmarks.masking import checks, values
from benchmarks.masking.values import ALNUM, digits


def plain_number(random: Random, length: int) -> str:
    """Return digits that are no card, no identity number and no telephone number."""
    while True:
        number = random.choice("23456789") + digits(random, length - 1)
        if (
            not any(holds(number) for holds in (checks.luhn_holds, checks.uscc_holds, checks.identity_holds))
            and number[:3] != "861"
        ):
            return number


def _other_end(value: str, alphabet: str, random: Random, holds: Callable[[str], bool]) -> str:
    while True:
        changed = value[:-1] + random.choice(alphabet)
        if not holds(changed):
            return changed


def order_number(random: Random) -> str:
    return plain_number(random, random.choice((8, 9, 10, 12, 13, 14, 16, 17, 18, 20)))


def dated_order(random: Random) -> str:
    """Return a date, then a running number, as shops write it: 18 to 22 digits."""
    while True:
        number = f"{_moment(random):%Y%m%d%H%M%S}{digits(random, random.choice((4, 6, 8)))}"
        if not checks.luhn_holds(number) and not checks.identity_holds(number):
            return number


def _moment(random: Random) -> datetime:
    return datetime(2023, 1, 1, tzinfo=UTC) + timedelta(seconds=random.randrange(120_000_000))


def timestamp(random: Random) -> str:
    when = _moment(random)
    seconds = int(when.timestamp())
    return random.choice((
        str(seconds), f"{seconds}{digits(random, 3)}", when.isoformat(), f"{when:%Y-%m-%d %H:%M:%S}", f"{when:%Y年%m月%d日}", f"{when:%Y.%m.%d}",
        f"{when:%Y%m%d}", f"{when:%H:%M:%S}.{digits(random, 3)}", f"{seconds}.{digits(random, 6)}", f"{when:%d/%b/%Y:%H:%M:%S +0800}",
    ))  # fmt: skip


def date_text(random: Random) -> str:
    when = _moment(random)
    return random.choice((f"{when:%Y-%m-%d}", f"{when:%Y年%m月%d日}", f"{when:%Y/%m/%d}"))


def bad_id(random: Random) -> str:
    value = values.cn_id(random)
    if random.random() < 0.5:
        return _other_end(
            value,
            "0123456789X",
            random,
            lambda text: checks.identity_holds(text) or (text.isdigit() and checks.luhn_holds(text)),
        )
    body = value[:6] + "19" + digits(random, 2) + random.choice(("13", "00", "27")) + digits(random, 5)
    body = body + checks.identity_digit(body)
    return bad_id(random) if checks.uscc_holds(body) or (body.isdigit() and checks.luhn_holds(body)) else body


def bad_card(random: Random) -> str:
    value = values.bank_card(random)
    text = _other_end(
        value, string.digits, random, lambda number: checks.luhn_holds(number) or checks.identity_holds(number)
    )
    return text if random.random() < 0.6 else " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def bad_uscc(random: Random) -> str:
    return _other_end(values.cn_uscc(random), checks.USCC_ALPHABET, random,
                      lambda text: checks.uscc_holds(text) or (text.isdigit() and checks.luhn_holds(text)) or checks.identity_holds(text))  # fmt: skip


def bad_iban(random: Random) -> str:
    value = values.iban(random)
    return value[:2] + f"{(int(value[2:4]) + random.randrange(1, 50)) % 97:02d}" + value[4:]


def bad_ip(random: Random) -> str:
    return random.choice((
        f"{random.randrange(256, 999)}.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(256)}",
        f"{random.randrange(1, 20)}.{random.randrange(20)}.{random.randrange(256, 999)}.{random.randrange(300, 9999)}",
        f"1.3.6.1.4.1.{random.randrange(1000, 60_000)}.{random.randrange(1, 9)}",
    ))  # fmt: skip


def bad_ssn(random: Random) -> str:
    return random.choice((f"000-{digits(random, 2)}-{digits(random, 4)}", f"666-1{digits(random, 1)}-{digits(random, 4)}",
                          f"9{digits(random, 2)}-00-{digits(random, 4)}", f"{digits(random, 3)}-00-{digits(random, 4)}"))  # fmt: skip


def bad_mobile(random: Random) -> str:
    """Return eleven digits that no mobile network has, or a mobile's digits inside a longer number."""
    return random.choice((
        "1" + random.choice("012") + digits(random, 9), "2" + digits(random, 10), values.cn_mobile(random) + digits(random, 1) + ".5",
        "0." + values.cn_mobile(random), random.choice("89") + values.cn_mobile(random) + digits(random, 8),
    ))  # fmt: skip


def version(random: Random) -> str:
    def n() -> int:
        return random.randrange(40)

    return random.choice((f"v{n()}.{n()}.{n()}", f"{n()}.{n()}.{n()}", f"{n()}.{n()}.{n()}-rc{n()}", f"v{n()}.{n()}.{n()}.{n()}", f"版本{n()}.{n()}.{n()}.{n()}",
                          f"{n()}.{n()}.{n()}+build.{digits(random, 8)}", f"{n()}.{n()}.{n()}.dev{n()}"))  # fmt: skip


def digest(random: Random) -> str:
    raw = random.randbytes(32).hex()
    return random.choice(
        (
            raw,
            raw[:40],
            raw[:32],
            "sha256:" + raw,
            raw[:7],
            raw[:12],
            f"sha512-{b64encode(random.randbytes(64)).decode()}",
        )
    )


def unique_id(random: Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def amount(random: Random) -> str:
    whole = random.randrange(1, 10 ** random.randrange(2, 10))
    return random.choice((f"¥{whole:,}.{digits(random, 2)}", f"{whole:,}.{digits(random, 2)}元", f"${whole:,}", f"人民币{whole}元整", f"{whole}.{digits(random, 2)}",
                          f"€{whole:,}", f"{values.cn_mobile(random)}.{digits(random, 2)}元", f"{whole}万元"))  # fmt: skip


def formula(random: Random) -> str:
    a, b = random.randrange(2, 99999), random.randrange(2, 99999)
    return random.choice((f"{a}*{b}={a * b}", f"{a} + {b} = {a + b}", f"f(x)={a}x^2-{b}x+1", f"{a / b:.12f}", "3.14159265358979", f"{a}e-{b % 30}", f"=SUM(A{a % 99}:B{b % 999})",
                          f"{a}-{b}-{a % 17}", f"({a % 90})({b % 9000})"))  # fmt: skip


def code(random: Random) -> str:
    return random.choice((
        f"arr[{random.randrange(999)}] = 0x{random.randbytes(8).hex()}", "re.compile(r'1[3-9]\\d{9}')", "std::vector<std::string>", "@app.route('/api/v1')",
        f"react@{random.randrange(20)}.2.0", f"@types/node@20.{random.randrange(20)}.1", f"#{random.randbytes(3).hex()}", f"ticket::find::<{random.randrange(99)}>",
        f"for (int i = 0; i < {random.randrange(10**6)}; i++)", f"if x > {random.randrange(10**9)}: return -1", f"color: rgba({random.randrange(255)}, 12, 255, 0.5)",
        "password = os.environ['DB_PASSWORD']", "api_key=<YOUR_API_KEY>", "token: null", "max_tokens: 2048", f"token_count={random.randrange(9999)}", "secret = getpass()",
        f"mac {':'.join(f'{random.randrange(256):02x}' for _ in range(6))}", f"seed={random.randrange(10**9)}", "import a.b.c as d", "password: ********", "sk-learn", "ask-me-anything-about-this-product",
    ))  # fmt: skip


def blob(random: Random) -> str:
    data = b64encode(random.randbytes(random.randrange(40, 120))).decode()
    return random.choice((f"data:image/png;base64,iVBORw0KGgo{data}", f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{data[:43]}", f"ETag: W/\"{random.randbytes(16).hex()}\"",
                          f"-----BEGIN PUBLIC KEY-----\n{data}\n-----END PUBLIC KEY-----", f"-----BEGIN CERTIFICATE-----\n{data}\n-----END CERTIFICATE-----"))  # fmt: skip


def parcel(random: Random) -> str:
    return random.choice(
        (
            f"SF{plain_number(random, 13)}",
            f"YT{plain_number(random, 13)}",
            f"EA{digits(random, 9)}CN",
            f"JD00{plain_number(random, 11)}",
            f"1Z{''.join(random.choices(ALNUM.upper(), k=16))}",
        )
    )


def error_code(random: Random) -> str:
    return random.choice(
        (
            f"E{digits(random, 4)}",
            f"ERR-{digits(random, 5)}",
            f"0x{digits(random, 8)}",
            f"ORA-{digits(random, 5)}",
            f"HTTP {random.choice((404, 500, 503))}",
        )
    )


def part_number(random: Random) -> str:
    return random.choice((f"PN{digits(random, 4)}-{digits(random, 3)}-{random.choice('ABC')}", f"GB/T {digits(random, 5)}-20{digits(random, 2)}", f"M{random.randrange(3, 30)}x{random.randrange(6, 90)}",
                          f"978-7-{digits(random, 3)}-{digits(random, 5)}-{digits(random, 1)}", f"批次{digits(random, 8)}", f"SN:{random.randbytes(6).hex().upper()}"))  # fmt: skip


def not_a_name(random: Random) -> str:
    """Return words in which a surname stands beside a title by accident."""
    return random.choice((
        "新政策先生效后执行", "高级经理岗位说明", "任何女士均可参加", "请联系项目经理处理", "金牌经理人计划", "主任务已完成", "程序总监听端口", "白班主管职责", "安全主任委员会", "方案总经理论验证",
        "江河总长度", "部门主管工程师培训", "常见老师傅经验", "Dr. of Philosophy", "Ms. Excel file", "the Mr. and Mrs. form of address", "Prof. Emeritus status", "Mark the king of spades",
    ))  # fmt: skip


def not_an_address(random: Random) -> str:
    return random.choice(
        (
            "走出一条新路子",
            "第3号文件",
            "一路平安",
            "5号楼层规划标准",
            "道路千万条",
            "Main Street is a metaphor",
            "the road ahead",
            "3 Avenue options",
            "省市区三级联动",
            "12 steps to recovery",
        )
    )


TRAPS: Final[dict[str, Callable[[Random], str]]] = {
    "order": order_number, "dated_order": dated_order, "time": timestamp, "date": date_text, "bad_id": bad_id, "bad_card": bad_card, "bad_uscc": bad_uscc,
    "bad_iban": bad_iban, "bad_ip": bad_ip, "bad_ssn": bad_ssn, "bad_mobile": bad_mobile, "version": version, "digest": digest, "uuid": unique_id, "amount": amount,
    "formula": formula, "code": code, "blob": blob, "parcel": parcel, "error": error_code, "part": part_number, "not_a_name": not_a_name, "not_an_address": not_an_address,
}  # fmt: skip
