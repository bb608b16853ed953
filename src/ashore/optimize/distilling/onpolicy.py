"""Learning from one's own mistakes: the student answers, the teacher says what it would have expected at each token.

Source: Agarwal and others, "On-Policy Distillation of Language Models" (GKD), section 3.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from ashore.engines import torch_libraries
from ashore.training import Batch, make_corpus

_PLAIN: Final = "sdpa"
"""Attention that knows a cache of earlier tokens; that of training does not."""


class OnPolicyBatches:
    """A `training.BatchSource` whose answers the student makes as it is at that step.

    What is drawn comes from torch's generator, whose state every checkpoint has: a run that was killed makes the same
    answers again. So each step may be asked for once only, in order.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        batch_tokens: int,
        answer_tokens: int,
        temperature: float,
        stop_ids: Sequence[int],
        seed: int,
    ) -> None:
        """Plan the run.

        Args:
            model: The student.
            prompts: Token ids of each; every one has at least one.
            max_tokens: Of the whole run, counting each answer as long as it may become.
            batch_tokens: Of one step, counted in the same way.
            answer_tokens: Most tokens of an answer.
            temperature: Of the drawing; 0 takes the likeliest token.
            stop_ids: Tokens that end an answer.
            seed: Of the order of the prompts.
        """
        self._model, self._prompts, self._seed = model, [list(p) for p in prompts], seed
        self._answer_tokens, self._temperature, self._stop_ids = answer_tokens, temperature, list(stop_ids)
        longest = max(len(p) for p in prompts) + answer_tokens
        self._at_once = max(1, batch_tokens // longest)
        self._num_steps = max(1, max_tokens // (self._at_once * longest))

    @property
    def num_steps(self) -> int:
        return self._num_steps

    def batches(self, step: int) -> tuple[Batch, ...]:
        """See `BatchSource`. The targets are the student's own answers."""
        prompts = [self._prompts[i] for i in self._chosen(step)]
        examples = []
        for prompt, answer in zip(prompts, self._answers(prompts), strict=True):
            examples.append((prompt + answer, [False] * len(prompt) + [True] * len(answer)))
        corpus = make_corpus(examples)
        return (corpus.batch(tuple(range(len(examples)))),)

    def _chosen(self, step: int) -> list[int]:
        """Return the prompts of a step: all of them in a new order, again and again."""
        chosen = []
        for place in range(step * self._at_once, (step + 1) * self._at_once):
            round_, at = divmod(place, len(self._prompts))
            order = np.random.Generator(np.random.PCG64([self._seed, round_])).permutation(len(self._prompts))
            chosen.append(int(order[at]))
        return chosen

    def _answers(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """Return an answer to each prompt, with the token that ends it."""
        torch, _ = torch_libraries()
        width = max(map(len, prompts))
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        made: list[list[int]] = [[] for _ in prompts]
        going = list(range(len(prompts)))
        known = inspect.signature(self._model.forward).parameters
        cache_name = "cache" if "cache" in known else "past_key_values"  # as transformers before 5.24 calls it
        with torch.inference_mode(), _as_served(self._model):
            cache, new = None, ids
            for _ in range(self._answer_tokens):
                positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, -new.shape[1] :]
                out = self._model(
                    input_ids=new, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1,
                    **{cache_name: cache},
                )  # fmt: skip
                cache = out[cache_name]
                new = self._drawn(out.logits[:, -1].float())
                for row in list(going):
                    made[row].append(int(new[row, 0]))
                    if made[row][-1] in self._stop_ids:
                        going.remove(row)
                if not going:
                    break
                mask = torch.cat([mask, torch.ones(len(prompts), 1, dtype=mask.dtype)], dim=1)
        return made

    def _drawn(self, logits_BV: Any) -> Any:
        torch, _ = torch_libraries()
        if self._temperature == 0:
            return logits_BV.argmax(-1, keepdim=True)
        return torch.multinomial(torch.softmax(logits_BV / self._temperature, dim=-1), 1)


@contextmanager
def _as_served(model: Any) -> Iterator[None]:
    """Let a model that is being trained generate: with a cache, nothing dropped out, and its attention changed back."""
    before, training = model.config._attn_implementation, model.training
    model.set_attn_implementation(_PLAIN)
    model.eval()
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        model.train(training)
