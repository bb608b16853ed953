"""The card of the fake engine."""

from __future__ import annotations

from typing import Final

from ashore.engines.card import EngineCard, Memory, Options, Tuning, features

CARD: Final = EngineCard(
    kind="fake",
    adapter="ashore.engines.fake.engine:FakeEngine",
    title="the fake",
    what="no real model: fake:echo, fake:random, fake:tools and fake:agent, for load tests and for trying ashore",
    formats=("fake",),
    architectures="none",
    features=features("adapters", "distributions", "embed", "score", "sleep"),
    prefix="fake:",
    files="ashore.engines.fake.files:fake_model_files",
    check_name="ashore.engines.fake.spec:check_name",
    needed_bytes="ashore.engines.fake.spec:needed_bytes",
    options=Options(unused=("max_sequences", "threads")),  # set in its name: fake:echo?sequences=4
    memory=Memory(ours=False),
    tuning=Tuning(candidates="ashore.engines.fake.candidates:candidates"),
)
