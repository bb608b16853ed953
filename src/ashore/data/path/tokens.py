"""The tokenizer's calls: a prompt to its model's tokens, and tokens to text. No engine is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ashore.core.clock import Clock
from ashore.data.authority import Principal
from ashore.data.path.deadlines import ASIDE_S, deadline_of
from ashore.data.path.generation import FreshAnswers
from ashore.data.path.guards import Guards
from ashore.data.path.model import GenerationRequest
from ashore.data.path.model_registry import Roster
from ashore.data.path.orders import check_prompt_ids
from ashore.data.path.ports import ServedText
from ashore.data.path.prompt import ID_CHARS, PromptReader
from ashore.data.path.reception import Reception

COUNTED_CONTEXTS: Final = 8
"""A prompt is counted up to so many contexts: who has one that is too long may want to know by how much."""
MOST_COUNTED: Final = 1_000_000
"""Tokens of a prompt that is counted only, where its context is not longer: their numbers go out in one piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenized:
    """A prompt as its model reads it."""

    ids: list[int]
    text: ServedText
    context_tokens: int
    """Context of the model."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Counts, lists and decodes tokens for clients. Every call is made on one event loop."""

    reception: Reception
    roster: Roster
    fresh: FreshAnswers
    reader: PromptReader
    guards: Guards
    clock: Clock

    async def count(self, request: GenerationRequest, principal: Principal) -> int:
        """Return how many tokens the prompt of `request` has in its model's own template, tools included.

        Raises:
            As `encode` does.
        """
        return len((await self.encode(request, principal)).ids)

    async def encode(
        self, request: GenerationRequest, principal: Principal, *, bare: bool = False, opens_answer: bool = True
    ) -> Tokenized:
        """Return the prompt of `request` as its model would read it, masked by the same policy.

        Args:
            request: Request with the prompt.
            principal: Calling principal.
            bare: Omit special tokens around a raw prompt.
            opens_answer: End a conversation with the beginning of the answer.

        Raises:
            ContextTooLong: it is many times as long as the context.
            AshoreError: the request could not be served.
        """
        limits = self.roster.topology.admission
        deadline_at = deadline_of(limits, request.deadline_s, self.clock.monotonic_s()).begin_by
        self.reception.authorise(principal, request.model)
        model = self.roster.lead(request.model).pick(principal, request)
        await self.fresh.known(model, deadline_at, principal, request.model, request.request_id)
        text, info = model.text, model.info
        request = await self.reader.with_tools(request, text, principal, deadline_at)
        contexts = max(1, min(COUNTED_CONTEXTS, MOST_COUNTED // max(1, info.context_tokens)))
        masked = await self.reader.masked(request, text, info, principal, deadline_at, contexts=contexts)
        ids = await self.reader.ids(
            masked.request, text, info, principal, deadline_at, bare=bare, opens_answer=opens_answer
        )
        await self.guards.budgets.charge_hit(principal, request.model, 0, request_id=request.request_id)
        return Tokenized(ids=ids, text=text, context_tokens=info.context_tokens)

    def tokenizer(self, name: str, principal: Principal) -> tuple[ServedText, int]:
        """Return the text side of a model, and its context in tokens.

        Raises:
            AshoreError: the principal may not use it, or there is no such model.
        """
        self.reception.authorise(principal, name)
        model = self.roster.lead(name).pick(principal)
        return model.text, model.info.context_tokens

    async def decode(self, name: str, ids: Sequence[int], principal: Principal) -> str:
        """Return the text of tokens of a model, without control tokens.

        Raises:
            InvalidRequest: one is not a token of the model.
            AshoreError: the principal may not use it, or there is no such model.
        """
        self.reception.authorise(principal, name)
        model = self.roster.lead(name).pick(principal)

        def work() -> str:
            check_prompt_ids(ids, model.info, param="tokens")
            return model.text.decode(ids)

        deadline_at = self.clock.monotonic_s() + ASIDE_S
        return await self.reader.read(len(ids) * ID_CHARS, work, principal, deadline_at)
