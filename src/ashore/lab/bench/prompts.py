"""Prompts of real sentences, of a given length, deterministic by seed, no two with a common beginning."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

TOKENS_PER_WORD = 1.22
"""Common English under the vocabularies of Llama, Qwen and SmolLM2: 1.15 to 1.3 measured on `corpus.txt`."""

CountTokens = Callable[[str], int]


@lru_cache(maxsize=1)
def sentences() -> tuple[str, ...]:
    """Return the sentences of the prompts (our own, so that they may be shipped)."""
    text = files("ashore.lab.bench").joinpath("corpus.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)


def estimate_tokens(text: str) -> int:
    """Return the estimated number of tokens, without a tokenizer."""
    return round(len(text.split()) * TOKENS_PER_WORD)


def tokenizer_counter(path: Path) -> CountTokens:
    """Return an exact counter from a `tokenizer.json`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count


class PromptMaker:
    """Makes the n-th prompt of a seed."""

    def __init__(self, *, seed: int, count_tokens: CountTokens = estimate_tokens) -> None:
        self._seed = seed
        self._count = count_tokens

    def prompt(self, index: int, num_tokens: int) -> str:
        """Return a user message of about `num_tokens` tokens (exactly, with an exact counter).

        It begins with a unique number, so that prefix caches do not match.
        """
        draw = random.Random(f"{self._seed}/{index}")
        opening = f"{draw.randrange(10_000)} {draw.randrange(10_000)}: tell me more about this."
        return self._fill(opening, draw, num_tokens)

    def system(self, num_tokens: int) -> str:
        """Return a system prompt of about `num_tokens` tokens that every request shares."""
        draw = random.Random(f"{self._seed}/system")
        return self._fill("You are a helpful assistant who knows these notes.", draw, num_tokens)

    def _fill(self, opening: str, draw: random.Random, num_tokens: int) -> str:
        words = opening.split()
        while self._count(" ".join(words)) < num_tokens:
            words += draw.choice(sentences()).split()
        while len(words) > 1 and self._count(" ".join(words)) > num_tokens:
            words.pop()
        while self._count(" ".join(words)) < num_tokens:
            words.append("and")
        return " ".join(words)
