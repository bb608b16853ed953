"""What a model's makers recommend for sampling, put where a client said nothing: vLLM's `--generation-config auto`.

A field that the client gave is never touched, `temperature = 1` included. What the engine cannot do is left out: nobody
asked for it. The cache looks at the request as it is afterwards: at the temperature that is really used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from ashore.engines import EngineInfo
from ashore.serving.model import GenerationRequest

RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0.0, 2.0),
    "top_p": (1e-6, 1.0),
    "top_k": (0, 1_000_000),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (1e-3, 10.0),
}
"""Fields that are recommended, and what an API would take; a file may hold anything."""


def left_out(**given: object) -> frozenset[str]:
    """Return the recommendable fields that a client did not give: those that are None, or not among `given`."""
    return frozenset(name for name in RANGES if given.get(name) is None)


def recommendations(defaults: Mapping[str, object]) -> dict[str, float]:
    """Return what can be used of the `defaults` of a `generation.json`; nonsense is passed over."""
    usable: dict[str, float] = {}
    for name, (low, high) in RANGES.items():
        value = defaults.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            continue
        if low <= value <= high:
            usable[name] = int(value) if name == "top_k" else float(value)
    return usable


def with_recommended(
    request: GenerationRequest, recommended: Mapping[str, float], info: EngineInfo
) -> GenerationRequest:
    """Return the request with the model's recommendations where the client said nothing."""
    values = {
        name: value
        for name, value in recommended.items()
        if name in request.left_out and (name in info.features or (name == "temperature" and value == 0))
    }
    if not values:
        return request
    sampling = msgspec.structs.replace(request.sampling, **values)
    return msgspec.structs.replace(request, sampling=sampling, left_out=request.left_out - values.keys())
