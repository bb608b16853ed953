"""Texts to vectors: tokenise, fit, run, shorten."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ashore.engines import EngineInfo
from ashore.errors import ContextTooLong, InvalidRequest, UnsupportedByEngine
from ashore.serving.orders import check_prompt_ids
from ashore.serving.ports import ServedText
from ashore.serving.prompt import INLINE_CHARS


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """Vectors in the order of the inputs, each of length one."""

    model: str
    release: str
    precision: str
    vectors: list[list[float]]
    prompt_tokens: int


def check_embeds(alias: str, info: EngineInfo, dimensions: int | None) -> None:
    """Return when the model embeds, into that many dimensions.

    Raises:
        UnsupportedByEngine: it does not.
    """
    if "embed" not in info.features:
        raise UnsupportedByEngine(
            f"the engine {info.kind!r} behind {alias!r} makes no embeddings; "
            f"it can do: {', '.join(info.features) or 'none'}",
            hint="name an embedder, such as one of /v1/models with embedding_size above 0",
            param="model",
        )
    if dimensions is not None and not 1 <= dimensions <= info.embedding_size:
        raise UnsupportedByEngine(
            f"dimensions is {dimensions}; {alias!r} makes vectors of {info.embedding_size} numbers",
            hint=f"ask for 1 to {info.embedding_size}",
            param="dimensions",
        )


async def encode_inputs(inputs: Sequence[str | Sequence[int]], text: ServedText, info: EngineInfo) -> list[list[int]]:
    """Return the tokens of every input.

    Raises:
        ContextTooLong: one is longer than the model takes.
        InvalidRequest: one is empty.
    """
    if sum(len(one) for one in inputs) > INLINE_CHARS:
        batch = await asyncio.to_thread(_encode, inputs, text, info)
    else:
        batch = _encode(inputs, text, info)
    for at, ids in enumerate(batch):
        if not ids:
            raise InvalidRequest("an input is empty", param=f"input[{at}]")
        if len(ids) > info.context_tokens:
            raise ContextTooLong(
                f"input {at} has {len(ids)} tokens and {info.model} takes {info.context_tokens}",
                hint="split the text",
                param=f"input[{at}]",
            )
    return batch


def shorten(vector: list[float], dimensions: int | None) -> list[float]:
    """Return the first `dimensions` numbers, brought back to length one (Matryoshka form)."""
    if dimensions is None or dimensions >= len(vector):
        return vector
    head = vector[:dimensions]
    length = math.sqrt(math.fsum(x * x for x in head))
    return [x / length for x in head] if length else head


def _encode(inputs: Sequence[str | Sequence[int]], text: ServedText, info: EngineInfo) -> list[list[int]]:
    batch = []
    for one in inputs:
        if isinstance(one, str):
            batch.append(text.encode(one))
        else:
            check_prompt_ids(one, info)
            batch.append(list(one))
    return batch
