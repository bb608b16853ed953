"""Ending reasoning by force: a sequence that still thinks after so many tokens is told that it has thought enough.

No engine needs to know. The sequence runs for that many tokens; if it has not ended by then, it goes on behind what it
wrote, which the prefix cache holds, and where it still thinks `</think>` is written for it first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from ashore.core import OrderId
from ashore.engines import EngineEvent, Failed, Finished, GenerateOrder, Token
from ashore.serving.ports import OrderEvents, Replica, ServedText

THINK: Final = b"<think>"
THINK_END: Final = b"</think>"
CLOSER: Final = "\n</think>\n\n"
"""As DeepSeek-R1's and Qwen3's templates write it behind what an earlier answer thought."""


class ThinksAtMost:
    """Starts sequences on a replica; none of them thinks longer."""

    def __init__(self, replica: Replica, text: ServedText, *, tokens: int, opens_reasoning: bool) -> None:
        """Make it.

        Args:
            replica: Where they run.
            text: Of the model.
            tokens: After which reasoning is ended.
            opens_reasoning: The prompt ends inside of it.
        """
        self._replica, self._text, self._tokens = replica, text, tokens
        self._opens_reasoning = opens_reasoning

    def generate(self, order: GenerateOrder) -> OrderEvents:
        """Start one sequence, as `Replica.generate` does."""
        if order.max_new_tokens <= self._tokens:
            return self._replica.generate(order)
        return _Thinking(self._replica, order, self._tokens, self._closer_of)

    def _closer_of(self, ids: Sequence[int]) -> list[int]:
        """Return the tokens that end the reasoning in which `ids` stop; none where they do not stop in any."""
        written = b"".join(map(self._text.token_bytes, ids))
        if THINK_END in written or not (self._opens_reasoning or written.lstrip().startswith(THINK)):
            return []
        return self._text.encode(CLOSER, allow_special=True, bare=True)


class _Thinking:
    """The events of one sequence in two parts, as if it were one."""

    def __init__(
        self, replica: Replica, order: GenerateOrder, tokens: int, closer_of: Callable[[Sequence[int]], list[int]]
    ) -> None:
        self._replica, self._order, self._closer_of = replica, order, closer_of
        self._ids: list[int] | None = []
        """What the first part wrote; None in the second."""
        self._before = 0
        """Tokens in front of the second part."""
        self._cached_tokens = 0
        self._closed = False
        self._events = replica.generate(replace(order, max_new_tokens=tokens))

    async def take(self, pour: Callable[[list[EngineEvent]], bool] | None = None) -> list[EngineEvent]:
        if self._ids is None:
            return self._told(await self._events.take(pour))
        events = await self._events.take(None if pour is None else lambda some: self._poured(some, pour))
        self._note(events)
        last = events[-1] if events else None
        if not isinstance(last, Finished) or last.reason != "length":
            return events
        self._cached_tokens = last.cached_tokens
        await self._events.aclose()
        if self._closed:
            return []
        closer = self._closer_of(self._ids)[: self._order.max_new_tokens - len(self._ids)]
        ids, self._ids = [*self._ids, *closer], None
        self._before = len(ids)
        told = [*events[:-1], *(Token(self._order.order_id, one) for one in closer)]
        left = self._order.max_new_tokens - len(ids)
        if left < 1:
            return [*told, self._whole(last)]
        self._events = self._replica.generate(
            replace(
                self._order,
                order_id=OrderId(f"{self._order.order_id}.after"),
                prompt_ids=[*self._order.prompt_ids, *ids],
                max_new_tokens=left,
            )
        )
        return told or self._told(await self._events.take(pour))

    async def aclose(self) -> None:
        self._closed = True
        await self._events.aclose()

    def _poured(self, events: list[EngineEvent], pour: Callable[[list[EngineEvent]], bool]) -> bool:
        if not pour(events):
            return False
        self._note(events)
        return True

    def _note(self, events: Sequence[EngineEvent]) -> None:
        if self._ids is not None:
            self._ids += [one.token_id for one in events if isinstance(one, Token)]

    def _told(self, events: list[EngineEvent]) -> list[EngineEvent]:
        """Return events of the second part under the name of the whole."""
        return [self._whole(one) if isinstance(one, Finished) else self._named(one) for one in events]

    def _named(self, event: Token | Failed) -> EngineEvent:
        return replace(event, order_id=self._order.order_id)

    def _whole(self, last: Finished) -> Finished:
        made = self._before if last.order_id == self._order.order_id else self._before + last.completion_tokens
        return replace(
            last,
            order_id=self._order.order_id,
            prompt_tokens=len(self._order.prompt_ids),
            cached_tokens=self._cached_tokens,
            completion_tokens=made,
        )
