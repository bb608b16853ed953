"""`/admin/v1/audit`: search, verify and export the record. Every call is itself recorded before it is answered."""

from __future__ import annotations

import asyncio
import io
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, get_args

import msgspec

from ashore.access import Principal
from ashore.api.http.exchange import Exchange
from ashore.audit import (
    MOST_HITS,
    ArchiveStanding,
    AuditService,
    ExportFormat,
    Query,
    Reader,
    VerifyReport,
    hit_json,
    read_moment,
)
from ashore.core import did_you_mean
from ashore.errors import InvalidRequest, NotReady, UnknownField

if TYPE_CHECKING:
    from ashore.api.http.app import HttpApp

JSON: Final = (b"content-type", b"application/json")
FIELDS: Final = (
    "actor", "tenant", "action", "resource", "model", "outcome", "error", "request_id", "origin", "key", "digest",
    "kind", "chain", "text",
)  # fmt: skip
CHUNK_BYTES: Final = 1 << 20
_encode = msgspec.json.Encoder().encode


class RecordList(msgspec.Struct, frozen=True):
    """Answer of `GET /admin/v1/audit/records`, newest first."""

    items: list[dict[str, Any]]


class ProblemOut(msgspec.Struct, frozen=True):
    """The first thing that is wrong with one chain, or with the checkpoints."""

    file: str
    line: int
    seq: int
    what: str


class VerdictOut(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /admin/v1/audit/verify`."""

    ok: bool
    records: int
    checkpoints: int
    anchored: int
    """Number of the last checkpoint that the anchor holds too; 0: no anchor was asked."""
    problems: list[ProblemOut]


class StatusOut(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /admin/v1/audit/status`."""

    home: str
    chains: dict[str, int]
    checkpoints: int
    signed_at_us: int
    key_id: str
    num_bytes: int
    archive: ArchiveStanding | None
    """How archiving by itself stands; null: it never ran."""
    unarchived: int
    """Closed segments that are not in the archive yet."""


async def records(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/audit/records`."""
    query = query_of(exchange.query())
    service = _service(app)
    hits = await asyncio.to_thread(service.search, query, _reader(exchange, principal))
    body = await asyncio.to_thread(lambda: _encode(RecordList([hit_json(hit) for hit in hits])))
    await exchange.respond(200, [JSON], body)


async def verify(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/v1/audit/verify`, with `?anchor=configured` against the first anchor of ashore.toml.

    No other place can be named here: a server does not reach where a caller points it.
    """
    given = exchange.query()
    _known(given, ("anchor",))
    anchor = given.get("anchor", "")
    if anchor not in ("", "configured"):
        raise InvalidRequest(f"anchor is {anchor[:40]!r}", hint="leave it out, or write configured", param="anchor")
    service, reader = _service(app), _reader(exchange, principal)
    report = await asyncio.to_thread(lambda: service.verify(reader, anchor=anchor))
    await exchange.respond(200, [JSON], _encode(verdict(report)))


async def export(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/audit/export`: a tar of the records, the manifest and its signature."""
    given = exchange.query()
    form = given.pop("form", "jsonl")
    if form not in get_args(ExportFormat):
        raise InvalidRequest(f"form is {form[:40]!r}", hint=did_you_mean(form, get_args(ExportFormat)), param="form")
    query, service, reader = query_of(given), _service(app), _reader(exchange, principal)
    with tempfile.TemporaryDirectory(prefix="ashore-export-") as scratch:
        packed = Path(scratch) / "export.tar"

        def pack() -> None:
            folder = Path(scratch) / "audit-export"
            service.export(folder, query, cast(ExportFormat, form), reader)
            with tarfile.open(packed, "w") as tar:
                tar.add(folder, arcname=folder.name)

        await asyncio.to_thread(pack)
        disposition = b'attachment; filename="audit-export.tar"'
        await exchange.start_download([(b"content-type", b"application/x-tar"), (b"content-disposition", disposition)])
        with packed.open("rb") as file:
            await _send(exchange, file)


async def status(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/audit/status`."""
    found = await asyncio.to_thread(_service(app).status)
    await exchange.respond(200, [JSON], _encode(msgspec.convert(found, StatusOut, from_attributes=True)))


async def _send(exchange: Exchange, file: io.BufferedReader) -> None:
    while chunk := file.read(CHUNK_BYTES):
        await exchange.write(chunk)
    await exchange.end_stream()


def query_of(given: dict[str, str]) -> Query:
    """Return the query that the parameters of a request ask for.

    Raises:
        UnknownField: a parameter is not known.
        InvalidRequest: a moment or a number is malformed.
    """
    _known(given, (*FIELDS, "since", "until", "limit"))
    now_s = time.time()
    limit = given.get("limit", "100")
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= MOST_HITS:
        raise InvalidRequest(f"limit is {limit[:20]!r}; expected 1 to {MOST_HITS:,}", param="limit")
    return Query(
        **{name: given.get(name, "") for name in FIELDS},
        since_us=read_moment(given["since"], now_s=now_s) if given.get("since") else 0,
        until_us=read_moment(given["until"], now_s=now_s) if given.get("until") else 0,
        limit=int(limit),
    )


def verdict(report: VerifyReport) -> VerdictOut:
    """Return a report in the form of the interface."""
    return VerdictOut(
        ok=report.ok,
        records=report.num_records,
        checkpoints=report.checkpoints.count,
        anchored=report.checkpoints.anchored,
        problems=[ProblemOut(one.file, one.line, one.seq, one.what) for one in report.problems],
    )


def _known(given: dict[str, str], names: tuple[str, ...]) -> None:
    for name in given:
        if name not in names:
            raise UnknownField(f"{name[:60]!r} is no parameter", hint=did_you_mean(name[:60], names), param=name[:60])


def _reader(exchange: Exchange, principal: Principal) -> Reader:
    return Reader(actor=principal.id, tenant=principal.tenant, origin=exchange.origin, request_id=exchange.request_id)


def _service(app: HttpApp) -> AuditService:
    if app.audit is None:
        raise NotReady("this server keeps no record", hint="start it with `ashore up`")
    return app.audit
