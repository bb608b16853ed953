"""Converts our errors to gRPC status codes, with details that tell a client what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ashore.core.errors import AshoreError, BudgetExceeded
from ashore.core.hints import with_hint
from ashore.core.outward import outward, retry_after

if TYPE_CHECKING:
    import grpc

DOMAIN: Final = "ashore"

CODE_NAMES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    431: "RESOURCE_EXHAUSTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    507: "RESOURCE_EXHAUSTED",
}
"""HTTP status of an error class to the name of a gRPC code, as google.rpc.Code pairs them; all others are INTERNAL."""


def status_code(error: AshoreError) -> grpc.StatusCode:
    """Return the gRPC code of an error."""
    import grpc

    code: grpc.StatusCode = grpc.StatusCode[CODE_NAMES.get(error.http_status, "INTERNAL")]
    return code


def trailing_metadata(error: AshoreError) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata of a failed answer: our code, hint, field and retry time, plain and as
    google.rpc."""
    _, hint = outward(error)
    pairs: list[tuple[str, str | bytes]] = [("ashore-code", error.code)]
    if hint:
        pairs.append(("ashore-hint", header_text(hint)))
    if error.param:
        pairs.append(("ashore-param", header_text(error.param)))
    if isinstance(error, BudgetExceeded):
        pairs += error.facts
    seconds = retry_after(error)
    if seconds is not None:
        pairs.append(("retry-after", str(seconds)))
    pairs.append(("grpc-status-details-bin", status_details(error)))
    return tuple(pairs)


def status_details(error: AshoreError) -> bytes:
    """Return a serialised google.rpc.Status with ErrorInfo, and RetryInfo where a retry makes sense."""
    from google.protobuf import any_pb2, duration_pb2

    from ashore.data.grpc.gen import status_pb2

    message, hint = outward(error)
    info = status_pb2.ErrorInfo(reason=error.code, domain=DOMAIN)
    for name, value in (("hint", hint), ("param", error.param)):
        if value:
            info.metadata[name] = value
    if isinstance(error, BudgetExceeded):
        for name, value in error.facts:
            info.metadata[name] = value
    details = [any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=info.SerializeToString())]
    seconds = retry_after(error)
    if seconds is not None:
        retry = status_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=seconds))
        details.append(
            any_pb2.Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=retry.SerializeToString())
        )
    number = status_code(error).value[0]
    return bytes(status_pb2.Status(code=number, message=with_hint(message, hint), details=details).SerializeToString())


def header_text(text: str) -> str:
    """Return `text` as metadata may carry it: printable ASCII, other characters as question marks."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)
