"""Sampling parameters: every field once, with its range, its neutral value and the source of recommendations.

A new field is one line in `SamplingIn`, one in `Sampling`, and the arithmetic in `engines/sampling`. Parsing, range
checks, features, recommendations and the address of a cached answer follow from these two structs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Final, get_args, get_type_hints

import msgspec
from msgspec import Meta

MOST_BIASES: Final = 1024
MOST_TOP_K: Final = 1_000_000
MOST_MIN_TOKENS: Final = 1_000_000
HIGHEST_BIAS: Final = 100.0
"""Either way."""

Bias = Annotated[float, Meta(ge=-HIGHEST_BIAS, le=HIGHEST_BIAS)]
Penalty = Annotated[float, Meta(ge=-2.0, le=2.0)]
Temperature = Annotated[float, Meta(ge=0.0, le=2.0)]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """Sampling for an engine. The defaults change nothing; `temperature=0` is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0 means off."""
    min_p: float = 0.0
    presence_penalty: float = 0.0
    """Counts output tokens only, as OpenAI does."""
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    """Counts prompt and output, as Hugging Face does; 1 is off."""
    logit_bias: dict[int, float] = {}
    seed: int | None = None
    """None: the engine draws one."""
    min_tokens: int = 0
    """Tokens before which no stop token is drawn."""


class SamplingIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sampling fields of a request, with the range of each. None: not given."""

    temperature: Temperature | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Meta(ge=-1, le=MOST_TOP_K)] | None = None
    min_p: Probability | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(ge=1e-3, le=10.0)] | None = None
    logit_bias: Annotated[dict[str, Bias], Meta(max_length=MOST_BIASES)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=MOST_MIN_TOKENS)] | None = None


NEUTRAL: Final = Sampling()
SAMPLING_FIELDS: Final = Sampling.__struct_fields__
"""Each is also the name of what an engine must be able to do to take it."""
NOT_RECOMMENDED: Final = frozenset(("presence_penalty", "frequency_penalty", "logit_bias", "seed", "min_tokens"))
"""Fields that a model's makers have no say in: they belong to the request."""
RECOMMENDABLE: Final = tuple(name for name in SAMPLING_FIELDS if name not in NOT_RECOMMENDED)


def sampling_of(request: object, *, logit_bias: Mapping[int, float] | None = None) -> Sampling:
    """Return the sampling of `request`: its attributes with the names of our fields; None: not given.

    Args:
        logit_bias: By token id, if the request writes ids in another form.
    """
    given: dict[str, Any] = {
        name: value for name in SAMPLING_FIELDS if (value := getattr(request, name, None)) is not None
    }
    given["logit_bias"] = dict(logit_bias or {})
    if given.get("top_k", 0) < 0:
        given["top_k"] = NEUTRAL.top_k
    return Sampling(**given)


def left_out(request: object) -> frozenset[str]:
    """Return the recommendable fields that `request` leaves out."""
    return frozenset(name for name in RECOMMENDABLE if getattr(request, name, None) is None)


def changed_fields(sampling: Sampling) -> Iterator[str]:
    """Yield the fields that are not at their neutral value."""
    for name in SAMPLING_FIELDS:
        if getattr(sampling, name) != getattr(NEUTRAL, name):
            yield name


@cache
def number_range(name: str) -> tuple[float, float] | None:
    """Return the bounds of a numeric field; None for others and for the seed."""
    if name == "seed":
        return None
    hint = get_type_hints(SamplingIn, include_extras=True)[name]
    annotated = next(one for one in get_args(hint) if one is not type(None))
    kind, meta = get_args(annotated)[0], get_args(annotated)[1]
    if kind not in (int, float):
        return None
    return (NEUTRAL.top_k if name == "top_k" else meta.ge), meta.le
