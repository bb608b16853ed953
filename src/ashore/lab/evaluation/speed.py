"""Speed of a model on this machine: first token, gaps between tokens, many streams, prompts, memory.

Prompts are random tokens, no two alike, so that no prefix cache helps; answers go on past their end, so that all are
equally long. The first round is not counted: it warms the engine up.
"""

from __future__ import annotations

import random
import time
from typing import Final

import msgspec
import numpy as np

from ashore.lab.evaluation.ports import Generated, Subject, Told, untold

SHORT_PROMPT: Final = 32
LONG_PROMPT: Final = 512
NEW_TOKENS: Final = 48
STREAMS: Final = 16
ROUNDS: Final = 3


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Medians over rounds; latencies over all tokens of them."""

    ttft_ms_p50: float
    ttft_ms_p95: float
    """From the order to the first token, prompts of 32 tokens, one stream."""
    inter_token_ms_p50: float
    inter_token_ms_p95: float
    one_tok_per_s: float
    """New tokens of one stream."""
    many_tok_per_s: float
    many_streams: int
    prefill_tok_per_s: float
    """Prompt tokens of one prompt of 512."""
    resident_bytes: int
    """Of the engine's process, afterwards."""


def measure_speed(subject: Subject, *, rounds: int = ROUNDS, seed: int = 0, told: Told = untold) -> Speed:
    """Return the speed of `subject` on this machine, now. Takes some seconds on two cores with a small model.

    Raises:
        AshoreError: an answer failed.
    """
    draw = random.Random(seed)
    room = subject.info.context_tokens
    short, new = min(SHORT_PROMPT, room // 4), min(NEW_TOKENS, room // 2)
    long = min(LONG_PROMPT, room - 1)
    streams = min(STREAMS, subject.info.max_sequences)

    def ask(count: int, prompt: int, tokens: int) -> tuple[list[Generated], float]:
        prompts = [_random_prompt(draw, subject.info.vocab_size, prompt) for _ in range(count)]
        start_s = time.perf_counter()
        return subject.generate(prompts, max_new_tokens=tokens, ignore_eos=True), time.perf_counter() - start_s

    firsts, gaps = [], []
    one, many, prefill = [], [], []
    for number in range(rounds + 1):
        [single], single_s = ask(1, short, new)
        both, both_s = ask(streams, short, new)
        [prompt], _ = ask(1, long, 1)
        told(number + 1, rounds + 1)
        if number == 0:
            continue
        firsts.append(single.token_s[0])
        gaps += list(np.diff(single.token_s))
        one.append(len(single.ids) / single_s)
        many.append(sum(len(answer.ids) for answer in both) / both_s)
        prefill.append(long / prompt.token_s[0])
        firsts += [ask(1, short, 1)[0][0].token_s[0] for _ in range(3)]
    return Speed(
        ttft_ms_p50=1e3 * float(np.quantile(firsts, 0.5)),
        ttft_ms_p95=1e3 * float(np.quantile(firsts, 0.95)),
        inter_token_ms_p50=1e3 * float(np.quantile(gaps or [0.0], 0.5)),
        inter_token_ms_p95=1e3 * float(np.quantile(gaps or [0.0], 0.95)),
        one_tok_per_s=float(np.median(one)),
        many_tok_per_s=float(np.median(many)),
        many_streams=streams,
        prefill_tok_per_s=float(np.median(prefill)),
        resident_bytes=subject.resident_bytes(),
    )


def _random_prompt(draw: random.Random, vocab_size: int, tokens: int) -> list[int]:
    low = min(1000, vocab_size // 2)  # the first ids are special tokens and single bytes
    return [draw.randrange(low, vocab_size) for _ in range(tokens)]
