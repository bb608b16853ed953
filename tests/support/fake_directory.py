"""A directory in a thread, honest or hostile: bind, StartTLS, paged search, ranges of values.

`mode` says what it does wrong:
    strip     says yes to StartTLS, then speaks plain text
    inject    sends bytes between that yes and the handshake
    anon      takes an empty password
    refer     answers every request with a referral
    cut       ends the connection in the second page
    limit     answers with result 4 after the first page
    wrong-id  answers another request
    endless   has pages without end
    empty     has pages without entries and without end
    huge      announces 2 GiB
    flood     has entries without end in one page
    big-yes   sends a megabyte before TLS
    locked    answers a wrong password with result 53
    plain     is no LDAP server
    silent    never answers
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ashore.control.directory.ber import inside, integer, number_in, octets, parts, text_in, tlv
from ashore.control.directory.section import DirectorySection
from ashore.control.directory.wire import PAGED, START_TLS
from ashore.machine.edge import keep_certificate

BASE = "dc=corp,dc=example"
READER, READER_PASSWORD = f"cn=ashore,{BASE}", "reader"
Part = tuple[int, int, int]


@dataclass(frozen=True)
class Trust:
    """A certificate for localhost, and the authority that signed it."""

    folder: Path

    def __post_init__(self) -> None:
        keep_certificate(self.folder, ("localhost", "127.0.0.1"), datetime.now(UTC))

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    def server_context(self) -> ssl.SSLContext:
        made = keep_certificate(self.folder, ("localhost", "127.0.0.1"), datetime.now(UTC))
        chain = self.folder / "chain.pem"
        chain.write_text(made.chain_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, made.key_file)
        return context


@dataclass
class FakeDirectory:
    """What it holds, by DN; changed by tests while it serves."""

    entries: dict[str, dict[str, list[bytes]]] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=lambda: {READER: READER_PASSWORD})
    mode: str = ""
    most_values: int = 1500
    searches: int = 0
    binds: list[str] = field(default_factory=list)
    marks: int = 0

    def person(self, login: str, *, guid: str = "", password: str = "", **more: str) -> str:
        """Add a person, or replace what is known of them; return the DN."""
        dn = f"uid={login},ou=people,{BASE}"
        values = {"objectClass": "inetOrgPerson", "uid": login, "cn": login.title(), "entryUUID": guid or _guid(login)}
        self.put(dn, {**values, **more})
        if password:
            self.passwords[dn] = password
        return dn

    def group(self, name: str, *members: str, guid: str = "") -> str:
        """Add a group, or replace it; return its DN."""
        dn = f"cn={name},ou=groups,{BASE}"
        self.put(dn, {"objectClass": "groupOfNames", "cn": name, "entryUUID": guid or _guid(dn), "member": members})
        return dn

    def put(self, dn: str, values: Mapping[str, str | Sequence[str]]) -> None:
        self.marks += 1
        texts = {name: [value] if isinstance(value, str) else [*value] for name, value in values.items()}
        texts["entryCSN"] = [f"mark-{self.marks}"]
        self.entries[dn] = {name.lower(): [one.encode() for one in some] for name, some in texts.items()}

    def remove(self, dn: str) -> None:
        del self.entries[dn]

    def matches(self, entry: Mapping[str, list[bytes]], data: bytes, part: Part) -> bool:
        tag = part[0]
        if tag == 0x87:
            return data[part[1] : part[2]].lower() == b"objectclass" or text_in(data, part).lower() in entry
        some = inside(data, part)
        if tag == 0xA0:
            return all(self.matches(entry, data, one) for one in some)
        if tag == 0xA1:
            return any(self.matches(entry, data, one) for one in some)
        assert tag == 0xA3, hex(tag)
        name, value = (data[one[1] : one[2]].lower() for one in some)
        return value in [one.lower() for one in entry.get(name.decode(), ())]

    def section(self, trust: Trust, port: int, **more: Any) -> DirectorySection:
        """Return how ashore.toml names it."""
        values: dict[str, Any] = {
            "name": "corp", "kind": "openldap", "urls": (f"ldaps://localhost:{port}",), "ca_file": str(trust.authority),
            "bind_dn": READER, "bind_password": READER_PASSWORD, "people": f"ou=people,{BASE}",
            "groups": f"ou=groups,{BASE}", "map": {}, **more,
        }  # fmt: skip
        return DirectorySection(**values)

    @contextmanager
    def serving(self, trust: Trust, *, tls: bool = True) -> Iterator[int]:
        """Serve on a free port, with TLS from the start or by StartTLS; give the port."""
        context = trust.server_context()
        loop = asyncio.new_event_loop()
        ready, ports = threading.Event(), []

        async def serve() -> None:
            async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    await _Visit(self, reader, writer, context).go()
                except (OSError, EOFError, ssl.SSLError):
                    return  # the client left
                finally:
                    writer.transport.abort()

            server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=context if tls else None)
            ports.append(server.sockets[0].getsockname()[1])
            ready.set()
            await stopped.wait()
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        stopped = asyncio.Event()
        thread = threading.Thread(target=loop.run_until_complete, args=[serve()], daemon=True)
        thread.start()
        assert ready.wait(30)
        try:
            yield ports[0]
        finally:
            loop.call_soon_threadsafe(stopped.set)
            thread.join(30)
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()


class _Visit:
    def __init__(
        self, of: FakeDirectory, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext
    ) -> None:
        self.of, self.reader, self.writer, self.context = of, reader, writer, context

    async def go(self) -> None:
        while True:
            head = await self.reader.readexactly(2)
            length = head[1]
            if length & 0x80:
                length = int.from_bytes(await self.reader.readexactly(length & 0x7F), "big")
            data = await self.reader.readexactly(length)
            found = list(parts(data, 0, length))
            number = number_in(data, found[0]) + (7 if self.of.mode == "wrong-id" else 0)
            if found[1][0] == 0x42:
                return
            match self.of.mode:
                case "silent":
                    await asyncio.sleep(3600)
                case "huge":
                    self.writer.write(b"\x30\x84\x7f\xff\xff\xff")
                    continue
                case "plain":
                    self.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    continue
            await {0x60: self.bind, 0x77: self.extended, 0x63: self.search}[found[1][0]](number, data, found)

    async def send(self, number: int, operation: bytes, control: bytes = b"") -> None:
        controls = tlv(0xA0, control) if control else b""
        self.writer.write(tlv(0x30, integer(number), operation, controls))
        await self.writer.drain()

    async def bind(self, number: int, data: bytes, found: list[Part]) -> None:
        _, name, password = inside(data, found[1])
        dn, given = text_in(data, name), text_in(data, password)
        self.of.binds.append(dn)
        right = self.of.passwords.get(dn) == given or (self.of.mode == "anon" and not given)
        if self.of.mode == "refer":
            await self.send(number, _result(0x61, 10, refers=True))
        else:
            wrong = 53 if self.of.mode == "locked" else 49
            await self.send(number, _result(0x61, 0 if right else wrong, "" if right else "80090308: data 52e"))

    async def extended(self, number: int, data: bytes, found: list[Part]) -> None:
        assert data[inside(data, found[1])[0][1] :].startswith(START_TLS)
        await self.send(number, _result(0x78, 0, "x" * (1 << 20) if self.of.mode == "big-yes" else ""))
        if self.of.mode == "inject":
            self.writer.write(tlv(0x30, integer(2), _result(0x61, 0)))
            await self.writer.drain()
        if self.of.mode not in ("strip", "inject"):
            await self.writer.start_tls(self.context)

    async def search(self, number: int, data: bytes, found: list[Part]) -> None:
        self.of.searches += 1
        if self.of.mode == "refer":
            return await self.send(number, _result(0x65, 10, refers=True))
        fields = inside(data, found[1])
        base, scope = text_in(data, fields[0]).lower(), number_in(data, fields[1])
        wanted = [text_in(data, one).lower() for one in inside(data, fields[7])]
        size, at = 0, 0
        if len(found) > 2:
            control = inside(data, inside(data, found[2])[0])
            value = inside(data, inside(data, control[-1])[0])
            size, at = number_in(data, value[0]), int(text_in(data, value[1]) or "0")
        hits = [
            (dn, entry) for dn, entry in [*self.of.entries.items()]
            if (dn.lower() == base if scope == 0 else dn.lower().endswith(base))
            and self.of.matches(entry, data, fields[6])
        ]  # fmt: skip
        if self.of.mode == "cut" and at:
            self.writer.transport.abort()
            return None
        while self.of.mode == "flood":
            await self.send(number, tlv(0x64, octets("cn=x"), tlv(0x30, _attribute("cn", [b"x" * 1000]))))
        for dn, entry in () if self.of.mode == "empty" else hits[at : at + size] if size else hits:
            attributes = [_attribute(*one) for name in wanted for one in self._values(entry, name)]
            await self.send(number, tlv(0x64, octets(dn), tlv(0x30, *attributes)))
        if self.of.mode == "limit" and len(hits) > 1:
            return await self.send(number, _result(0x65, 4, "size limit exceeded"))
        more = size and (at + size < len(hits) or self.of.mode in ("endless", "empty"))
        cookie = str((at + size) % max(1, len(hits)) or 1) if more else ""
        value = octets(tlv(0x30, integer(0), octets(cookie)))
        await self.send(number, _result(0x65, 0), tlv(0x30, octets(PAGED), value) if size else b"")
        return None

    def _values(self, entry: Mapping[str, list[bytes]], name: str) -> Iterator[tuple[str, list[bytes]]]:
        bare, _, span = name.partition(";range=")
        values = entry.get(bare, [])
        most = self.of.most_values
        if span or len(values) > most:
            first = int(span.partition("-")[0] or 0)
            some = values[first : first + most]
            last = "*" if first + len(some) >= len(values) else str(first + len(some) - 1)
            yield f"{bare};range={first}-{last}", some
        elif values:
            yield bare, values


def _attribute(name: str, values: Sequence[bytes]) -> bytes:
    return tlv(0x30, octets(name), tlv(0x31, *map(octets, values)))


def _result(tag: int, code: int, text: str = "", *, refers: bool = False) -> bytes:
    where = [tlv(0xA3, octets("ldap://attacker.example/"))] if refers else []
    return tlv(tag, integer(code, 0x0A), octets(""), octets(text), *where)


def _guid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
