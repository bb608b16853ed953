"""Synthetic traces of the shapes of published ones."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ashore.data.dispatch import Request


@dataclass(frozen=True, slots=True)
class Shape:
    """Arrivals of a Gamma process, lengths log-normal. Sources beside each."""

    prompt_median: float
    prompt_sigma: float
    output_median: float
    output_sigma: float
    variation: float
    """Coefficient of variation of the time between two arrivals; 1: Poisson."""
    wave: float
    """Share by which the rate swings."""


SHAPES: Final[Mapping[str, Shape]] = {
    "azure-conversation": Shape(1020, 0.9, 129, 0.9, 1.4, 0.3),
    "azure-code": Shape(1500, 1.0, 13, 1.0, 2.0, 0.3),
    "burstgpt": Shape(470, 1.1, 230, 0.9, 2.5, 0.6),
    "chat": Shape(200, 0.8, 180, 0.7, 1.0, 0.5),
}
"""Medians of Azure's: Splitwise (Patel et al., ISCA 2024), section 3. BurstGPT's: a look at its published sample; its
arrivals are bursty (Wang et al., arXiv 2401.17644). Spreads and waves are ours, in their proportion."""
WAVE_S: Final = 240.0


def synthesise(
    shape: Shape, *, number: int, rate_per_s: float, deadline_s: float, per_token_s: float = 0.0, seed: int = 0
) -> list[Request]:
    """Return a synthetic trace of a shape; the same for the same seed."""
    source = random.Random(seed)
    order = 1 / shape.variation**2
    now_s, made = 0.0, []
    for at in range(number):
        rate = rate_per_s * (1 + shape.wave * math.sin(2 * math.pi * now_s / WAVE_S))
        now_s += source.gammavariate(order, 1 / (order * rate))
        prompt = max(1, round(shape.prompt_median * math.exp(source.gauss(0, shape.prompt_sigma))))
        output = max(1, round(shape.output_median * math.exp(source.gauss(0, shape.output_sigma))))
        due_s = now_s + deadline_s * source.uniform(0.5, 1.5) + per_token_s * output
        made.append(
            Request(
                number=at,
                arrival_s=now_s,
                prompt_tokens=min(prompt, 32_000),
                output_tokens=min(output, 4_000),
                deadline_s=due_s,
            )
        )
    return made
