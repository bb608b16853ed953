"""From what the client wrote to the tokens that the engine reads."""

from __future__ import annotations

import asyncio
from typing import Final

from ashore.engines import EngineInfo
from ashore.errors import InvalidRequest
from ashore.serving.model import GenerationRequest
from ashore.serving.orders import Prompt, check_prompt_ids, room_for_answer
from ashore.serving.ports import ServedText

INLINE_CHARS: Final = 16_384
"""Longer prompts are tokenised on a thread, so that no stream waits for them (about 4 ms at this length)."""


async def encode_prompt(request: GenerationRequest, text: ServedText, info: EngineInfo) -> Prompt:
    """Return the prompt of `request`.

    Raises:
        ContextTooLong: it does not fit the context together with the answer.
        InvalidRequest: it is empty, or the template refuses it.
    """
    ids = await prompt_ids(request, text, info)
    if not ids:
        raise InvalidRequest("the prompt is empty", param="prompt" if request.prompt is not None else "messages")
    room = room_for_answer(info, len(ids), request.max_tokens)
    return Prompt(ids, room, opens_reasoning=request.prompt is None and text.opens_reasoning(ids))


async def prompt_ids(request: GenerationRequest, text: ServedText, info: EngineInfo) -> list[int]:
    """Return the tokens of the prompt, however many."""
    if num_chars(request) > INLINE_CHARS:
        return await asyncio.to_thread(_encode, request, text, info)
    return _encode(request, text, info)


def _encode(request: GenerationRequest, text: ServedText, info: EngineInfo) -> list[int]:
    if request.prompt is None:
        tools = () if request.tool_choice == "none" else request.tools
        return text.encode_chat(request.messages, tools, options=request.template_options)
    if isinstance(request.prompt, str):
        return text.encode(request.prompt)
    check_prompt_ids(request.prompt, info)
    return list(request.prompt)


def num_chars(request: GenerationRequest) -> int:
    """Return about how long the texts of a request are."""
    if request.prompt is not None:
        return len(request.prompt) if isinstance(request.prompt, str) else 0
    return sum(len(m.content) + len(m.reasoning) for m in request.messages) + sum(
        len(t.parameters) for t in request.tools
    )
