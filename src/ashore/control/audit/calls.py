"""What an auditor asks of a server: search, verify and export. Each is recorded before it is answered."""

from __future__ import annotations

import json
import re
import tarfile
import tempfile
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from ashore.control.audit.export import Format
from ashore.control.audit.service import AuditService, AuditStatus
from ashore.core.errors import NotFound
from ashore.data.audit import Record, shown_moment
from ashore.data.audit.canonical import printable
from ashore.data.audit.query import DEFAULT_LIMIT, MOST_HITS, Query, read_moment
from ashore.data.audit.search import Hit
from ashore.kit.call import Actor, Call, Download, Nothing

_PLACE: Final = ("at", "chain", "segment")
_ONE_WORD: Final = re.compile(r"[^\s=()\"]+")
SEARCH: Final = "audit:search"
OWN_S: Final = 7 * 86_400
"""How far back people find their own requests; a search over all of a log is for those who may search it."""
MOST_OWN: Final = 500
"""Requests of one's own in one answer."""


def hit_json(hit: Hit) -> dict[str, Any]:
    """Return a hit in JSON types: the record, its time as text, and its place."""
    told: dict[str, Any] = msgspec.to_builtins(hit.record)
    place = hit.place
    return {"at": shown_moment(hit.record.at_us), "chain": place.chain, "segment": place.segment, **told}


def hit_line(told: Mapping[str, Any]) -> str:
    """Return the output of `hit_json` as one line. Anything but a single plain word is quoted: it may come from a
    client.

    Raises:
        msgspec.ValidationError: it is not a hit; another server forged it.
    """
    record = msgspec.convert({name: value for name, value in told.items() if name not in _PLACE}, Record)
    place = f"{told.get('chain', '')}#{record.seq}"
    words = [shown_moment(record.at_us), place, _word(record.actor), _word(record.action)]
    if record.resource or record.model:
        words.append(_word(record.resource or record.model))
    words.append(record.outcome)
    facts: dict[str, object] = {
        "tenant": record.tenant,
        "key": record.key,
        "from": record.origin,
        "release": record.release,
        "cache": record.cache,
        "error": record.error,
        "request": record.request_id,
        **record.detail,
        **{f"masked.{kind}": number for kind, number in record.masked.items()},
    }
    if record.kind == "request":
        facts["tokens"] = f"{record.prompt_tokens}+{record.completion_tokens}"
        facts["ms"] = f"{record.latency_ms:g}"
    words += [f"{name}={_word(str(value))}" for name, value in facts.items() if value not in ("", 0)]
    if record.reason:
        words.append(f"({record.reason})")
    return printable(" ".join(words))


def _word(text: str) -> str:
    return text if _ONE_WORD.fullmatch(text) else json.dumps(text, ensure_ascii=False)


class Which(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which records. A record must match every filter that is given."""

    actor: str = ""
    """Account that acted."""
    tenant: str = ""
    """Tenant of the account."""
    action: str = ""
    """Action, as noun:verb; key:* for every verb."""
    resource: str = ""
    """Resource, as kind/name; role/* for every name."""
    model: str = ""
    """Alias the request named."""
    outcome: str = ""
    """Outcome: answered, failed, cancelled; allowed, denied, done."""
    error: str = ""
    """Error code."""
    request_id: Annotated[str, msgspec.Meta(extra={"flag": "request"})] = ""
    """Id of the request."""
    origin: str = ""
    """Client address."""
    key: Annotated[str, msgspec.Meta(extra={"flag": "key-name"})] = ""
    """Name of the API key."""
    digest: str = ""
    """Digest of a prompt or an answer."""
    kind: str = ""
    """Kind of record: request, act or chain."""
    chain: str = ""
    """Chain, that is the records of one writing process."""
    text: Annotated[str, msgspec.Meta(extra={"words": True})] = ""
    """Words that the act must contain."""
    since: str = ""
    """Start time: 2026-11-24T08:00:00+08:00, or 3h for three hours ago."""
    until: str = ""
    """End time, exclusive; same forms as the start time."""

    def query(self) -> Query:
        """Return the query.

        Raises:
            InvalidRequest: a moment is malformed.
        """
        given = msgspec.structs.asdict(self)
        now_s = time.time()
        since_us, until_us = (
            read_moment(given[name], now_s=now_s) if given[name] else 0 for name in ("since", "until")
        )
        named = {field.name: given[field.name] for field in fields(Query) if field.name in given}
        return Query(since_us=since_us, until_us=until_us, **named)


class RecordsIn(Which, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which records to find."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_HITS)] = DEFAULT_LIMIT
    """Maximum number of records."""


class ExportIn(Which, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which records to export."""

    form: Format = "jsonl"
    """Format of the file."""


class VerifyIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to verify the audit log against."""

    anchor: Literal["", "configured"] = ""
    """configured: compare with the first anchor of ashore.toml. A server accepts no other place, so a caller cannot
    make it connect anywhere."""


class RecordList(msgspec.Struct, frozen=True):
    """Records, newest first."""

    items: list[dict[str, Any]]


class RecordsFound(RecordList, frozen=True):
    """Records, newest first, and what may be wrong with the question."""

    notes: list[str] = []
    """Where nothing was found: names that no record has, each perhaps a typo."""


class ProblemOut(msgspec.Struct, frozen=True):
    """The first fault of one chain, or of the checkpoints."""

    file: str
    line: int
    seq: int
    what: str


class VerdictOut(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the audit log is unaltered."""

    ok: bool
    records: int
    checkpoints: int
    anchored: int
    """Number of the last checkpoint that the anchor also holds; 0 if no anchor was compared."""
    problems: list[ProblemOut]


def search_records(service: AuditService, actor: Actor, asked: RecordsIn, *, archive: str = "") -> RecordsFound:
    """Find records, newest first. Records must match every filter. The search itself is recorded.

    An unknown action is an error. A person, tenant, model or key that no record names is not an error, because names
    come and go; a note says so.
    """
    query = asked.query()
    hits = service.search(query, actor, archive=archive)
    notes = [] if hits else service.unseen(query, archive=archive)
    return RecordsFound([hit_json(hit) for hit in hits], notes)


NumOwn = Annotated[int, msgspec.Meta(ge=1, le=MOST_OWN, description="Maximum number of requests.")]


def list_own(service: AuditService, actor: Actor, limit: NumOwn = 50) -> RecordList:
    """List your own requests of the last seven days from the audit log, newest first. Everyone may see their own."""
    since_us = int((time.time() - OWN_S) * 1e6)
    query = Query(kind="request", actor=actor.principal.id, since_us=since_us, limit=limit)
    return RecordList([hit_json(hit) for hit in service.search(query, actor)])


RequestId = Annotated[str, msgspec.Meta(
    min_length=1, max_length=128, description="Id of the request, from the header x-request-id of its answer."
)]  # fmt: skip


def show_request(service: AuditService, actor: Actor, request: RequestId) -> RecordList:
    """Show what the audit log has of one of your own requests of the last seven days. Everyone may see their own."""
    since_us = int((time.time() - OWN_S) * 1e6)
    query = Query(request_id=request, actor=actor.principal.id, since_us=since_us)
    hits = service.search(query, actor)
    if not hits:
        raise NotFound(
            f"the audit log has no request {request!r} of {actor.principal.id} in the last seven days",
            hint="wait a second where it has just ended; an auditor searches older ones, and those of others",
        )
    return RecordList([hit_json(hit) for hit in hits])


def verify(service: AuditService, actor: Actor, asked: VerifyIn) -> VerdictOut:
    """Verify that the audit log was not altered."""
    report = service.verify(actor, anchor=asked.anchor)
    return VerdictOut(
        ok=report.ok,
        records=report.num_records,
        checkpoints=report.checkpoints.count,
        anchored=report.checkpoints.anchored,
        problems=[ProblemOut(one.file, one.line, one.seq, one.what) for one in report.problems],
    )


def export(service: AuditService, actor: Actor, asked: ExportIn) -> Download:
    """Export records as a signed tar: the records, the manifest and its signature."""
    packed = tempfile.TemporaryFile(prefix="ashore-export-")  # noqa: SIM115 - closed by its sender
    try:
        with tempfile.TemporaryDirectory(prefix="ashore-export-") as scratch:
            folder = Path(scratch) / "audit-export"
            service.export(folder, asked.query(), asked.form, actor)
            with tarfile.open(fileobj=packed, mode="w") as tar:
                tar.add(folder, arcname=folder.name)
        packed.seek(0)
    except BaseException:
        packed.close()
        raise
    return Download(content=packed, content_type=TAR, file_name="audit-export.tar")


def show_status(service: AuditService, actor: Actor, asked: Nothing) -> AuditStatus:
    """Show the extent of the audit log, and how far it is signed."""
    return service.status()


TAR: Final = "application/x-tar"
CALLS: Final = (
    Call("audit", "search", "GET", "/audit/records", SEARCH, search_records, on_server=True, at_home=True, slow=True),
    Call("audit", "mine", "GET", "/audit/mine", "", list_own, reads_text=True),
    Call("audit", "request", "GET", "/audit/requests/{request}", "", show_request, reads_text=True),
    Call("audit", "verify", "POST", "/audit/verify", "audit:verify", verify, on_server=True, by_query=True, slow=True),
    Call(
        "audit", "export", "GET", "/audit/export", "audit:export", export, on_server=True, content_type=TAR, slow=True
    ),
    Call("audit", "status", "GET", "/audit/status", SEARCH, show_status, on_server=True, at_home=True),
)
