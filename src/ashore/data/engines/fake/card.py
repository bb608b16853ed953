"""The card of the fake engine."""

from __future__ import annotations

from typing import Final

from ashore.data.engines.card import EngineCard, Memory, Options, Tuning, features

CARD: Final = EngineCard(
    kind="fake",
    adapter="ashore.data.engines.fake.engine:FakeEngine",
    title="the fake",
    what="no real model: fake:echo, fake:random, fake:tools and fake:agent, for load tests and for trying ashore",
    formats=("fake",),
    architectures="none",
    features=features("adapters", "distributions", "embed", "score", "sleep"),
    prefix="fake:",
    files="ashore.data.engines.fake.files:fake_model_files",
    check_name="ashore.data.engines.fake.spec:check_name",
    needed_bytes="ashore.data.engines.fake.spec:needed_bytes",
    options=Options(unused=("max_sequences", "threads")),  # set in its name: fake:echo?sequences=4
    memory=Memory(ours=False),
    tuning=Tuning(candidates="ashore.data.engines.fake.candidates:candidates"),
)
