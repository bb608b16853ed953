"""Forms of a record on the wire: as written, as a stub where it is too long, and in the vocabularies of SIEMs.

Sources: Elastic Common Schema 8.17 (event.*, user.*, source.*); OCSF 1.3, class 6003 API Activity; ArcSight CEF 0.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ashore import __version__
from ashore.control.audit import cef_line, plain_json
from ashore.control.feeds.reading import SIGNED, Line
from ashore.control.feeds.section import Form
from ashore.data.audit import Record, encode_record, read_record, shown_moment

CUTS: Final = (400, 100, 20, 4)
"""Characters that a stub keeps of each text, the first that makes it short enough."""
_FAILED: Final = ("failed", "denied", "cancelled")
_VERBS: Final[Mapping[str, tuple[str, int]]] = {
    **dict.fromkeys(("create", "put", "set", "open", "begin", "start", "join", "enrol"), ("creation", 1)),
    **dict.fromkeys(("read", "search", "list", "show", "export", "verify", "status"), ("access", 2)),
    **dict.fromkeys(("change", "bind", "apply", "rotate", "disable", "enable", "assign"), ("change", 3)),
    **dict.fromkeys(("remove", "revoke", "end", "erase", "retire", "purge", "cancel"), ("deletion", 4)),
}
"""By the verb of an action: `event.type` of ECS, and `activity_id` of OCSF's class 6003."""
_CATEGORIES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("account", "session", "password", "factor", "address"), "authentication"),
    **dict.fromkeys(("key", "role", "user", "group", "tenant", "service", "access", "policy", "budget"), "iam"),
    **dict.fromkeys(("model", "request"), "api"),
    **dict.fromkeys(("audit", "writer", "segment", "clock", "privacy", "feed"), "configuration"),
}
"""By the noun of an action: `event.category` of ECS; others are of `process`."""


def body_of(line: Line, form: Form, most_bytes: int) -> tuple[bytes, bool]:
    """Return what goes out of a line, and whether its hash cannot be computed from that.

    Checkpoints go out as they are in every form, because they are the proof.
    """
    if line.chain == SIGNED:
        return line.body, False
    if form == "jsonl" and not line.sealed and len(line.body) <= most_bytes:
        return line.body, False
    record = read_record(line.body)
    whole = msgspec.structs.replace(record, content=None)
    for cut in (2_000, *CUTS):
        body = FORMS[form](line, _short(whole, cut))
        if len(body) <= most_bytes:
            break
    return body, True


def ecs(line: Line, record: Record) -> bytes:
    """Return a record in the Elastic Common Schema."""
    noun, _, verb = record.action.partition(":")
    told = _kept(
        {
            "event.action": record.action, "event.category": [_CATEGORIES.get(noun, "process")], "event.kind": "event",
            "event.type": [_VERBS.get(verb, ("info", 99))[0]], "event.module": "ashore",
            "event.outcome": "failure" if record.outcome in _FAILED or record.error else "success",
            "event.id": f"{line.chain}#{line.seq}", "event.sequence": line.seq, "event.reason": record.reason,
            "event.duration": int(record.latency_ms * 1e6), "user.id": record.actor, "organization.id": record.tenant,
            "source.ip": record.origin if _is_address(record.origin) else "", "error.code": record.error,
            "http.request.id": record.request_id, "url.path": record.route, "gen_ai.request.model": record.model,
            "gen_ai.usage.input_tokens": record.prompt_tokens,
            "gen_ai.usage.output_tokens": record.completion_tokens,
            "ashore.resource": record.resource, "ashore.key": record.key, "ashore.release": record.release,
            "ashore.cache": record.cache, "ashore.outcome": record.outcome,
            "ashore.detail": {**record.detail, **record.masked},
        }
    )  # fmt: skip
    return plain_json({"@timestamp": shown_moment(record.at_us), "ecs.version": "8.17", **told})


def ocsf(line: Line, record: Record) -> bytes:
    """Return a record as OCSF's class 6003, API Activity."""
    activity = _VERBS.get(record.action.partition(":")[2], ("other", 99))[1]
    failed = record.outcome in _FAILED or bool(record.error)
    told = {
        "activity_id": activity, "category_uid": 6, "class_uid": 6003, "type_uid": 600_300 + activity,
        "severity_id": 3 if failed else 1, "status_id": 2 if failed else 1, "time": record.at_us // 1000,
        "status_detail": record.reason or record.error, "message": record.action,
        "metadata": {
            "version": "1.3.0", "uid": f"{line.chain}#{line.seq}", "sequence": line.seq,
            "product": {"name": "ashore", "vendor_name": "ashore", "version": __version__},
        },
        "actor": {"user": _kept({"uid": record.actor, "org": _kept({"uid": record.tenant})})},
        "api": _kept({"operation": record.action, "request": _kept({"uid": record.request_id})}),
        "src_endpoint": _kept({"ip": record.origin}) if _is_address(record.origin) else {},
        "resources": [{"name": record.resource or record.model}] if record.resource or record.model else [],
        "unmapped": _kept(
            {
                "outcome": record.outcome, "key": record.key, "release": record.release, "cache": record.cache,
                "route": record.route, "prompt_tokens": record.prompt_tokens,
                "completion_tokens": record.completion_tokens, "latency_ms": record.latency_ms,
                "detail": {**record.detail, **record.masked},
            }
        ),
    }  # fmt: skip
    return plain_json(_kept(told))


FORMS: Final[Mapping[Form, Callable[[Line, Record], bytes]]] = {
    "jsonl": lambda line, record: encode_record(record),
    "ecs": ecs,
    "ocsf": ocsf,
    "cef": lambda line, record: cef_line(record, line.chain),
}


def _short(record: Record, cut: int) -> Record:
    """Return a record whose texts have at most `cut` characters; below the longest of a whole record also without its
    details."""

    def short(value: object) -> object:
        return value[: cut - 1] + "…" if isinstance(value, str) and len(value) > cut else value

    changes = {name: short(getattr(record, name)) for name in record.__struct_fields__ if name != "action"}
    if cut < CUTS[0]:
        changes |= {"detail": {}, "masked": {}}
    else:
        changes["detail"] = {str(short(name)): short(value) for name, value in record.detail.items()}
    return msgspec.structs.replace(record, **changes)


def _kept(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value not in ("", 0, None, {}, [])}


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
