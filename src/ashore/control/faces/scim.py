"""`/scim/v2`: what an identity provider pushes and reads, in SCIM's own form (RFC 7644)."""

from __future__ import annotations

import re
from asyncio import to_thread
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from ashore.control.scim import (
    ENTERPRISE,
    GROUP,
    MOST_RESULTS,
    PROVISION,
    USER,
    Kind,
    Resource,
    ScimOffice,
    members,
    schemas,
    service,
    types,
)
from ashore.core.errors import AshoreError, InvalidRequest, MethodNotAllowed, NotFound, SwitchedOff
from ashore.core.timespan import written_moment
from ashore.data.authority import Principal
from ashore.data.http import Exchange
from ashore.kit.call import SETTLE_S, Actor
from ashore.kit.decode import UNDECODABLE, check_parts

if TYPE_CHECKING:
    from ashore.data.http import Face

MESSAGES: Final = "urn:ietf:params:scim:api:messages:2.0:"
SCIM: Final = (b"content-type", b"application/scim+json")
MOST_BYTES: Final = 4 << 20
"""Of a body; a group of 50,000 people has as much."""
PAGE: Final = 100
KINDS: Final[Mapping[str, Kind]] = {"Users": "User", "Groups": "Group"}
_FILTER: Final = re.compile(
    r'(?:urn:[\w:.\-]{1,100}:)?(\w{1,40})(?:\.value|\[value)? eq "((?:[^"\\]|\\.){0,300})"\]?', re.IGNORECASE
)
_COLUMNS: Final = {"id": "id", "username": "name", "displayname": "name", "externalid": "external", "members": "member"}
_TYPES: Final = (
    "invalidValue",
    "invalidSyntax",
    "invalidPath",
    "invalidFilter",
    "noTarget",
    "mutability",
    "uniqueness",
)


async def answer(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`/scim/v2/…`: every request of an identity provider."""
    try:
        office = app.rooms.find(ScimOffice)
        if office is None or not office.is_on:
            raise SwitchedOff("SCIM is off", hint="set [scim] enabled = true in ashore.toml")
        app.authority.require(principal, PROVISION, f"tenant/{principal.tenant}/scim")  # before 4 MiB are read
        raw = (
            b""
            if exchange.method in ("GET", "DELETE")
            else await exchange.body(replace(app.limits, max_body_bytes=MOST_BYTES))
        )
        actor = Actor(principal=principal, origin=app.origin_of(exchange), request_id=exchange.request_id)
        if exchange.method != "GET":
            app.recorder.check_acts()
        status, where, content = await to_thread(
            _written, office, actor, exchange.method, _place(exchange), raw, exchange.query(), _base(exchange)
        )
        if exchange.method != "GET":
            if app.settle is not None:
                await app.settle()
            await to_thread(app.recorder.settle, SETTLE_S)
    except AshoreError as fault:
        status, where, content = fault.http_status, "", msgspec.json.encode(_fault(fault))
    headers = [(b"location", where.encode())] if status == 201 else []
    await exchange.respond(status, [SCIM, *headers], content)


def _written(
    office: ScimOffice, actor: Actor, method: str, place: list[str], raw: bytes, query: Mapping[str, str], base: str
) -> tuple[int, str, bytes]:
    """Return the status, the address and the bytes of an answer. Blocks: a body may have megabytes either way."""
    status, document = _answered(office, actor, method, place, _object(raw), query, base)
    where = document["meta"]["location"] if status == 201 else ""
    return status, where, b"" if status == 204 else msgspec.json.encode(document)


def _answered(
    office: ScimOffice, actor: Actor, method: str, place: list[str], body: dict[str, Any], query: Mapping[str, str],
    base: str,
) -> tuple[int, dict[str, Any]]:  # fmt: skip
    """Return the status and the document of an answer. Blocks."""
    office.check(actor)
    match (method, place):
        case ("GET", ["ServiceProviderConfig"]):
            return 200, service(base)
        case ("GET", ["Schemas" | "ResourceTypes" as what, *rest]):
            documents = schemas(base) if what == "Schemas" else types(base)
            if rest:
                found = [one for one in documents if [one["id"]] == rest]
                if not found:
                    raise NotFound(f"there is no {rest[0][:80]}")
                return 200, found[0]
            return 200, _list(documents, len(documents), 1)
        case (_, ["ServiceProviderConfig" | "Schemas" | "ResourceTypes", *_]):
            raise MethodNotAllowed(f"{method} /scim/v2/{place[0]} does not exist", hint="use GET")
        case ("POST", [".search"]):
            asked = {key: _text(value) for key, value in body.items() if key != "filter"}
            found = [_search(office, actor, kind, asked, base)[1] for kind in KINDS.values()]
            some = [one for page in found for one in page["Resources"]]
            return 200, _list(some, sum(page["totalResults"] for page in found), 1)
        case ("POST", [("Users" | "Groups") as name, ".search"]):
            return _search(office, actor, KINDS[name], {key: _text(value) for key, value in body.items()}, base)
        case ("GET", [("Users" | "Groups") as name]):
            return _search(office, actor, KINDS[name], query, base)
        case ("POST", [("Users" | "Groups") as name]):
            made = office.create(actor, KINDS[name], body)
            return 201, _shown(*office.find(actor, KINDS[name], made.id), base, query)
        case (_, [("Users" | "Groups") as name, number]):
            return _of_one(office, actor, method, KINDS[name], number, body, query, base)
    raise NotFound(f"there is no {'/'.join(place)[:80]!r} under /scim/v2", hint="see RFC 7644, section 3.2")


def _of_one(
    office: ScimOffice, actor: Actor, method: str, kind: Kind, number: str, body: dict[str, Any],
    query: Mapping[str, str], base: str,
) -> tuple[int, dict[str, Any]]:  # fmt: skip
    match method:
        case "PUT":
            office.change(actor, kind, number, whole=body)
        case "PATCH":
            office.change(actor, kind, number, operations=body.get("Operations", body.get("operations")))
        case "DELETE":
            office.remove(actor, kind, number)
            return 204, {}
    return 200, _shown(*office.find(actor, kind, number), base, query)


def _search(
    office: ScimOffice, actor: Actor, kind: Kind, query: Mapping[str, str], base: str
) -> tuple[int, dict[str, Any]]:
    where: dict[str, str] = {}
    if text := query.get("filter", "").strip():
        found = _FILTER.fullmatch(text)
        column = _COLUMNS.get(found[1].lower()) if found is not None else None
        value = _unquoted(found[2]) if found is not None else None
        if found is None or column is None or value is None or (column == "member") > (kind == "Group"):
            raise InvalidRequest(
                f"the filter {text[:100]!r} is not understood", hint='write ATTRIBUTE eq "VALUE"', param="invalidFilter"
            )
        where[column] = value.strip().casefold() if column == "name" else value
    start, count = max(1, _number(query, "startIndex", 1)), min(MOST_RESULTS, max(0, _number(query, "count", PAGE)))
    some, total = office.select(actor, kind, where, start=start - 1, count=count)
    return 200, _list([_shown(*one, base, query) for one in some], total, start)


def _unquoted(text: str) -> str | None:
    """Return the value of a filter; None where it is none, or has what no state keeps."""
    try:
        value = str(msgspec.json.decode(f'"{text}"'))
    except UNDECODABLE:
        return None
    return None if "\0" in value else value


def _shown(one: Resource, groups: list[Resource], base: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Return a resource as its provider sees it."""
    urn = USER if one.kind == "User" else GROUP
    found: dict[str, Any] = {
        "schemas": [urn, *([ENTERPRISE] if ENTERPRISE in one.body else [])], "id": one.id,
        **{name: value for name, value in one.body.items() if value not in (None, "", [], {})},
    }  # fmt: skip
    if groups:
        found["groups"] = [
            {"value": group.id, "display": group.body["displayName"], "$ref": f"{base}/Groups/{group.id}"}
            for group in groups
        ]
    if one.kind == "Group" and members(one.body):
        found["members"] = [
            {"$ref": f"{base}/Users/{row['value']}", "type": "User", **row} for row in one.body["members"]
        ]
    found["meta"] = {
        "resourceType": one.kind, "location": f"{base}/{one.kind}s/{one.id}",
        "created": written_moment(one.created_s), "lastModified": written_moment(one.changed_s),
    }  # fmt: skip
    if wanted := _names(query.get("attributes", "")):
        return {name: value for name, value in found.items() if name in ("schemas", "id") or name.lower() in wanted}
    without = _names(query.get("excludedAttributes", ""))
    return {name: value for name, value in found.items() if name in ("schemas", "id") or name.lower() not in without}


def _names(text: str) -> set[str]:
    return {one.strip().partition(".")[0].lower() for one in text.split(",") if one.strip()}


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    return int(text) if re.fullmatch(r"-?\d{1,9}", text) else default


def _list(resources: list[dict[str, Any]], total: int, start: int) -> dict[str, Any]:
    return {
        "schemas": [MESSAGES + "ListResponse"], "totalResults": total, "startIndex": start,
        "itemsPerPage": len(resources), "Resources": resources,
    }  # fmt: skip


def _fault(fault: AshoreError) -> dict[str, Any]:
    kind = {"scimType": fault.param} if fault.param in _TYPES else {}
    return {"schemas": [MESSAGES + "Error"], "status": str(fault.http_status), "detail": fault.in_one_line, **kind}


def _place(exchange: Exchange) -> list[str]:
    return exchange.path.removeprefix("/scim/v2").strip("/").split("/")


def _base(exchange: Exchange) -> str:
    host = exchange.headers.get(b"host", b"localhost").decode("latin-1")
    scheme = exchange.headers.get(b"x-forwarded-proto", b"http").decode("latin-1")
    return f"{'https' if scheme == 'https' else 'http'}://{host}/scim/v2"


def _object(raw: bytes) -> dict[str, Any]:
    """Return the body of a request as an object; empty where there is none."""
    try:
        check_parts(raw)
        found = msgspec.json.decode(raw or b"{}")
    except UNDECODABLE as fault:
        raise InvalidRequest("the body is no JSON", hint="send an object", param="invalidSyntax") from fault
    if not isinstance(found, dict):
        raise InvalidRequest("the body is no object", hint="send an object", param="invalidSyntax")
    return found
