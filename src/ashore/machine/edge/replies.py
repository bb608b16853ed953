"""Local replies of the edge: in the error form of the API, with the codes of the error tree.

Envoy names the cause with response flags. Each is mapped to the class that an API worker would have raised, so that
clients parse errors of both in one way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ashore.core.errors import (
    AshoreError,
    DeadlineExceeded,
    HeadersTooLarge,
    InvalidRequest,
    NotReady,
    Overloaded,
    PayloadTooLarge,
    RequestTimeout,
    Unauthenticated,
    UserError,
    WorkerDied,
)
from ashore.core.hints import with_hint
from ashore.kit.yaml import Tree, Why


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One refusal of the edge."""

    kind: type[AshoreError]
    message: str
    hint: str
    flags: tuple[str, ...] = ()
    """Envoy's response flags that mean it; empty: `status` alone decides."""
    status: int = 0
    """Status that Envoy chose, where that tells the cause."""


REPLIES = (
    Reply(
        kind=Unauthenticated,
        status=401,
        message="the request carries no key",
        hint="send Authorization: Bearer KEY, or x-api-key: KEY",
    ),
    Reply(
        kind=Overloaded,
        status=429,
        message="this edge received more requests than [edge] flood_per_s allows",
        hint="retry after the time in `retry-after`",
    ),
    Reply(
        kind=Overloaded,
        flags=("UO", "OM"),
        message="the edge has reached its limit of requests or connections",
        hint="retry after the time in `retry-after`",
    ),
    Reply(
        kind=NotReady,
        flags=("UH", "UF", "NC"),
        message="no API worker can be reached",
        hint="it is starting or restarting; retry after the time in `retry-after`",
    ),
    Reply(
        kind=WorkerDied,
        flags=("UC", "UR", "LR", "URX"),
        message="the API worker ended, or closed the connection, while it handled this request",
        hint="it is unknown whether the request took effect; retry it only if it may run twice",
    ),
    Reply(
        kind=DeadlineExceeded,
        flags=("UT", "DT"),
        message="the answer was not complete in time",
        hint="request less, or set a later deadline",
    ),
    Reply(
        kind=RequestTimeout,
        flags=("SI",),
        message="this request was idle for too long",
        hint="send the whole request at once, and read the answer as it arrives",
    ),
    Reply(
        kind=RequestTimeout,
        status=408,
        message="the request was not complete in time",
        hint="send the whole request at once",
    ),
    Reply(
        kind=PayloadTooLarge,
        status=413,
        message="the body is larger than this edge allows",
        hint="send less in one request, or raise [edge] max_body_bytes",
    ),
    Reply(
        kind=HeadersTooLarge,
        status=431,
        message="the headers are larger than this edge allows",
        hint="send fewer or shorter headers",
    ),
    Reply(
        kind=InvalidRequest,
        status=400,
        message="the edge cannot parse this request, or does not allow it in this form",
        hint="check its request line and headers",
    ),
)


def error_type(kind: type[AshoreError]) -> str:
    """Return OpenAI's name for a kind of error, as the API uses it."""
    if issubclass(kind, Unauthenticated):
        return "authentication_error"
    if issubclass(kind, UserError):
        return "invalid_request_error"
    return "rate_limit_error" if kind.http_status == 429 else "server_error"


def local_replies() -> dict[str, Tree]:
    """Return Envoy's `local_reply_config`."""
    return {"mappers": list(_mappers())}


def _mappers() -> Iterator[Tree]:
    for reply in REPLIES:
        kind = reply.kind
        shared: dict[str, Tree] = {"status_code": kind.http_status}
        if kind.retryable:
            again: Tree = {
                "header": {"key": "retry-after", "value": "1"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
            shared["headers_to_add"] = [again]
        if issubclass(kind, Unauthenticated):
            ask: Tree = {
                "header": {"key": "www-authenticate", "value": 'Bearer realm="ashore"'},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
            shared["headers_to_add"] = [ask]
        yield Why(
            f"{', '.join(reply.flags) or reply.status}: {kind.__name__}",
            {
                "filter": _both(_cause(reply), _is_grpc()),
                **shared,
                "body_format_override": {
                    "text_format_source": {"inline_string": f"{with_hint(reply.message, reply.hint)} [{kind.code}]"}
                },
            },
        )
        yield {
            "filter": _cause(reply),
            **shared,
            "body_format_override": {
                "json_format": {
                    "error": {
                        "message": with_hint(reply.message, reply.hint),
                        "type": error_type(kind),
                        "code": kind.code,
                        "hint": reply.hint,
                    }
                }
            },
        }


def _cause(reply: Reply) -> Tree:
    if reply.flags:
        return {"response_flag_filter": {"flags": list(reply.flags)}}
    value: Tree = {"default_value": reply.status, "runtime_key": f"edge.reply_{reply.status}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _is_grpc() -> Tree:
    return {
        "header_filter": {"header": {"name": "content-type", "string_match": {"prefix": "application/grpc"}}},
    }


def _both(one: Tree, other: Tree) -> Tree:
    return {"and_filter": {"filters": [one, other]}}
