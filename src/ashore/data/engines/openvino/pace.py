"""Chooses prompt tokens per step from measured step times on this machine, and the sizes of steps.

The plugin prepares its kernels for each number of tokens that it sees for the first time, and keeps them. On two cores
of Zen 4 that costs the demo model 5 ms for a few tokens, 10 for a hundred and 16 for three hundred; so steps have few
sizes. A step with a few tokens more than a multiple of 64 costs as much as one with 30 more: 128 tokens 55 ms, 129
65, 160 73, 192 80, 193 98.
"""

from __future__ import annotations

import time

import numpy as np

from ashore.data.engines.openvino.graph import BLOCK_TOKENS, make_batch
from ashore.data.engines.openvino.paired import PairedModel
from ashore.data.engines.sampling.lookup import StepCost

_SMALLEST_BUDGET = 32
"""Fewer tokens than this cost nearly the same time: the weights are read once anyway."""
_WHOLE = 64
"""Steps that are cut short have a multiple of this many tokens."""
_EXACT = 16
"""Steps of so few tokens, of sequences that generate as a rule, are computed as they are. Larger ones have multiples of
8, and of 16 above `_WHOLE`: a token that is filled up costs 0.4 ms there, a size that was never seen twenty times as
much."""
_LEARNING_RATE = 0.2
_MEASURED_FROM = 24
"""Fewer than the smallest budget leaves to prompts: what fell to it, while something else had the processors, has to
learn from its own steps that they are quick again."""
_MEASURED_CONTEXT = 1024
"""What sequences cost besides their context is small from here on."""
_WARM_UP_TOKENS = 128
_WARM_UP_S = 1.0
"""A step of that many tokens that takes longer is left to the first prompts: a model of 7B took 4 s for each."""


class Pace:
    """Turns a limit on step time into a number of tokens."""

    def __init__(self, *, max_batch_tokens: int, max_stall_s: float, max_prompt_step_s: float) -> None:
        self.max_batch_tokens = max_batch_tokens
        self._max_stall_s = max_stall_s
        self._max_prompt_step_s = max_prompt_step_s
        self._seconds_per_token = 0.0
        self._seconds_per_context_token = 0.0
        self.single_s = 0.0
        """Time of a step with one token, as measured by `warm_up`."""
        self.step_cost = StepCost()

    @property
    def seconds_per_token(self) -> float:
        """Seconds per token in steps with many prompt tokens; 0 before `warm_up`."""
        return self._seconds_per_token

    def budget(self, *, decoding: int, stalls: float = 0.0) -> int:
        """Return the limit of prompt tokens for the next step; lower while others wait for it.

        Args:
            decoding: Number of generating sequences, each with one token in the step.
            stalls: Longest stalls that the step may take, because others may wait for it; 0: one if any generates.
        """
        if not self._seconds_per_token:
            return self.max_batch_tokens
        stalls = stalls or float(decoding > 0)
        seconds = stalls * self._max_stall_s if stalls else self._max_prompt_step_s
        tokens = min(self.max_batch_tokens, int(seconds / self._seconds_per_token))
        if tokens > _WHOLE:
            tokens -= tokens % _WHOLE
        return max(min(_SMALLEST_BUDGET, self.max_batch_tokens), tokens - decoding)

    def context_budget(self, *, stalls: float) -> int | None:
        """Return the limit of tokens that the next tokens of one tenant are computed from; None: no limit is known."""
        known = self._seconds_per_context_token
        return int(stalls * self._max_stall_s / known) if stalls and known else None

    def note(self, *, num_sequences: int, num_tokens: int, seconds: float, num_context: int = 0) -> None:
        """Learn from a step. `num_context`: tokens before those of the step."""
        if num_tokens - num_sequences >= _MEASURED_FROM:
            self._seconds_per_token = _learned(self._seconds_per_token, seconds / num_tokens)
            return
        self.step_cost.note(num_tokens, seconds)
        if num_context > num_sequences * _MEASURED_CONTEXT:
            more_s = max(0.0, seconds - self.single_s)
            self._seconds_per_context_token = _learned(self._seconds_per_context_token, more_s / num_context)

    def warm_up(self, model: PairedModel, *, vocab_size: int, num_blocks: int) -> None:
        """Run the model until its kernels exist, and take the first measurement."""
        ids = [(i * 7919) % vocab_size for i in range(min(_WARM_UP_TOKENS, num_blocks * BLOCK_TOKENS))]
        table = np.arange(-(-len(ids) // BLOCK_TOKENS), dtype=np.int32)

        def seconds(end: int) -> float:
            begun_s = time.perf_counter()
            model.start(make_batch([(ids, 0, end, table, len(table))], [end - 1]))
            model.wait()
            return time.perf_counter() - begun_s

        block = min(BLOCK_TOKENS, len(ids))
        seconds(block)  # weights are laid out for the processor in the first step
        readings = [(seconds(1), seconds(block)) for _ in range(3)]
        self.single_s = min(single for single, _ in readings)
        small_s = min(small for _, small in readings)
        self._seconds_per_token = small_s / block
        if self._seconds_per_token * len(ids) <= _WARM_UP_S:
            self._seconds_per_token = min(self._seconds_per_token, *(seconds(len(ids)) / len(ids) for _ in range(2)))
        self.step_cost.begin((small_s / self.single_s - 1) / max(1, block - 1))


def _learned(known: float, seen: float) -> float:
    return known + _LEARNING_RATE * (min(seen, 2 * known) - known) if known else seen


def usual_size(num_tokens: int) -> int:
    """Return a padded size for `num_tokens`, so that kernels are prepared for few sizes."""
    if num_tokens <= _EXACT:
        return num_tokens
    stride = 8 if num_tokens <= _WHOLE else 16
    return -(-num_tokens // stride) * stride
