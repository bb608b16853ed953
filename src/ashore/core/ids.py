"""Identifiers. Each is a string with a prefix for its kind, so that a log line explains itself."""

from __future__ import annotations

import re
import secrets
from typing import Final, NewType

from ashore.core.errors import InvalidRequest

RequestId = NewType("RequestId", str)
"""A request id: `req_` and 24 hexadecimal digits, or the client's `x-request-id`."""

OrderId = NewType("OrderId", str)
"""One sequence inside an engine: a request with `n` choices gives `n` orders."""

TenantId = NewType("TenantId", str)

Digest = NewType("Digest", str)
"""`sha256:` and 64 hexadecimal digits."""

ADAPTER_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Form of an adapter's name: clients request `ALIAS:NAME`."""


def new_request_id() -> RequestId:
    """Return a new request id from the system's random generator."""
    return RequestId(f"req_{secrets.token_hex(12)}")


def check_adapter_name(name: str) -> str:
    """Check the name of an adapter and return it: clients request `ALIAS:NAME`.

    Raises:
        InvalidRequest: it has other characters than letters, digits, dot, dash and underscore.
    """
    if not ADAPTER_NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name[:60]!r} is not a name for an adapter",
            hint="use letters, digits, dot, dash and underscore; at most 64 characters",
            param="adapters",
        )
    return name
