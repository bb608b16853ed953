"""Fetches the signing keys of the enterprise's issuers, and the tokens of a log-in, as `[egress]` allows."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from ashore.core.errors import SourceUnreachable
from ashore.data.authority.issuers import MAX_KEYS_BYTES
from ashore.kit.egress import parse_allow

FETCH_TIMEOUT_S: Final = 10.0


async def fetch_jwks(
    url: str, egress: Sequence[str], /, *, form: Mapping[str, str] | None = None, basic: str = ""
) -> bytes:
    """Return the document at `url`, or the answer to a form: from a checked address, without proxy or redirect.

    Raises:
        PermissionDenied: `[egress]` does not allow it.
        SourceUnreachable: no answer, or no document of at most 1 MiB.
    """
    from httpx import HTTPError

    from ashore.kit.outgoing import ask_checked

    try:
        answer = await ask_checked(
            url, parse_allow(egress), method="GET" if form is None else "POST", form=form, most_bytes=MAX_KEYS_BYTES,
            headers={"accept": "application/json", **_signed(basic)}, timeout_s=FETCH_TIMEOUT_S,
        )  # fmt: skip
    except (HTTPError, OSError, TimeoutError) as fault:
        raise SourceUnreachable(f"{urlsplit(url).hostname} did not respond: {type(fault).__name__} {fault}") from fault
    if answer.status != 200:
        raise SourceUnreachable(f"{url} returned status {answer.status}; expected 200")
    return answer.body


def _signed(basic: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(basic.encode()).decode()} if basic else {}
