"""From an example to token ids: the model's own template and tokenizer, as they are when it is served.

Targets are what the model itself would write: the assistant's turns with their end tokens, the completion of a prompt,
all of a text. The prompt is tokenised as a server does, so that training and serving see the same ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from ashore.data.text import TextModel
from ashore.lab.training.datalines import ChatExample, CompletionExample, Example, TextExample

THINK_END: Final = "</think>"
Tokens = tuple[list[int], list[bool]]
"""Ids of an example, and which of them are to be learned."""


class Piece(NamedTuple):
    """A part of an example; a text that is too long becomes several."""

    ids: list[int]
    targets: list[bool]
    is_cut: bool
    """It lost its end, because it was longer than allowed."""

    @property
    def is_taught(self) -> bool:
        """Whether any target is left."""
        return any(self.targets[1:])


def pieces_of(example: Example, text: TextModel, max_length: int) -> Iterator[Piece]:
    """Yield an example as token ids, each piece of at most `max_length`.

    Raises:
        InvalidRequest: the template refuses the messages.
    """
    for ids, targets in _tokens(example, text, max_length):
        yield Piece(ids[:max_length], targets[:max_length], len(ids) > max_length)


def _tokens(example: Example, text: TextModel, max_length: int) -> Iterator[Tokens]:
    match example:
        case ChatExample():
            yield from chat_tokens(example, text)
        case CompletionExample():
            prompt = text.encode(example.prompt)
            answer = _ended(text.encode(example.completion, bare=True), text)
            yield [*prompt, *answer], [False] * len(prompt) + [True] * len(answer)
        case TextExample():
            ids = _ended(text.encode(example.text), text)
            for start in range(0, len(ids), max_length):
                part = ids[start : start + max_length]
                if len(part) > 1:
                    yield part, [True] * len(part)


def chat_tokens(example: ChatExample, text: TextModel) -> list[Tokens]:
    """Return a conversation as one example in which every turn of the assistant is learned.

    If the template renders earlier turns differently from last ones (it drops their reasoning), no single rendering
    matches what the model sees at each turn; then each turn is a separate example. If it opens `<think>` for the model,
    the target closes it.

    Raises:
        InvalidRequest: the template refuses the messages.
    """
    turns = [_turn(example, at, text) for at, message in enumerate(example.messages) if message.role == "assistant"]
    ids, targets = turns[-1]
    for earlier, marks in turns[:-1]:
        if ids[: len(earlier)] != earlier:
            return turns
        targets[: len(marks)] = [a or b for a, b in zip(targets, marks, strict=False)]
    return [(ids, targets)]


def _turn(example: ChatExample, at: int, text: TextModel) -> Tokens:
    """Return the conversation up to the assistant's message `at`, the target, including its end token."""
    message = example.messages[at]
    prompt = text.encode_chat(example.messages[:at], example.tools) if at else []
    ids = text.encode_chat(example.messages[: at + 1], example.tools, add_generation_prompt=False)
    start = _common(prompt, ids)
    if start < len(prompt) and text.opens_reasoning(prompt) and not message.tool_calls:
        reasoning = text.encode(f"{message.reasoning}\n", bare=True) + text.encode(
            THINK_END, bare=True, allow_special=True
        )
        ids, start = [*prompt, *reasoning, *text.encode(f"\n\n{message.content}", bare=True)], len(prompt)
    end = next((i + 1 for i in range(start, len(ids)) if ids[i] in text.eos_token_ids), len(ids))
    ids = _ended(ids[:end], text)
    return ids, [i >= start for i in range(len(ids))]


def _ended(ids: list[int], text: TextModel) -> list[int]:
    """Return ids with an end-of-answer token appended if missing."""
    ends = text.eos_token_ids
    return ids if not ends or (ids and ids[-1] in ends) else [*ids, ends[0]]


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Return the length of the common prefix of two sequences."""
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
