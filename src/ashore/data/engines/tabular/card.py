"""The card of heads."""

from __future__ import annotations

from typing import Final

from ashore.core.shapes import HEAD
from ashore.data.engines.card import Choosing, EngineCard, Memory, Options, Tuning

CARD: Final = EngineCard(
    kind="tabular",
    adapter="ashore.data.engines.tabular.engine:TabularEngine",
    title="heads",
    what="scorecards and other linear models on features: POST /v1/heads/NAME/score",
    formats=("safetensors",),
    architectures=HEAD,
    decoders=frozenset({HEAD}),
    features=("head",),
    packages=("numpy",),
    choosing=Choosing(why="a head: a small model on features"),
    options=Options(unused=("context_tokens", "kv_tokens", "max_sequences", "threads")),
    memory=Memory(ours=False),
    tuning=Tuning(why_not="a row takes microseconds; not measured"),
)
