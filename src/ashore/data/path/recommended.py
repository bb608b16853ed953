"""Sampling defaults recommended by a model's makers, used for fields that the client left out: vLLM's
`--generation-config auto`.

A field that the client gave is never changed, `temperature = 1` included. What the engine does not support is left out.
The cache sees the request afterwards: with the temperature that is really used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from ashore.core.sampling import RECOMMENDABLE, number_range
from ashore.data.engines import EngineInfo
from ashore.data.path.model import GenerationRequest


def recommendations(defaults: Mapping[str, object]) -> dict[str, float]:
    """Return the usable values of the `defaults` of a `generation.json`; invalid ones are skipped."""
    usable: dict[str, float] = {}
    for name in RECOMMENDABLE:
        value, bounds = defaults.get(name), number_range(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            continue
        if name == "top_p" and value == 0:
            continue  # no maker means greedy sampling by it
        if bounds is not None and bounds[0] <= value <= bounds[1]:
            usable[name] = int(value) if name == "top_k" else float(value)
    return usable


def with_recommended(
    request: GenerationRequest, recommended: Mapping[str, float], info: EngineInfo
) -> GenerationRequest:
    """Return the request with the model's recommendations for fields that the client left out."""
    values = {
        name: value
        for name, value in recommended.items()
        if name in request.left_out and (name in info.features or (name == "temperature" and value == 0))
    }
    if not values:
        return request
    sampling = msgspec.structs.replace(request.sampling, **values)
    return msgspec.structs.replace(request, sampling=sampling, left_out=request.left_out - values.keys())
