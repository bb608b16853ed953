"""Limits reasoning: a sequence that still reasons after a number of tokens is forced to end its reasoning.

No engine support is needed. The sequence runs for that many tokens; if it has not ended by then, it continues from its
own output, which the prefix cache holds. If it still reasons, `</think>` is inserted first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from ashore.core.errors import AshoreError
from ashore.core.ids import OrderId
from ashore.data.engines import (
    CancelOrder,
    EngineEvent,
    Finished,
    GenerateOrder,
    Order,
    OrderHearer,
    SayOrder,
    Token,
    rest_of,
)
from ashore.data.path.ports import Replica, ServedText

THINK: Final = b"<think>"
THINK_END: Final = b"</think>"
CLOSER: Final = "\n</think>\n\n"
"""End of reasoning as in the templates of DeepSeek-R1 and Qwen3."""


class ThinksAtMost:
    """Starts sequences on a replica and limits their reasoning."""

    def __init__(self, replica: Replica, text: ServedText, *, tokens: int, opens_reasoning: bool) -> None:
        """Create it.

        Args:
            replica: Replica to run on.
            text: Text side of the model.
            tokens: Limit of reasoning, in tokens.
            opens_reasoning: The prompt ends inside of it.
        """
        self._replica, self._text, self._tokens = replica, text, tokens
        self._opens_reasoning = opens_reasoning

    def start(self, order: Order, hearer: OrderHearer) -> CancelOrder:
        """Start one sequence, as `Replica.start` does."""
        if isinstance(order, SayOrder):
            return self._replica.start(order, hearer)
        begun = order.prompt_ids[len(order.prompt_ids) - order.begun :]
        left = self._tokens - len(begun)
        if order.max_new_tokens <= left or (left <= 0 and not self._closer_of(begun)):
            return self._replica.start(order, hearer)
        return _Thinking(self._replica, order, hearer, left, lambda ids: self._closer_of([*begun, *ids])).cancel

    def _closer_of(self, ids: Sequence[int]) -> list[int]:
        """Return the tokens that close the reasoning at the end of `ids`; none if they do not end inside one."""
        written = b"".join(map(self._text.token_bytes, ids))
        if THINK_END in written or not (self._opens_reasoning or written.lstrip().startswith(THINK)):
            return []
        return self._text.encode(CLOSER, allow_special=True, bare=True)


class _Thinking:
    """One sequence in two parts, reported as one."""

    def __init__(
        self,
        replica: Replica,
        order: GenerateOrder,
        hearer: OrderHearer,
        tokens: int,
        closer_of: Callable[[Sequence[int]], list[int]],
    ) -> None:
        self._replica, self._order, self._hearer, self._closer_of = replica, order, hearer, closer_of
        self._ids: list[int] | None = []
        """Output of the first part; None in the second."""
        self._before = 0
        """Tokens in front of the second part."""
        self._cached_tokens = 0
        self._cancelled = False
        self._cancel: CancelOrder = lambda: None
        if tokens > 0:
            self._cancel = replica.start(replace(order, max_new_tokens=tokens), self)
        else:  # it began elsewhere, and has used up its reasoning
            used_up = Finished(order.order_id, "length", len(order.prompt_ids), 0, 0)
            asyncio.get_running_loop().call_soon(self._go_on, [], used_up, [])

    def cancel(self) -> None:
        """Cancel the part that runs. May be called twice."""
        self._cancelled = True
        self._cancel()

    def hear(self, events: list[EngineEvent]) -> None:
        if self._ids is None:
            self._hearer.hear([self._renamed(one) for one in events])
            return
        self._ids += [one.token_id for one in events if isinstance(one, Token)]
        last = events[-1]
        if isinstance(last, Finished) and last.reason == "length":
            self._go_on(events, last, self._ids)
        else:
            self._hearer.hear(events)

    def lose(self, error: AshoreError) -> None:
        self._hearer.lose(error)

    def _go_on(self, events: list[EngineEvent], last: Finished, ids: list[int]) -> None:
        """Start the second part after the output of the first and the end of its reasoning."""
        closer = self._closer_of(ids)[: self._order.max_new_tokens - len(ids)]
        ids, self._ids, self._cached_tokens = [*ids, *closer], None, last.cached_tokens
        self._before = len(ids)
        left = self._order.max_new_tokens - len(ids)
        told: list[EngineEvent] = [*events[:-1], *(Token(self._order.order_id, one) for one in closer)]
        if left < 1:
            told.append(self._whole(last, made=len(ids)))
        if told:
            self._hearer.hear(told)
        if left < 1 or self._cancelled:
            return
        after = rest_of(self._order, ids, OrderId(f"{self._order.order_id}.after"))
        self._cancel = self._replica.start(after, self)

    def _renamed(self, event: EngineEvent) -> EngineEvent:
        """Return an event of the second part under the id of the whole."""
        if isinstance(event, Finished):
            return self._whole(event, made=self._before + event.completion_tokens)
        return replace(event, order_id=self._order.order_id)

    def _whole(self, last: Finished, *, made: int) -> Finished:
        return replace(
            last,
            order_id=self._order.order_id,
            prompt_tokens=len(self._order.prompt_ids),
            cached_tokens=self._cached_tokens,
            completion_tokens=made,
        )
