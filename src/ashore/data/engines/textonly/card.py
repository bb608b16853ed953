"""The card of the textonly engine."""

from __future__ import annotations

from typing import Final

from ashore.data.engines.card import EngineCard, Memory, Options, Tuning

CARD: Final = EngineCard(
    kind="textonly",
    adapter="ashore.data.engines.textonly.engine:TextOnlyEngine",
    title="a server in chat form",
    what="text only: a server with OpenAI's chat form at an address: MindIE, Ollama, TGI, a hosted API",
    formats=("remote",),
    architectures="what that server supports",
    features=("frequency_penalty", "grammar", "presence_penalty", "seed", "speak", "temperature", "top_p"),
    prefix="chat:",
    files="ashore.data.engines.textonly.engine:chat_model_files",
    check_name="ashore.data.engines.textonly.engine:check_name",
    options=Options(operators=("ca_file", "fleet", "key", "limit_field"), unused=("kv_tokens", "threads")),
    waits_for_turns=False,
    memory=Memory(ours=False),
    tuning=Tuning(why_not="a server elsewhere; measure it at its address with `ashore bench serve`"),
)
