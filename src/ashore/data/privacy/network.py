"""E-mail addresses, IP addresses, hardware addresses."""

from __future__ import annotations

import ipaddress
import re
import string
from collections.abc import Iterator
from typing import Final

from ashore.data.privacy.model import Entity
from ashore.data.privacy.page import Page

_LOCAL_BACKWARDS: Final = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._%+'~-]{0,62}[A-Za-z0-9]|[A-Za-z0-9]")
"""What stands before the sign, read from there: forwards, a search would begin at every place before it."""
_DOMAIN: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])")
_SPELT_AT: Final = re.compile(r" ?[\[(（]\s?at\s?[\])）] ?")
_NOT_PEOPLE: Final = frozenset(("git", "hg", "svn"))

_BYTE: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_QUAD_MIDDLE: Final = re.compile(r"\.[0-9]{1,3}\.[0-9]{1,3}\.(?=[0-9])")
"""Begins with a sign that is rare, which a search skips to, as the next ones do; then what is before it is found."""
_IPV4: Final = re.compile(rf"(?<![0-9.]){_BYTE}(?:\.{_BYTE}){{3}}(?![0-9]|\.[0-9])")
_GROUPS: Final = re.compile(r":[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]*")
_HEX: Final = frozenset(string.hexdigits)
_DIGITS: Final = frozenset(string.digits)
_IPV6: Final = re.compile(
    r"(?<![0-9A-Fa-f.])(?:[0-9A-Fa-f]{1,4}|:):[0-9A-Fa-f:]{1,37}(?:(?<=:)[0-9]{1,3}(?:\.[0-9]{1,3}){3})?(?![0-9A-Fa-f]|\.[0-9]{1,3}\.)"
)
_IP_WORDS: Final = re.compile(
    r"(?<![A-Za-z])ip(?![A-Za-z])|ip地址|ip[：:]|address|host|server|服务器|主机|地址", re.IGNORECASE
)
_MACHINE_LABEL: Final = re.compile(
    r"(?:(?<![A-Za-z0-9])(?:ip|[a-z]{2,12})|(?<![A-Za-z])(?:ip|ipv4|host|server|node|addr|address|vm|src|dst|client)[_-])\Z",
    re.IGNORECASE,
)
_VERSION_LABEL: Final = re.compile(r"(?<![A-Za-z])(?:v|ver|version|rel|release|rev|build|rc)[_-]?\Z", re.IGNORECASE)
_VERSION_TAIL: Final = re.compile(
    r"[_-]?(?:rc|alpha|beta|dev|post|pre|el|deb|ubuntu|[ab])[0-9]|\.(?:tar|tgz|zip|deb|rpm|whl|jar|so)"
)
_VERSION_WORDS: Final = re.compile(
    r"(?:(?<![A-Za-z])v|version|release|ver\.?|版本号?|章节?|section|chapter|第|rev|revision|build|oid)[ :：=]*\Z",
    re.IGNORECASE,
)
_VERSION_ENDS: Final = frozenset("vern.本号章节第dVERND")
"""How the words of `_VERSION_WORDS` end."""
_PLAIN_HOSTS: Final = frozenset(
    ("127.0.0.1", "0.0.0.0", "255.255.255.255", "255.255.255.0", "255.255.0.0", "255.0.0.0")
)

_MAC: Final = re.compile(
    r"[0-9A-Fa-f][0-9A-Fa-f](?:(?P<gap>[:-])(?:[0-9A-Fa-f]{2}(?P=gap)){4}[0-9A-Fa-f]{2}"
    r"|[0-9A-Fa-f]{2}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4})(?![0-9A-Za-z]|[:.-][0-9A-Fa-f])"
)


_MAC_MIDDLES: Final = (
    (":", 2, re.compile(r":[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}:")),
    ("-", 2, re.compile(r"-[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-")),
    (".", 4, re.compile(r"\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}")),
)
"""The sign between groups, how many characters stand before the first, and what follows them."""


def find_emails(page: Page) -> Iterator[Entity]:
    """Yield e-mail addresses."""
    text = page.text
    at = text.find("@")
    while at >= 0:
        spaced = text.startswith(" ", at - 1) and text.startswith(" ", at + 1) if at else False
        yield from _email(page, at - spaced, at + 1 + spaced)
        at = text.find("@", at + 1)
    if "at]" in page.low or "at)" in page.low or "at）" in page.low:
        for sign in _SPELT_AT.finditer(page.low):
            yield from _email(page, sign.start(), sign.end())


def _email(page: Page, start: int, end: int) -> Iterator[Entity]:
    """Yield the address whose `@` is between `start` and `end`."""
    local = _LOCAL_BACKWARDS.match(page.text[max(0, start - 64) : start][::-1])
    if local is None or local[0][::-1].lower() in _NOT_PEOPLE:
        return
    domain = _DOMAIN.match(page.text, end, min(len(page.text), end + 255))
    if domain is not None:
        yield page.entity("email", start - local.end(), domain.end())


def find_addresses_of_machines(page: Page) -> Iterator[Entity]:
    """Yield IP and hardware addresses."""
    text = page.text
    if text.count(".") >= 3:
        for middle in _QUAD_MIDDLE.finditer(text):
            found = _IPV4.match(text, _walked_back(text, middle.start(), 3, _DIGITS))
            if found is not None and _names_a_machine(page, found):
                yield page.entity("ip", found.start(), found.end())
    if text.count(":") >= 2:
        for groups in _GROUPS.finditer(text):
            begin = _walked_back(text, groups.start(), 4, _HEX)
            if text[begin] == ":" and text[begin + 1] != ":":  # the colon belongs to a label: `IP:2001:db8::1`
                begin += 1
            found = _IPV6.match(text, begin)
            if found is None:
                continue
            start, end = found.span()
            while end > start and text[end - 1] == ":" and text[end - 2] != ":":
                end -= 1
            yield from _ipv6(page, start, end)
    if text.count(":") >= 5 or text.count("-") >= 5 or "mac" in page.low:
        yield from _hardware(page)


def _walked_back(text: str, at: int, most: int, chars: frozenset[str]) -> int:
    """Return where the run of characters of a set before `at` begins, limited in length."""
    first = max(0, at - most)
    while at > first and text[at - 1] in chars:
        at -= 1
    return at


def _ipv6(page: Page, start: int, end: int) -> Iterator[Entity]:
    """Yield the address in a run of groups: all of them, or all but a label before (`IPv6:`) or a port after."""
    text = page.text
    if text.startswith("6:", start) and start and text[start - 1] in "vV":  # `IPv6:2001:db8::1`
        start += 2
    label, port = text.find(":", start, end) + 1, text.rfind(":", start, end)
    for first, last in ((start, end), (label, end), (start, port)):
        if first == label and text.startswith(":", label):
            continue
        if first == start and page.letter_before(start) and text.count(":", first, last) < 4:
            continue
        if _is_ipv6(text[first:last]):
            yield page.entity("ip", first, last)
            return


def _hardware(page: Page) -> Iterator[Entity]:
    for found in _machine_codes(page.text):
        start, end = found.span()
        if page.letter_before(start) or (start and page.text[start - 1] in ":.-"):
            continue
        if found["gap"] is None and "mac" not in page.before(start).lower():
            continue
        digits_alone = found["gap"] == "-" and found[0].replace("-", "").isdigit()
        if not digits_alone or "mac" in page.before(start).lower():
            yield page.entity("mac", start, end)


def _machine_codes(text: str) -> Iterator[re.Match[str]]:
    for sign, width, middle in _MAC_MIDDLES:
        if sign in text:
            for one in middle.finditer(text):
                found = _MAC.match(text, one.start() - width) if one.start() >= width else None
                if found is not None:
                    yield found


def _names_a_machine(page: Page, found: re.Match[str]) -> bool:
    if found[0] in _PLAIN_HOSTS:
        return False
    start, end = found.span()
    text = page.text
    before = page.before(start)
    if start and text[start - 1].isascii() and (text[start - 1].isalpha() or text[start - 1] in "_-"):
        label = _MACHINE_LABEL.search(before)
        if label is None or _VERSION_LABEL.search(before):
            return False
    if _VERSION_TAIL.match(text, end):
        return False
    if before.rstrip(" :：=")[-1:] in _VERSION_ENDS and _VERSION_WORDS.search(before):
        return False
    return len(found[0]) > 7 or bool(_IP_WORDS.search(before))


def _is_ipv6(text: str) -> bool:
    groups = text.count(":") + 1
    if "::" not in text and groups != 8 and "." not in text:
        return False
    if groups < 4 and not text.startswith("::ffff"):
        head = text.partition(":")[0].lower()
        if not (len(head) == 4 and (head[0] in "23" or head[:2] in ("fc", "fd", "fe"))):
            return False
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)
