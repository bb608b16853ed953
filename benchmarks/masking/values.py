"""Valid values of every kind, each in its plain form, from a seeded source."""

from __future__ import annotations

import base64
import ipaddress
import re
import string
from collections.abc import Callable
from datetime import date, timedelta
from random import Random
from typing import Final

from benchmarks.masking import checks
from benchmarks.masking.words import (
    AREA_CODES,
    CITIES_EN,
    CITIES_ZH,
    COUNTIES,
    DOMAINS,
    GIVEN_EN,
    GIVEN_ZH,
    PINYIN,
    PROVINCES,
    STATES,
    STREETS_EN,
    STREETS_ZH,
    SURNAMES_EN,
    SURNAMES_ZH,
    YARDS_ZH,
)

ALNUM: Final = string.ascii_letters + string.digits
_MOBILE: Final = (
    "130 131 132 133 134 135 136 137 138 139 145 147 149 150 151 152 153 155 156 157 158 159 162 165 166 167 "
    "170 171 172 173 175 176 177 178 180 181 182 183 184 185 186 187 188 189 190 191 192 193 195 196 197 198 199"
).split()
# Issuer prefix and length. UnionPay debit cards have 16 to 19 digits, mostly 19.
_CARDS: Final = (
    *((prefix, 19) for prefix in (
        "622848", "622845", "622202", "622208", "621226", "621700", "621660", "621661", "622260", "621799", "623058",
        "622188", "621098", "622568", "621283", "621785", "621467", "623668")),
    *((prefix, 16) for prefix in (
        "622700", "622588", "622622", "622521", "622660", "622632", "622155", "621485", "621483", "622696")),
    ("622908", 18), ("622909", 18),
    *(("4" + str(digit), 16) for digit in range(10)), *(("5" + str(digit), 16) for digit in range(1, 6)),
    ("2221", 16), ("2720", 16), ("2500", 16), ("34", 15), ("37", 15), ("6011", 16), ("65", 16), ("3528", 16), ("3589", 16),
    ("36", 14), ("38", 14), ("300", 14), ("305", 14),
)  # fmt: skip
# Country and form of the account: n digits, a letters, c either. Source: SWIFT IBAN registry.
_IBANS: Final = (
    ("DE", "n18"), ("GB", "a4n14"), ("FR", "n10c11n2"), ("NL", "a4n10"), ("ES", "n20"), ("IT", "a1n10c12"), ("CH", "n5c12"),
    ("BE", "n12"), ("SE", "n20"), ("PL", "n24"), ("AT", "n16"), ("AE", "n19"), ("IE", "a4n14"), ("DK", "n14"), ("NO", "n11"),
)  # fmt: skip


def digits(random: Random, count: int) -> str:
    return "".join(random.choices(string.digits, k=count))


def cn_id(random: Random) -> str:
    born = date(1940, 1, 1) + timedelta(days=random.randrange(31_000))
    area = random.choice(COUNTIES) if random.random() < 0.98 else random.choice(("810000", "820000", "830000"))
    body = f"{area}{born:%Y%m%d}{digits(random, 3)}"
    if random.random() < 0.15:  # One in eleven ends in X; more here, since X is where detectors fail.
        for order in range(1000):
            if checks.identity_digit(f"{body[:14]}{order:03d}") == "X":
                body = f"{body[:14]}{order:03d}"
                if random.random() < 0.2:
                    break
    return body + checks.identity_digit(body)


def cn_mobile(random: Random) -> str:
    return random.choice(_MOBILE) + digits(random, 8)


def cn_landline(random: Random) -> str:
    """Return area code, a dash, and the subscriber."""
    code, length = random.choice(AREA_CODES)
    return f"{code}-{random.choice('2345678')}{digits(random, length - 1)}"


def bank_card(random: Random) -> str:
    prefix, length = random.choice(_CARDS)
    body = prefix + digits(random, length - len(prefix) - 1)
    return body + checks.luhn_digit(body)


def cn_uscc(random: Random) -> str:
    """Return a code; one whose digits alone could be a card or an identity number is not drawn."""
    alphabet = checks.USCC_ALPHABET
    while True:
        kind = random.choice(("91", "91", "91", "92", "93", "11", "12", "51", "52", "53", "54", "Y1", "N1", "A1"))
        if random.random() < 0.4:
            organisation = random.choice("1234567") + digits(random, 7)
        else:
            organisation = "MA" + "".join(random.choices(alphabet, k=6))
        body = kind + random.choice(COUNTIES) + organisation + checks.organisation_digit(organisation)
        code = body + checks.uscc_digit(body)
        if not (code.isdigit() and (checks.luhn_holds(code) or checks.identity_holds(code))):
            return code


def cn_passport(random: Random) -> str:
    if random.random() < 0.4:
        return "E" + random.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") + digits(random, 7)
    return random.choice("EEEEGDSP") + digits(random, 8)


def cn_plate(random: Random) -> str:
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    head = random.choice(PROVINCES) + random.choice(letters)
    draw = random.random()
    if draw < 0.55:
        tail = [*digits(random, 5)]
        for place in random.sample(range(5), random.randrange(3)):
            tail[place] = random.choice(letters)
        return head + "".join(tail)
    if draw < 0.75:
        return head + random.choice("DF") + random.choice(letters + string.digits) + digits(random, 4)
    if draw < 0.85:
        return head + digits(random, 5) + random.choice("DF")
    if draw < 0.97:
        return head + digits(random, 4) + random.choice("学警挂")
    return "粤Z" + digits(random, 4) + random.choice("港澳")


def email(random: Random) -> str:
    given, family = random.choice(GIVEN_EN).lower(), random.choice(SURNAMES_EN).lower()
    local = random.choice((
        f"{given}.{family}", f"{given[0]}{family}", f"{family}_{given}", f"{random.choice(PINYIN)}{random.choice(PINYIN)}",
        f"{random.choice(PINYIN)}{digits(random, 3)}", f"{given}+{random.choice(('bank', 'test', 'news'))}",
        digits(random, random.choice((7, 8, 9, 10))), f"{given}-{family}", f"{given}.{family}{digits(random, 2)}",
    ))  # fmt: skip
    domain = random.choice(DOMAINS)
    if local.isdigit():
        domain = random.choice(("qq.com", "163.com", "126.com"))
    if random.random() < 0.1:
        domain = random.choice(("mail.", "hr.", "cn.")) + domain
    return f"{local}@{domain}"


def iban(random: Random) -> str:
    country, form = random.choice(_IBANS)
    pools = {"n": string.digits, "a": string.ascii_uppercase, "c": string.digits + string.ascii_uppercase}
    account = "".join(
        "".join(random.choices(pools[letter], k=int(count))) for letter, count in re.findall(r"([nac])(\d+)", form)
    )
    return country + checks.iban_digits(country, account) + account


def us_ssn(random: Random) -> str:
    area = random.choice([number for number in range(1, 900) if number != 666])
    return f"{area:03d}-{random.randrange(1, 100):02d}-{random.randrange(1, 10_000):04d}"


def phone(random: Random) -> str:
    """Return a number of another country, as people there write it."""

    def nanp() -> tuple[str, str, str]:
        area = random.choice((212, 310, 312, 415, 617, 646, 713, 206, 305, 404, 512, 702, 503, 202, 416, 604))
        return str(area), f"{random.randrange(200, 900)}", digits(random, 4)

    area, exchange, line = nanp()
    return random.choice((
        f"+1 ({area}) {exchange}-{line}", f"+1-{area}-{exchange}-{line}", f"+1 {area} {exchange} {line}",
        f"({area}) {exchange}-{line}", f"{area}-{exchange}-{line}", f"+1{area}{exchange}{line}",
        f"+44 20 7{digits(random, 3)} {digits(random, 4)}", f"+44 7{digits(random, 3)} {digits(random, 6)}",
        f"+49 30 {random.randrange(2, 9)}{digits(random, 6)}", f"+49 151 {random.randrange(2, 9)}{digits(random, 7)}",
        f"+33 {random.choice('1456')} {' '.join(digits(random, 2) for _ in range(4))}",
        f"+81 3-{random.randrange(3, 6)}{digits(random, 3)}-{digits(random, 4)}", f"+81 90-{random.randrange(1, 9)}{digits(random, 3)}-{digits(random, 4)}",
        f"+65 {random.choice('689')}{digits(random, 3)} {digits(random, 4)}", f"+852 {random.choice('569')}{digits(random, 3)} {digits(random, 4)}",
        f"+61 4{digits(random, 2)} {digits(random, 3)} {digits(random, 3)}", f"+91 9{digits(random, 4)} {digits(random, 5)}",
    ))  # fmt: skip


def ip(random: Random) -> str:
    draw = random.random()
    if draw < 0.5:
        first = random.choice((8, 23, 36, 42, 58, 61, 101, 113, 114, 120, 139, 175, 183, 202, 218, 222))
        return f"{first}.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(1, 255)}"
    if draw < 0.75:
        tail = f"{random.randrange(256)}.{random.randrange(1, 255)}"
        return random.choice(("10.{}." + tail, "192.168." + tail, "172.16." + tail)).format(random.randrange(256))
    head = random.choice(("2408:8000", "2409:8a00", "240e:0", "2001:db8", "2a02:26f0", "fe80:0", "fd12:3456"))
    full = ":".join(
        [
            head,
            *(f"{random.choice((0, random.randrange(65536))):x}" for _ in range(5)),
            f"{random.randrange(1, 65536):x}",
        ]
    )
    return str(ipaddress.IPv6Address(full)) if random.random() < 0.8 else full


def secret(random: Random) -> str:
    """Return an API key in the form of one that issues them."""

    def run(pool: str, count: int) -> str:
        return "".join(random.choices(pool, k=count))

    upper, hexa = string.ascii_uppercase + "234567", "0123456789abcdef"
    return random.choice((
        "AKIA" + run(upper, 16), "ASIA" + run(upper, 16), "ghp_" + run(ALNUM, 36), "gho_" + run(ALNUM, 36),
        "github_pat_" + run(ALNUM, 22) + "_" + run(ALNUM, 59), "sk-" + run(ALNUM, 48), "sk-" + run(hexa, 32),
        "sk-proj-" + run(ALNUM, 48), "sk-ant-api03-" + run(ALNUM + "-_", 93) + "AA",
        f"xoxb-{digits(random, 12)}-{digits(random, 13)}-{run(ALNUM, 24)}", "AIza" + run(ALNUM, 35),
        "sk_live_" + run(ALNUM, 24), "glpat-" + run(ALNUM, 20), "npm_" + run(ALNUM, 36), "hf_" + run(ALNUM, 34),
        "LTAI5t" + run(ALNUM, 18), "AKID" + run(ALNUM, 32), "SG." + run(ALNUM, 22) + "." + run(ALNUM, 43), jwt(random),
    ))  # fmt: skip


def jwt(random: Random) -> str:
    """Return a signed token as a browser holds it."""

    def part(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    head = part(random.choice((b'{"alg":"HS256","typ":"JWT"}', b'{"alg":"RS256","typ":"JWT","kid":"k1"}')))
    claims = f'{{"sub":"{digits(random, 10)}","iat":1{digits(random, 9)}}}'
    return f"{head}.{part(claims.encode())}.{part(random.randbytes(32))}"


def password(random: Random) -> str:
    """Return a password that only its neighbour, the word for one, gives away."""
    body = [random.choice(string.ascii_uppercase), random.choice(string.digits), random.choice("#$%!&*_")]
    body += random.choices(ALNUM, k=random.randrange(6, 12))
    random.shuffle(body)
    return random.choice(ALNUM) + "".join(body) + random.choice(ALNUM)


def private_key(random: Random) -> tuple[str, str, str]:
    """Return first line, body and last line of a PEM block."""
    label, head, lines = random.choice((
        ("RSA PRIVATE KEY", "MIIEpAIBAAKCAQEA", 12), ("EC PRIVATE KEY", "MHcCAQEEI", 3), ("PRIVATE KEY", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", 10),
        ("OPENSSH PRIVATE KEY", "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ", 6), ("ENCRYPTED PRIVATE KEY", "MIIFHDBOBgkqhkiG9w0BBQ0wQTApBgkq", 10),
    ))  # fmt: skip
    text = head + "".join(random.choices(ALNUM + "+/", k=64 * lines - len(head) - 20)) + "="
    return (
        f"-----BEGIN {label}-----",
        "\n".join(text[at : at + 64] for at in range(0, len(text), 64)),
        f"-----END {label}-----",
    )


def name_zh(random: Random) -> str:
    return random.choice(SURNAMES_ZH) + random.choice(GIVEN_ZH)


def name_en(random: Random) -> str:
    middle = f" {random.choice(string.ascii_uppercase)}." if random.random() < 0.15 else ""
    return f"{random.choice(GIVEN_EN)}{middle} {random.choice(SURNAMES_EN)}"


def address_zh(random: Random) -> str:
    city = random.choice(CITIES_ZH)
    street = f"{random.choice(STREETS_ZH)}{random.randrange(1, 999)}号"
    yard = random.choice(YARDS_ZH)
    flat = random.choice((
        f"{random.randrange(1, 30)}号楼{random.randrange(1, 6)}单元{random.randrange(1, 33)}0{random.randrange(1, 8)}室",
        f"{random.randrange(1, 30)}栋{random.randrange(1, 33)}0{random.randrange(1, 8)}", f"{random.choice('ABCDE')}座{random.randrange(2, 30)}层", "",
    ))  # fmt: skip
    return city + random.choice((street + yard + flat, street, street + flat if flat else street))


def address_en(random: Random) -> str:
    city, state = random.choice(CITIES_EN), random.choice(STATES)
    flat = random.choice(
        ("", f", Apt {random.randrange(1, 40)}{random.choice('ABCD')}", f", Suite {random.randrange(100, 900)}")
    )
    zip_code = f"{random.randrange(10_000, 99_000)}"
    return f"{random.randrange(1, 9999)} {random.choice(STREETS_EN)}{flat}, {city}, {state} {zip_code}"


MAKERS: Final[dict[str, Callable[[Random], str]]] = {
    "cn_id": cn_id, "cn_mobile": cn_mobile, "cn_landline": cn_landline, "bank_card": bank_card, "cn_uscc": cn_uscc,
    "cn_passport": cn_passport, "cn_plate": cn_plate, "email": email, "iban": iban, "us_ssn": us_ssn, "phone": phone,
    "ip": ip, "secret": secret,
}  # fmt: skip
