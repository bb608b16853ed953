"""What one call sends and gets back, by the caller's privacy policy and the guard lists. Runs on a thread where it is
long.

A tool's arguments leave the house, and its result is read by a model: both are masked as prompts are. Values that the
caller sent itself come back as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ashore.core.errors import AshoreError, InvalidRequest, RemoteRefused
from ashore.data.guard import Guard, GuardList, Hits
from ashore.data.privacy import Outlet, Privacy, StandIns
from ashore.kit.decode import UNDECODABLE, decode_any

_BLOCKS: Final[Mapping[str, tuple[str, ...]]] = {
    "text": ("text",),
    "image": ("data", "mimeType"),
    "audio": ("data", "mimeType"),
    "resource_link": ("uri", "name", "title", "description", "mimeType", "size"),
    "resource": ("resource",),
}
"""What is handed on of each kind of content."""
_RESOURCE: Final = ("uri", "mimeType", "text", "blob")
_encode = msgspec.json.Encoder().encode
Count = Callable[[Mapping[tuple[str, str], int], str], None]


class Masking:
    """Masks one call. `alias` is the name by which policies and lists speak of the server: `mcp/NAME`."""

    def __init__(
        self, privacy: Privacy, guard: Guard, *, tenant: str, principal: str, alias: str, count: Count,
        word: Callable[[GuardList, str], None],
    ) -> None:  # fmt: skip
        self._table, rules = privacy.table(tenant=tenant, principal=principal, alias=alias, beginning=alias)
        self._masks = any(action != "allow" for action in rules.prompts.values())
        self._prompts, self._answers, _ = guard.now.of((alias,))
        self._count, self._word = count, word
        self._back = StandIns(())
        self._hits = Hits()

    def outward(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments as the server may see them.

        Raises:
            PersonalDataBlocked, ContentBlocked: they have what must not leave. InvalidRequest: they cannot be read.
        """
        try:
            text = self._masked(_encode(arguments).decode(), "prompt")
            self._back = StandIns(self._table.entries)
            self._look(text, "prompt")
            masked: Mapping[str, Any] = decode_any(text)
        except UNDECODABLE as fault:
            raise InvalidRequest("the arguments are nested too deeply", hint="send fewer levels") from fault
        return masked

    def inward(self, server: str, raw: msgspec.Raw) -> dict[str, Any]:
        """Return a result as the caller may see it.

        Raises:
            PersonalDataBlocked, ContentBlocked: it has what must not pass. RemoteRefused: it is not a result.
        """
        try:
            text = _encode(_result_of(msgspec.json.decode(raw), server, masks=self._masks)).decode()
            if self._masks:
                text = self._masked(text, "answer")
                outlet = Outlet(self._back, None, as_json=True)
                text = outlet.feed(text) + outlet.end()
            self._look(text, "answer")
            result: dict[str, Any] = decode_any(text)
        except (*UNDECODABLE, InvalidRequest) as fault:
            raise _odd(server, "sent a result that cannot be read") from fault
        return result

    def _masked(self, text: str, where: str) -> str:
        if not self._masks:
            return text
        before = dict(self._table.counts)
        self._table.reserve(text)
        try:
            masked = self._table.mask_json(text)
            self._table.check()
        finally:
            self._count({key: n - before.get(key, 0) for key, n in self._table.counts.items()}, where)
        return masked

    def _look(self, text: str, place: str) -> None:
        for one, _, _ in (self._prompts if place == "prompt" else self._answers).find(text):
            self._word(one, place)
            self._hits.take(one, place)


def _result_of(said: Any, server: str, *, masks: bool) -> dict[str, Any]:
    """Return what is handed on of a result: its content, and nothing else that a server might put into it."""
    if not isinstance(said, dict) or not isinstance(said.get("content"), list):
        kind = said.get("resultType") if isinstance(said, dict) else None
        raise _odd(
            server, "asks for more input, which ashore does not pass on" if kind else "sent a result without content"
        )
    found: dict[str, Any] = {"content": [_block(one, server, masks=masks) for one in said["content"]]}
    if isinstance(said.get("structuredContent"), dict):
        found["structuredContent"] = said["structuredContent"]
    return found | {"isError": said.get("isError") is True}


def _block(said: Any, server: str, *, masks: bool) -> dict[str, Any]:
    kind = str(said.get("type")) if isinstance(said, dict) else ""
    if kind not in _BLOCKS:
        raise _odd(server, f"sent content of the kind {kind[:30]!r}")
    block = {"type": kind} | {key: said[key] for key in _BLOCKS[kind] if key in said}
    if kind == "resource":
        inner = block.get("resource")
        block["resource"] = {key: inner[key] for key in _RESOURCE if key in inner} if isinstance(inner, dict) else {}
    if masks and ("data" in block or "blob" in block.get("resource", ())):
        return {"type": "text", "text": f"[{kind} left out: the privacy policy masks, and cannot read it]"}
    return block


def _odd(server: str, what: str) -> AshoreError:
    return RemoteRefused(f"the tool server {server} {what}", hint="ask the operator of that server")
