"""Asks the enterprise's issuers for their signing keys, and for the tokens of a log-in, where `[egress]` allows it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from ashore.access.issuers import MAX_KEYS_BYTES
from ashore.core import check_addresses, check_url, parse_allow, resolve
from ashore.errors import SourceUnreachable

FETCH_TIMEOUT_S: Final = 10.0


async def fetch_jwks(
    url: str, egress: Sequence[str], /, *, form: Mapping[str, str] | None = None, basic: str = ""
) -> bytes:
    """Return what is at `url`, or answers a form: at an address that was checked, by no proxy and no redirect.

    Raises:
        PermissionDenied: `[egress]` does not allow it.
        SourceUnreachable: it does not answer, or not with a document of at most a MiB.
    """
    import httpx

    target = check_url(url, parse_allow(egress))
    try:
        async with asyncio.timeout(FETCH_TIMEOUT_S):
            found = [target.host] if target.literal else await resolve(target.host, target.port)
            address = check_addresses(target, found)
            host = f"[{address}]" if ":" in address else address
            async with (
                httpx.AsyncClient(trust_env=False, follow_redirects=False) as client,
                client.stream(
                    "GET" if form is None else "POST",
                    f"{target.scheme}://{host}:{target.port}{target.path}",
                    headers={"host": target.authority, "accept": "application/json", **_signed(basic)},
                    data=form,
                    extensions={"sni_hostname": target.host},
                ) as answer,
            ):
                parts, length = [], 0
                async for part in answer.aiter_bytes():
                    parts.append(part)
                    length += len(part)
                    if length > MAX_KEYS_BYTES:
                        raise SourceUnreachable(f"{url} sent more than {MAX_KEYS_BYTES:,} bytes")
                if answer.status_code != 200:
                    raise SourceUnreachable(f"{url} returned status {answer.status_code}; expected 200")
                return b"".join(parts)
    except (httpx.HTTPError, OSError, TimeoutError) as fault:
        raise SourceUnreachable(f"{urlsplit(url).hostname} did not respond: {type(fault).__name__} {fault}") from fault


def _signed(basic: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(basic.encode()).decode()} if basic else {}
