"""Turns a client's prompt into the tokens that the engine reads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import msgspec

from ashore.core.chat import ToolSpec
from ashore.core.errors import ContextTooLong, InvalidRequest
from ashore.data.authority import Principal
from ashore.data.engines import EngineInfo
from ashore.data.path.fairthreads import FairThreads
from ashore.data.path.guards import Masked, Masker
from ashore.data.path.model import GenerationRequest
from ashore.data.path.orders import Prompt, check_prompt_ids, room_for_answer, speaks
from ashore.data.path.ports import ServedText
from ashore.data.path.textonly import bounds_of, fits_of
from ashore.data.path.tools import prepare_tools

_T = TypeVar("_T")

INLINE_CHARS: Final = 8_192
"""Longer prompts are masked and tokenised on a thread, so that no stream waits for them. At this length it is 4 ms for
text full of identifiers, and 17 ms for the worst that is known."""
TURN_S: Final = 0.004
"""Reading that is done at once in one turn of the loop, for all requests together. Many short prompts that come at one
moment would hold up the loop as one long prompt does; those beyond this go to the threads, too."""
MESSAGE_CHARS: Final = 64
"""Overhead of a message or a tool besides its texts, in characters."""
ID_CHARS: Final = 4
"""The same of a token id."""
NUMBERS_PER_CHAR: Final = 4
"""Numbers of a vector that are compared or written in the time that a character of a prompt takes to read."""


class PromptReader:
    """Runs work that reads every character of a request: inline if it is short, otherwise on its own threads."""

    def __init__(self, threads: FairThreads, masker: Masker) -> None:
        self._threads = threads
        self._masker = masker
        self._spent_s = 0.0

    async def read(self, num_chars: int, work: Callable[[], _T], principal: Principal, deadline_at: float) -> _T:
        """Run `work`, which reads so many characters for a principal, and return its result.

        Raises:
            DeadlineExceeded: the deadline passed before its turn came, or before it was done.
        """
        if num_chars <= INLINE_CHARS and self._spent_s < TURN_S:
            return self._at_once(work)
        return await self._threads.run(principal, work, deadline_at=deadline_at)

    def _at_once(self, work: Callable[[], _T]) -> _T:
        if not self._spent_s:
            asyncio.get_running_loop().call_soon(self._next_turn)
        began_s = time.perf_counter()
        try:
            return work()
        finally:
            self._spent_s += time.perf_counter() - began_s

    def _next_turn(self) -> None:
        self._spent_s = 0.0

    async def with_tools(
        self, request: GenerationRequest, text: ServedText, principal: Principal, deadline_at: float
    ) -> GenerationRequest:
        """Return the request with its tools prepared for the model; reads their schemas.

        Raises:
            DeadlineExceeded: as for `read`.
        """
        work = partial(prepare_tools, request, text)
        if not request.tools:
            return work()
        return await self.read(num_chars(request), work, principal, deadline_at)

    async def masked(
        self,
        request: GenerationRequest,
        text: ServedText,
        info: EngineInfo,
        principal: Principal,
        deadline_at: float,
        *,
        contexts: int = 1,
    ) -> Masked:
        """Return the request with personal data masked, if it may fit so many contexts.

        Raises:
            ContextTooLong: it cannot.
            PersonalDataBlocked: it contains data that the policy blocks.
            DeadlineExceeded: as for `read`.
        """

        def work() -> Masked:
            if chars > INLINE_CHARS:
                check_length(request, text, info, contexts=contexts)
            return self._masker.mask(request, principal, text.decode)

        chars = num_chars(request)
        return await self.read(chars, work, principal, deadline_at)

    async def encode(
        self, request: GenerationRequest, text: ServedText, info: EngineInfo, principal: Principal, deadline_at: float
    ) -> Prompt:
        """Return the prompt of `request`.

        Raises:
            ContextTooLong: it leaves no room for an answer in the context.
            InvalidRequest: it is empty, or the template refuses it.
            DeadlineExceeded: as for `read`.
        """
        if speaks(info):
            return await self._bounded(request, info, principal, deadline_at)
        ids = await self.ids(request, text, info, principal, deadline_at)
        if not ids:
            raise InvalidRequest("the prompt is empty", param="prompt" if request.prompt is not None else "messages")
        room = room_for_answer(info, len(ids), request.max_tokens, request.sampling.min_tokens)
        return Prompt(
            ids,
            room,
            opens_reasoning=request.prompt is None and text.opens_reasoning(ids),
            clamped_to=room if room < (request.max_tokens or 0) else 0,
        )

    async def _bounded(
        self, request: GenerationRequest, info: EngineInfo, principal: Principal, deadline_at: float
    ) -> Prompt:
        """Return the prompt of a model that takes messages: bounds of its tokens, which its server alone counts."""
        if not request.messages:
            raise InvalidRequest("the prompt is empty", param="messages")
        bounds = await self.read(num_chars(request), partial(bounds_of, request), principal, deadline_at)
        if bounds[0] >= info.context_tokens:
            raise too_long(bounds[0], info, param="messages")
        fits = None
        if request.grammar is not None:
            fits = await self._threads.run(principal, partial(fits_of, request.grammar), deadline_at=deadline_at)
        room = room_for_answer(info, bounds[0], request.max_tokens)
        clamped_to = room if room < (request.max_tokens or 0) else 0
        return Prompt([], room, clamped_to=clamped_to, bounds=bounds, fits=fits)

    async def ids(
        self,
        request: GenerationRequest,
        text: ServedText,
        info: EngineInfo,
        principal: Principal,
        deadline_at: float,
        *,
        bare: bool = False,
        opens_answer: bool = True,
    ) -> list[int]:
        """Return the tokens of the prompt, without a limit.

        Args:
            request: Request with the prompt.
            text: Text side of its model.
            info: Information of its model.
            principal: Calling principal.
            deadline_at: Latest start.
            bare: Omit special tokens around a raw prompt.
            opens_answer: End a conversation with the beginning of the answer.

        Raises:
            DeadlineExceeded: as for `read`.
        """

        def work() -> list[int]:
            return _encode(request, text, info, bare=bare, opens_answer=opens_answer)

        return await self.read(num_chars(request), work, principal, deadline_at)


def _encode(
    request: GenerationRequest, text: ServedText, info: EngineInfo, *, bare: bool, opens_answer: bool
) -> list[int]:
    if request.prompt is None:
        return text.encode_chat(
            request.messages,
            _tools(request),
            add_generation_prompt=opens_answer,
            continues=request.continues,
            options=request.template_options,
        )
    if isinstance(request.prompt, str):
        if request.suffix:
            return text.encode_gap(request.prompt, request.suffix)
        return text.encode(request.prompt, bare=bare)
    check_prompt_ids(request.prompt, info)
    return list(request.prompt)


def check_length(request: GenerationRequest, text: ServedText, info: EngineInfo, *, contexts: int = 1) -> None:
    """Check by its length that a prompt may fit. Runs before masking, so that an oversized prompt costs no more.

    Measures the text as the client sent it, rendered by the template. Only long prompts are measured: a short one is as
    cheap to tokenise.

    Raises:
        ContextTooLong: it cannot fit the context, or so many of them.
        InvalidRequest: the template refuses the messages.
    """
    most = contexts * info.context_tokens
    if request.prompt is None:
        tools, options = _tools(request), request.template_options
        messages = request.messages[:-1] if request.continues else request.messages
        fewest = text.fewest_chat_tokens(messages, tools, beyond=most, options=options)
        if request.continues:
            fewest += text.fewest_tokens(request.messages[-1].content, beyond=most)
    elif isinstance(request.prompt, str):
        fewest = text.fewest_tokens(request.prompt + request.suffix, beyond=most)
    else:
        fewest = len(request.prompt)
    if fewest >= most:
        raise too_long(fewest, info, param="messages" if request.prompt is None else "prompt", contexts=contexts)


def too_long(fewest: int, info: EngineInfo, *, param: str, contexts: int = 1) -> ContextTooLong:
    """Return the error of a text that was not tokenised because its lower bound exceeds the limit."""
    counted = "" if contexts == 1 else f"; prompts are counted up to {contexts} times that"
    return ContextTooLong(
        f"the prompt has at least {fewest} tokens, told by its length, and the context of {info.model} is "
        f"{info.context_tokens} tokens{counted}",
        hint="shorten the prompt",
        param=param,
    )


def num_chars(request: GenerationRequest) -> int:
    """Return the approximate number of characters of a request that are masked, rendered or tokenised."""
    chars = 0
    for message in request.messages:
        chars += MESSAGE_CHARS + len(message.content) + len(message.reasoning) + len(message.name)
        for call in message.tool_calls:
            chars += MESSAGE_CHARS + len(call.arguments)
    for tool in request.tools:
        chars += MESSAGE_CHARS + len(tool.description) + len(tool.parameters)
    if request.prompt is not None:
        chars += len(request.suffix) + len(request.prompt) * (1 if isinstance(request.prompt, str) else ID_CHARS)
    if request.grammar is not None:
        chars += len(request.grammar.text)
    if request.template_options:
        chars += len(msgspec.json.encode(request.template_options))
    return chars


def _tools(request: GenerationRequest) -> Sequence[ToolSpec]:
    return () if request.tool_choice == "none" else request.tools
