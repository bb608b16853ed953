"""The page Chat: asks an API worker on behalf of a person."""

from __future__ import annotations

from functools import partial
from typing import Final
from urllib.parse import quote

import msgspec

from ashore.control.console import words_of
from ashore.control.console.words import Words
from ashore.control.faces.visiting import visit_of
from ashore.core.hints import with_hint, without_hint
from ashore.data.authority import Principal
from ashore.data.http import Exchange, Face, Relay
from ashore.data.http.errors import OpenAIError
from ashore.kit.decode import UNDECODABLE

PATH: Final = "/v1/chat/completions"
NOT_FOR_PEOPLE: Final = (b"cookie", b"x-ashore-job", b"x-ashore-attempt")
"""Headers of a browser that a worker does not get: it believes what stands beside the token of our processes."""


class WorkerChat:
    """Passes questions of the page on to a worker, which answers them as for the person's key."""

    def __init__(self, relay: Relay, token: str) -> None:
        """Create it. `token`: with which this server's own processes act for others."""
        self._relay = relay
        self._token = token

    async def __call__(self, app: Face, exchange: Exchange, principal: Principal, path: str = PATH) -> None:
        """Answer a request as `path` does for the person's key, errors in the language of the page."""
        named = f"{quote(principal.acting_name, safe='')}/{quote(str(principal.tenant), safe='')}"
        visit = visit_of(exchange, app.origin_of(exchange), behind_tls=app.is_behind_tls(exchange))
        extra = [
            (b"authorization", f"Bearer {self._token}".encode()),
            (b"x-ashore-on-behalf-of", named.encode()),
            (b"x-ashore-urgency", b"interactive"),
            (b"x-forwarded-for", exchange.origin.encode()),
            *((name, b"") for name in NOT_FOR_PEOPLE),
        ]
        await self._relay.pass_on(
            exchange, app.limits, whose=named, path=path, extra=extra, reword=partial(_reworded, words_of(visit))
        )


def _reworded(words: Words, body: bytes) -> bytes:
    """Return the body of an error in the language of a page."""
    try:
        said = msgspec.json.decode(body, type=OpenAIError)
    except UNDECODABLE:
        return body
    bare = without_hint(said.error.message, said.error.hint)
    message, hint = words.said(bare).text, words.said(said.error.hint).text
    error = msgspec.structs.replace(said.error, message=with_hint(message, hint), hint=hint)
    return msgspec.json.encode(OpenAIError(error))
