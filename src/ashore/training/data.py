"""From a training file to token ids: the model's own template and tokenizer, as they are when it is served.

What is learned is what the model itself would have to write: the assistant's turns up to the token that ends each, the
completion of a prompt, all of a text. The prompt before it is tokenised as a server would, so that training and serving
see the same ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashore.errors import BrokenData, InvalidRequest
from ashore.store import DataUsed, data_used
from ashore.text import TextModel
from ashore.training.batches import Corpus, make_corpus
from ashore.training.datalines import ChatExample, CompletionExample, Example, TextExample, read_examples

THINK_END: Final = "</think>"
Tokens = tuple[list[int], list[bool]]
"""Ids of an example, and which of them are to be learned."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingData:
    """A file as it is learned from."""

    corpus: Corpus
    used: DataUsed
    num_lines: int
    num_cut: int
    """Examples that lost their end, because they were longer than allowed; texts are divided, not cut."""
    left_out: tuple[int, ...]
    """Line numbers of examples of which nothing to learn was left after cutting."""


def load_data(path: Path, text: TextModel, *, max_length: int, role: str = "train") -> TrainingData:
    """Read and tokenise a file.

    Args:
        path: JSONL, see `datalines`.
        text: Text side of the model that learns it.
        max_length: Most tokens of an example.
        role: What the file is for, in the recipe.

    Raises:
        InvalidRequest: the file cannot be read. BrokenData: a line is not what it must be, or nothing is left of all.
    """
    used = data_used(path, role)
    lines = read_examples(path)
    kept: list[Tokens] = []
    left_out: list[int] = []
    num_cut = 0
    for number, example in lines:
        for ids, targets in _tokens(example, text, max_length, where=f"{path}, line {number}"):
            num_cut += len(ids) > max_length
            if any(targets[1:max_length]):
                kept.append((ids[:max_length], targets[:max_length]))
            else:
                left_out.append(number)
    if not kept:
        raise BrokenData(
            f"{path}: none of its {len(lines)} examples has anything to learn within {max_length} tokens",
            hint="give a larger --max-length, or shorter prompts",
        )
    return TrainingData(
        corpus=make_corpus(kept), used=used, num_lines=len(lines), num_cut=num_cut, left_out=tuple(left_out)
    )


def _tokens(example: Example, text: TextModel, max_length: int, *, where: str) -> Iterator[Tokens]:
    try:
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
    except InvalidRequest as error:
        raise BrokenData(f"{where}: {error.message}", hint=error.hint) from error


def chat_tokens(example: ChatExample, text: TextModel) -> list[Tokens]:
    """Return a conversation as one example in which every turn of the assistant is learned.

    Where the template writes earlier turns otherwise than when they were the last (it drops their reasoning), no single
    rendering is what the model sees at each turn; then each turn is an example of its own. Where it opens `<think>` for
    the model, what is learned closes it.

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
    """Return the conversation up to the assistant's message `at`, which is to be learned, its end token included."""
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
    """Return ids with a token behind them that ends an answer, where there is none."""
    ends = text.eos_token_ids
    return ids if not ends or (ids and ids[-1] in ends) else [*ids, ends[0]]


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many ids two sequences begin with in common."""
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
