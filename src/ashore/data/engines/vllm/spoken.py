"""The table of dialects that servers speak."""

from __future__ import annotations

from typing import Final

from ashore.core.errors import InvalidSpec
from ashore.core.nearest import did_you_mean
from ashore.data.engines.vllm import generate, llamaserver, trtllm, wire
from ashore.data.engines.vllm.dialects import Dialect

DIALECTS: Final[tuple[Dialect, ...]] = (
    wire.VLLM,
    llamaserver.LLAMA_SERVER,
    generate.SGLANG,
    trtllm.TENSORRT_LLM,
    generate.LMDEPLOY,
)
"""Every dialect, the default first."""


def dialect_named(name: str) -> Dialect:
    """Return a dialect by its name.

    Raises:
        InvalidSpec: there is no such dialect.
    """
    known = {one.name: one for one in DIALECTS}
    if name not in known:
        raise InvalidSpec(f"no server speaks the dialect {name!r}", hint=did_you_mean(name, known))
    return known[name]
