"""A reader of LDAP version 3 (RFC 4511): bind, StartTLS, search in pages, ranges of values.

What it keeps to, since each was tried against it:

- No password leaves without TLS, and no empty one at all: a server may call that a success (RFC 4513, 5.1.2).
- StartTLS or an error: bytes before the handshake end the connection.
- Referrals and references are text, and never followed.
- A message, the number of entries, pages and the time are bounded.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Self

from ashore.control.directory.ber import (
    CONTROLS,
    SEQUENCE,
    Part,
    boolean,
    broken,
    inside,
    integer,
    number_in,
    octets,
    parts,
    present,
    text_in,
    tlv,
)
from ashore.core.errors import RemoteRefused, SourceUnreachable
from ashore.kit.egress import Allowed, check_addresses, check_url, resolve
from ashore.kit.identity import trust

MOST_BYTES: Final = 64 << 20
"""Of one message."""
MOST_PAGE_BYTES: Final = 256 << 20
MOST_REPLY_BYTES: Final = 64 << 10
"""Of what answers a bind or StartTLS: it is read before the server has proved who it is."""
MOST_ENTRIES: Final = 2_000_000
CONNECT_S: Final = 10.0
PAGE_S: Final = 60.0
PAGED: Final = b"1.2.840.113556.1.4.319"
"""Control of RFC 2696."""
START_TLS: Final = b"1.3.6.1.4.1.1466.20037"
WRONG_PASSWORD: Final = frozenset((19, 48, 49, 53))
"""Results of RFC 4511, appendix A, of a person who may not log in: invalidCredentials, which unknown names have too;
and what directories answer for people without a password (inappropriateAuthentication), or who are locked
(constraintViolation, unwillingToPerform)."""
BASE: Final = 0
SUBTREE: Final = 2


@dataclass(slots=True)
class Entry:
    """One entry, with its values by the names of attributes in small letters."""

    dn: str
    values: dict[str, list[bytes]]

    def one(self, name: str) -> bytes:
        """Return the first value; empty: there is none."""
        return (self.values.get(name.lower()) or [b""])[0]

    def text(self, name: str) -> str:
        """Return the first value as text."""
        return self.one(name).decode("utf-8", "replace")


@dataclass(slots=True)
class Page:
    """What one search answered."""

    entries: list[Entry] = field(default_factory=list)
    cookie: bytes = b""
    """Where the next page begins; empty: it was the last."""


class Ldap:
    """One connection. It does one thing at a time. What it does raises `SourceUnreachable` where the connection ends or
    the answer is no LDAP, and `RemoteRefused` where the directory refuses."""

    def __init__(self, url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.url: Final = url
        self._reader = reader
        self._writer = writer
        self._number = 0
        self.references = 0
        """Places elsewhere that answers named so far."""

    @classmethod
    async def open(cls, url: str, allow: Sequence[Allowed], context: ssl.SSLContext) -> Self:
        """Connect to `ldaps://HOST`, or to `ldap://HOST` with StartTLS, at an address that `[egress]` allows.

        Raises:
            PermissionDenied: `[egress]` does not allow it.
            SourceUnreachable: it cannot be reached, its certificate is not trusted, or it does not speak LDAP.
            RemoteRefused: it refuses TLS.
        """
        target = check_url(url, allow, schemes=("ldap", "ldaps"))
        is_tls, host = target.scheme == "ldaps", target.host
        with translated(url):
            async with asyncio.timeout(CONNECT_S):
                found = [host] if target.literal else await resolve(host, target.port)
                reader, writer = await asyncio.open_connection(
                    check_addresses(target, found), target.port, limit=1 << 20,
                    ssl=context if is_tls else None, server_hostname=host if is_tls else None,
                )  # fmt: skip
                made = cls(url, reader, writer)
                try:
                    if not is_tls:
                        await made._start_tls(context, host)
                except BaseException:
                    writer.transport.abort()
                    raise
                return made

    async def _start_tls(self, context: ssl.SSLContext, host: str) -> None:
        self._check(*await self._ask(tlv(0x77, octets(START_TLS, 0x80))))
        if getattr(self._reader, "_buffer", b""):
            raise broken("bytes came before TLS began, so somebody stands between")
        await self._writer.start_tls(context, server_hostname=host)

    async def close(self) -> None:
        """Say good-bye and close. May be called twice."""
        with suppress(OSError):
            self._writer.write(tlv(SEQUENCE, integer(self._number + 1), b"\x42\0"))
            self._writer.close()
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()

    async def bind(self, name: str, password: str) -> str:
        """Prove to be `name`; return why the directory says that it is not so, for the log; empty: it is."""
        if not name or not password or "\0" in password:
            return "a name and a password are needed"
        answer = await self._ask(tlv(0x60, integer(3), octets(name), octets(password, 0x80)))
        return self._check(*answer, may_be=WRONG_PASSWORD)

    async def page(
        self, base: str, what: bytes, names: Iterable[str], *, scope: int = SUBTREE, size: int = 0, cookie: bytes = b""
    ) -> Page:
        """Return one page of a search. `size`: of a page; 0: the search has no pages."""
        asked = tlv(
            0x63, octets(base), integer(scope, 0x0A), integer(0, 0x0A), integer(0), integer(int(PAGE_S)),
            boolean(False), what, tlv(SEQUENCE, *map(octets, names)),
        )  # fmt: skip
        control = b""
        if size:
            value = tlv(SEQUENCE, integer(size), octets(cookie))
            control = tlv(SEQUENCE, octets(PAGED), boolean(True), octets(value))
        page, taken = Page(), 0
        with translated(self.url):
            async with asyncio.timeout(PAGE_S):
                self._send(asked, control)
                while True:
                    data, found = await self._next()
                    taken += len(data)
                    if taken > MOST_PAGE_BYTES:
                        raise broken(f"a page has more than {MOST_PAGE_BYTES:,} bytes")
                    match found[1][0]:
                        case 0x64:
                            page.entries.append(_entry(data, found[1]))
                        case 0x73:
                            self.references += len(inside(data, found[1]))
                        case 0x65:
                            self._check(data, found)
                            page.cookie = _cookie(data, found[2]) if len(found) > 2 else b""
                            return page
                        case other:
                            raise broken(f"its kind is {other:#x}")

    async def search(self, base: str, what: bytes, names: Sequence[str], *, size: int = 500) -> AsyncIterator[Entry]:
        """Yield every entry of a search, each with all its values. It is whole only once it ends without an error."""
        cookie, count = b"", 0
        while True:
            page = await self.page(base, what, names, size=size, cookie=cookie)
            count += len(page.entries)
            if count > MOST_ENTRIES or (page.cookie and not page.entries):
                raise broken("its pages have no end")
            for entry in page.entries:
                await self._complete(entry)
                yield entry
            cookie = page.cookie
            if not cookie:
                return

    async def _complete(self, entry: Entry) -> None:
        """Read the values that Active Directory left out: it sends `member;range=0-1499` (MaxValRange)."""
        for key in [name for name in entry.values if ";range=" in name]:
            name, _, span = key.partition(";range=")
            have = entry.values.pop(key)
            while not span.endswith("*"):
                more = await self.page(entry.dn, present("objectClass"), [f"{name};range={len(have)}-*"], scope=BASE)
                values = more.entries[0].values if more.entries else {}
                again = next((one for one in values if one.startswith(f"{name};range=")), "")
                if not again or not values[again] or len(have) > MOST_ENTRIES:
                    raise broken(f"{entry.dn[:200]} changed while its values were read")
                span = again.partition(";range=")[2]
                have = have + values[again]
            entry.values[name] = have

    def _send(self, operation: bytes, control: bytes = b"") -> None:
        self._number += 1
        controls = tlv(CONTROLS, control) if control else b""
        self._writer.write(tlv(SEQUENCE, integer(self._number), operation, controls))

    async def _ask(self, operation: bytes) -> tuple[bytes, list[Part]]:
        with translated(self.url):
            async with asyncio.timeout(CONNECT_S):
                self._send(operation)
                return await self._next(MOST_REPLY_BYTES)

    def _check(self, data: bytes, found: Sequence[Part], *, may_be: Set[int] = frozenset()) -> str:
        """Return the reason of the one result that may be beside success; empty: it is success. A referral is none."""
        fields = inside(data, found[1], 3)
        result, reason = number_in(data, fields[0]), text_in(data, fields[2])[:300]
        if result and result not in may_be:
            raise RemoteRefused(
                f"{self.url} refused: result {result} of LDAP" + (f", {reason}" if reason else ""),
                hint="check bind_dn, its rights, and the names in [[directory]]",
            )
        return (reason or f"result {result}") if result else ""

    async def _next(self, most_bytes: int = 0) -> tuple[bytes, list[Part]]:
        """Return the next message to the last request, and its elements. `most_bytes`: of it; 0: as any."""
        most_bytes = most_bytes or MOST_BYTES
        head = await self._reader.readexactly(2)
        if head[0] != SEQUENCE:
            raise broken("it does not begin as a message of LDAP does")
        length = head[1]
        if length & 0x80:
            if not 1 <= length & 0x7F <= 4:
                raise broken("it has a length that LDAP forbids")
            length = int.from_bytes(await self._reader.readexactly(length & 0x7F), "big")
        if length > most_bytes:
            raise broken(f"it has {length:,} bytes; at most {most_bytes:,} are read")
        data = await self._reader.readexactly(length)
        found = list(parts(data, 0, length))
        if len(found) < 2:
            raise broken("something is missing in it")
        number = number_in(data, found[0])
        if number != self._number:
            raise broken("the server ends the connection" if number == 0 else "it belongs to another request")
        return data, found


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Translate what goes wrong on a connection to a directory."""
    try:
        yield
    except ssl.SSLCertVerificationError as fault:
        raise SourceUnreachable(
            f"the certificate of {url} is not trusted: {fault.verify_message}",
            hint="set ca_file to the authority that signs it, and name the server as its certificate does",
        ) from fault
    except TimeoutError as fault:
        raise SourceUnreachable(f"{url} does not answer in time", hint="check the directory and the network") from fault
    except (OSError, EOFError) as fault:
        why = "the connection ended" if isinstance(fault, EOFError) else str(fault) or type(fault).__name__
        raise SourceUnreachable(
            f"{url} cannot be read: {why}", hint="check the address, its port, and the network"
        ) from fault


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Return what checks the certificates of a directory. `ca_file`: their authority; empty: as in `public_trust`.

    Raises:
        SourceUnreachable: the file cannot be read.
    """
    return trust("the directory", ca_file, error=SourceUnreachable)


def _cookie(data: bytes, controls: Part) -> bytes:
    for control in inside(data, controls):
        fields = inside(data, control, 1)
        if data[fields[0][1] : fields[0][2]] == PAGED:
            value = inside(data, inside(data, fields[-1], 1)[0], 2)[1]
            return data[value[1] : value[2]]
    return b""


def _entry(data: bytes, part: Part) -> Entry:
    name, attributes = inside(data, part, 2)[:2]
    values: dict[str, list[bytes]] = {}
    for attribute in inside(data, attributes):
        key, held = inside(data, attribute, 2)[:2]
        values[text_in(data, key).lower()] = [data[start:end] for _, start, end in inside(data, held)]
    return Entry(text_in(data, name), values)
