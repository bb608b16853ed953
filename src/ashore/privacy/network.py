"""E-mail addresses, IP addresses, hardware addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from ashore.privacy.model import Entity
from ashore.privacy.page import Page

_LOCAL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._%+'~=/-]{0,62}[A-Za-z0-9_+-])?\Z")
_DOMAIN: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])")
_AT: Final = re.compile(r"@| ?[\[(（]\s?(?:at|AT)\s?[\])）] ?")
_NOT_PEOPLE: Final = frozenset(("git", "hg", "svn"))

_IPV4: Final = re.compile(
    r"(?<![0-9.])(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}(?![0-9]|\.[0-9])"
)
_IPV6: Final = re.compile(
    r"(?<![0-9A-Za-z:.])(?:[0-9A-Fa-f]{1,4}|:):[0-9A-Fa-f:]{1,37}(?:(?<=:)[0-9]{1,3}(?:\.[0-9]{1,3}){3})?(?![0-9A-Za-z:])"
)
_IP_WORDS: Final = re.compile(r"\bip\b|ip地址|ip[：:]|address|host|server|服务器|主机|地址", re.IGNORECASE)
_VERSION_WORDS: Final = re.compile(
    r"(?:\bv|version|release|ver\.?|版本号?|章节?|section|chapter|第|rev|revision|build|oid)[ :：=]*\Z", re.IGNORECASE
)
_PLAIN_HOSTS: Final = frozenset(
    ("127.0.0.1", "0.0.0.0", "255.255.255.255", "255.255.255.0", "255.255.0.0", "255.0.0.0")
)

_MAC: Final = re.compile(
    r"(?<![0-9A-Za-z:.-])(?:[0-9A-Fa-f]{2}(?P<gap>[:-])(?:[0-9A-Fa-f]{2}(?P=gap)){4}[0-9A-Fa-f]{2}"
    r"|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4})(?![0-9A-Za-z]|[:.-][0-9A-Fa-f])"
)


def find_emails(page: Page) -> Iterator[Entity]:
    """Yield e-mail addresses."""
    text = page.text
    for sign in _AT.finditer(text):
        local = _LOCAL.search(text, max(0, sign.start() - 64), sign.start())
        start, end = sign.span()
        if local is None and sign[0] == "@" and start and text[start - 1] == " ":
            start -= 1
            local = _LOCAL.search(text, max(0, start - 64), start)
            if local is None or not text.startswith(" ", end):
                continue
        if local is not None and text.startswith(" ", end) and sign[0] == "@":
            end += 1
        domain = _DOMAIN.match(text, end, min(len(text), end + 255))
        if local is None or domain is None or local[0].lower() in _NOT_PEOPLE:
            continue
        if end - start > 1 and sign[0] == "@" and not (text[sign.start() - 1] == " " and text[sign.end()] == " "):
            continue
        yield page.entity("email", local.start(), domain.end())


def find_addresses_of_machines(page: Page) -> Iterator[Entity]:
    """Yield IP and hardware addresses."""
    text = page.text
    if text.count(".") >= 3:
        for found in _IPV4.finditer(text):
            if _names_a_machine(page, found):
                yield page.entity("ip", found.start(), found.end())
    if text.count(":") >= 2:
        for found in _IPV6.finditer(text):
            start, end = found.span()
            while end > start and text[end - 1] == ":" and text[end - 2] != ":":
                end -= 1
            if _is_ipv6(text[start:end]):
                yield page.entity("ip", start, end)
    for found in _MAC.finditer(text):
        if (
            found["gap"] != "-"
            or not found[0].replace("-", "").isdigit()
            or "mac" in page.before(found.start()).lower()
        ):
            yield page.entity("mac", found.start(), found.end())


def _names_a_machine(page: Page, found: re.Match[str]) -> bool:
    if found[0] in _PLAIN_HOSTS:
        return False
    start, end = found.span()
    text = page.text
    if start and text[start - 1].isascii() and (text[start - 1].isalpha() or text[start - 1] in "_-"):
        return False
    if end < len(text) and (text[end] == "_" or (text[end].isascii() and text[end].isalpha())):
        return False
    if _VERSION_WORDS.search(page.before(start)):
        return False
    return len(found[0]) > 7 or bool(_IP_WORDS.search(page.before(start)))


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
