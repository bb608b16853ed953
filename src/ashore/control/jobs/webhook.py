"""Webhooks for ended jobs: a signed POST to a host that `[egress]` allows.

Signature: Standard Webhooks (`webhook-id`, `webhook-timestamp`, `webhook-signature`), which is also what OpenAI's
clients verify. Every tenant has a secret of its own, derived from one in the state.

Source: Standard Webhooks specification 1.0, "Signature scheme".
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ssl
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.core.clock import Clock
from ashore.core.errors import PermissionDenied
from ashore.data.jobs import Again, Done, Failed, Lease, Outcome
from ashore.data.jobs.rules import WebhookCall
from ashore.kit.egress import Allowed, Resolve, resolve
from ashore.kit.state import kept_secret

if TYPE_CHECKING:
    from sqlalchemy import Connection

SECRET_NAME: Final = "webhooks"
TIMEOUT_S: Final = 15.0

_payload = msgspec.json.Decoder(WebhookCall)


def webhook_secret(connection: Connection, tenant: str) -> str:
    """Return the secret that signs a tenant's webhooks, as its receiver configures it.

    The first call creates the base secret. Needs a write transaction.
    """
    root = kept_secret(connection, SECRET_NAME)
    derived = hmac.digest(root, b"ashore webhook\0" + tenant.encode(), hashlib.sha256)
    return "whsec_" + base64.b64encode(derived).decode()


def signed_headers(secret: str, *, event_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the three headers of a webhook."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = hmac.digest(key, f"{event_id}.{timestamp_s}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }


@dataclass(frozen=True, slots=True)
class WebhookHandler:
    """A `Handler` that delivers webhooks. Anything but a 2xx is retried; 410 means that the receiver has
    unsubscribed.
    """

    _: KW_ONLY
    allow: Sequence[Allowed]
    """Hosts that may be called."""
    secret_of: Callable[[str], str]
    """Returns the secret of a tenant; blocks."""
    clock: Clock
    """Time of the signature."""
    resolver: Resolve = resolve
    """Resolves names."""
    trust: ssl.SSLContext | None = None
    """Trusted certificates; default: the system's."""

    async def run(self, lease: Lease) -> Outcome:
        from httpx import HTTPError

        from ashore.kit.outgoing import ask_checked

        call = _payload.decode(lease.payload)
        body = msgspec.json.encode(call.event)
        secret = await asyncio.to_thread(self.secret_of, lease.job.tenant)
        headers = signed_headers(secret, event_id=call.event.id, timestamp_s=int(self.clock.now_s()), body=body)
        try:
            answer = await ask_checked(
                call.url, self.allow, method="POST", headers={"content-type": "application/json", **headers},
                content=body, verify=self.trust, resolver=self.resolver,
                most_bytes=0, timeout_s=TIMEOUT_S,
            )  # fmt: skip
        except PermissionDenied as fault:
            return Failed(code=fault.code, message=fault.message)
        except (HTTPError, OSError, TimeoutError) as fault:
            return Again(code="webhook_unreachable", message=f"{call.url}: {type(fault).__name__} {fault}")
        status = answer.status
        if 200 <= status < 300:
            return Done(result=b"%d" % status)
        if status == 410:
            return Failed(code="webhook_gone", message=f"{call.url} answered 410")
        return Again(code="webhook_refused", message=f"{call.url} answered {status}")
