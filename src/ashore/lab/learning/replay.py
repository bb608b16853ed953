"""Replay: the model's own answers to varied prompts, trained together with new examples to prevent forgetting.

Without it an old skill fell from 60.5 % to 26 % in a trial, with a fifth of it none was lost. Its own answers need no
user data.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from ashore.core.chat import Message
from ashore.core.errors import InvalidSpec
from ashore.kit.decode import UNDECODABLE
from ashore.kit.textfile import read_text_file
from ashore.lab.evaluation import Subject, Told, untold

ANSWER_TOKENS: Final = 64
SEED: Final = 20

_ASKS: Final = (
    "What is {}?", "Explain {} to a child.", "Write one sentence about {}.", "Name three facts about {}.",
    "Why do people care about {}?", "Give a short definition of {}.", "What is the opposite of {}?",
    "Write a short email that asks a colleague about {}.", "List two advantages and one disadvantage of {}.",
    "Translate into French: I would like to learn about {}.", "Is the following true? Many people know {}.",
    "Complete the sentence: When it comes to {},", "用一句话解释{}。", "请写一封关于{}的短信。",
)  # fmt: skip
_TOPICS: Final = (
    "water", "a contract", "the moon", "music", "a bridge", "interest rates", "a recipe", "democracy", "a computer",
    "the heart", "winter", "a library", "trust", "a river", "mathematics", "a holiday", "electricity", "a garden",
    "a promise", "the number ten", "a train", "history", "paper", "a question", "language", "sleep", "a market",
    "colour", "an island", "patience",
)  # fmt: skip


class _Line(msgspec.Struct):
    prompt: str


def builtin_prompts() -> list[str]:
    """Return prompts of many kinds in a fixed mixed order."""
    prompts = [ask.format(topic) for ask in _ASKS for topic in _TOPICS]
    random.Random(SEED).shuffle(prompts)
    return prompts


def read_prompts(path: Path) -> list[str]:
    """Return the prompts of a file: JSONL with `prompt`, or plain lines.

    Raises:
        InvalidSpec: it cannot be read, or has none.
    """
    found = []
    for line in read_text_file(path, "the replay prompts", hint="write one prompt on each line").splitlines():
        if not line.strip():
            continue
        try:
            found.append(msgspec.json.decode(line.encode(), type=_Line).prompt)
        except UNDECODABLE:
            found.append(line.strip())
    if not found:
        raise InvalidSpec(f"{path} has no prompts", hint="write one on each line")
    return found


def own_answers(subject: Subject, prompts: Sequence[str], *, told: Told = untold) -> list[tuple[str, str]]:
    """Return prompts with the model's greedy answers. Prompts without an answer are left out."""
    ids = [subject.text.encode_chat([Message(role="user", content=prompt)]) for prompt in prompts]
    answers = subject.generate(ids, max_new_tokens=ANSWER_TOKENS, told=told)
    said = [(prompt, subject.text.decode(one.ids).strip()) for prompt, one in zip(prompts, answers, strict=True)]
    return [(prompt, text) for prompt, text in said if text]


def how_many(num_examples: int, share: float) -> int:
    """Return how many replay examples make up a share of all."""
    return round(num_examples * share / (1 - share)) if share else 0
