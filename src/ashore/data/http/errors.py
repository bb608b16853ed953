"""Errors as clients expect them: OpenAI's form everywhere, Anthropic's on its own routes; our stable codes in both."""

from __future__ import annotations

from typing import Literal

import msgspec

from ashore.core.errors import (
    AshoreError,
    BudgetExceeded,
    DeniedError,
    EnvironmentFault,
    KillsHosts,
    MethodNotAllowed,
    Unauthenticated,
    UserError,
)
from ashore.core.hints import with_hint
from ashore.core.outward import outward, retry_after

ErrorForm = Literal["openai", "anthropic", "ollama"]
"""Whose clients read the errors of a route."""


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error with OpenAI's fields, and a hint."""

    message: str
    type: str = msgspec.field(default="")
    param: str | msgspec.UnsetType | None = msgspec.UNSET
    code: str | msgspec.UnsetType | None = msgspec.UNSET
    hint: str = ""


class OpenAIError(msgspec.Struct, frozen=True):
    """Error response of all routes except Anthropic's."""

    error: ErrorBody


class AnthropicErrorBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error with Anthropic's fields, ashore's code and a hint."""

    type: str = msgspec.field(default="")
    message: str
    code: str = ""
    param: str | None = None
    hint: str = ""


class AnthropicError(msgspec.Struct, frozen=True, kw_only=True, tag="error", tag_field="type"):
    """Error response of `/v1/messages`."""

    error: AnthropicErrorBody
    request_id: str


class OllamaError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Error response of Ollama's routes: its clients show the text; the other fields are ashore's."""

    error: str
    code: str = ""
    param: str | None = None
    hint: str = ""


def openai_type(error: AshoreError) -> str:
    """Return OpenAI's word for the kind of error."""
    if isinstance(error, Unauthenticated):
        return "authentication_error"
    if isinstance(error, DeniedError):
        return "permission_error"
    if isinstance(error, UserError):
        return "invalid_request_error"
    if error.http_status == 429:
        return "rate_limit_error"
    return "server_error"


def anthropic_type(error: AshoreError) -> str:
    """Return Anthropic's word for the kind of error."""
    by_status = {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        503: "overloaded_error",
        504: "timeout_error",
    }
    return by_status.get(error.http_status, "invalid_request_error" if error.http_status < 500 else "api_error")


def openai_error(error: AshoreError) -> bytes:
    """Return the body of an OpenAI error."""
    message, hint = outward(error)
    shown = with_hint(message, hint)
    body = ErrorBody(message=shown, type=openai_type(error), param=error.param, code=error.code, hint=hint)
    return msgspec.json.encode(OpenAIError(body))


def anthropic_error(error: AshoreError, request_id: str) -> bytes:
    """Return the body of an Anthropic error."""
    message, hint = outward(error)
    return msgspec.json.encode(
        AnthropicError(
            error=AnthropicErrorBody(
                type=anthropic_type(error),
                message=with_hint(message, hint),
                code=error.code,
                param=error.param,
                hint=hint,
            ),
            request_id=request_id,
        )
    )


def ollama_error(error: AshoreError) -> bytes:
    """Return the body of an error in Ollama's form."""
    message, hint = outward(error)
    return msgspec.json.encode(
        OllamaError(error=with_hint(message, hint), code=error.code, param=error.param, hint=hint)
    )


def error_body(error: AshoreError, form: ErrorForm, request_id: str) -> bytes:
    """Return the body of an error in the form that the clients of a route know."""
    match form:
        case "anthropic":
            return anthropic_error(error, request_id)
        case "ollama":
            return ollama_error(error)
        case "openai":
            return openai_error(error)


def error_headers(error: AshoreError) -> list[tuple[bytes, bytes]]:
    """Return the headers that go with the error: when to come back, how to say who one is."""
    headers = [(b"content-type", b"application/json")]
    seconds = retry_after(error)
    # client libraries send again what ended with 500 or 429
    if isinstance(error, KillsHosts) or (isinstance(error, BudgetExceeded) and seconds is None):
        headers.append((b"x-should-retry", b"false"))
    if seconds is not None:
        headers.append((b"retry-after", b"%d" % seconds))
    if isinstance(error, BudgetExceeded):
        headers += [(name.encode(), value.encode()) for name, value in error.facts]
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b'Bearer realm="ashore"'))
    if error.http_status in (408, 413, 431):
        headers.append((b"connection", b"close"))
    return headers


def is_ours_to_mend(error: AshoreError) -> bool:
    """Return whether an operator should read about it in the log."""
    return isinstance(error, EnvironmentFault) or error.http_status == 500
