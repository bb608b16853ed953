"""Converts a server's error response into the same error here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ashore.core.errors import (
    AshoreError,
    Bug,
    CapacityError,
    DeadlineExceeded,
    InvalidRequest,
    NotReady,
    Overloaded,
    PermissionDenied,
    RemoteRefused,
    Unauthenticated,
    UnknownModel,
    error_class,
)
from ashore.core.hints import without_hint
from ashore.kit.decode import UNDECODABLE

_BY_STATUS: Final[Mapping[int, type[AshoreError]]] = {
    401: Unauthenticated,
    403: PermissionDenied,
    404: UnknownModel,
    429: Overloaded,
    503: NotReady,
    504: DeadlineExceeded,
    507: CapacityError,
}


def raise_refusal(status: int, body: bytes, url: str) -> None:
    """Return for 200; otherwise raise what the server said: by its code where that is one of ours, else by status.

    A bug of the server is not a bug of this process: it is reported as a refusal.
    """
    if status == 200:
        return
    try:
        payload = msgspec.json.decode(body)
    except UNDECODABLE:
        payload = None
    message, hint = error_words(payload)
    error = payload.get("error") if isinstance(payload, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    kind = error_class(code) if isinstance(code, str) else None
    if kind is None or issubclass(kind, Bug):
        kind = _BY_STATUS.get(status, InvalidRequest if 400 <= status < 500 else RemoteRefused)
    if 300 <= status < 400:
        hint = "it sends callers elsewhere, and a key goes nowhere but to --url; give the address that answers itself"
    if status == 401:
        hint = hint or "set ASHORE_API_KEY to a key for that server"
    raise kind(message or f"{url} answered {status}", hint=hint)


def error_words(payload: object) -> tuple[str, str]:
    """Return message and hint of an error body in OpenAI's form, or why `/readyz` says no."""
    error = payload.get("error", payload.get("why")) if isinstance(payload, dict) else None
    if isinstance(error, dict):
        hint = str(error.get("hint") or "")
        return without_hint(str(error.get("message") or ""), hint), hint
    return (str(error), "") if error else ("", "")
