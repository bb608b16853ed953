"""Asks the engine hosts of a release directly: a new version is tried before any user sees it, and without a key."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashore.core.errors import AshoreError, NotReady
from ashore.core.ids import OrderId
from ashore.core.sampling import Sampling
from ashore.data.engines import Failed, Finished, GenerateOrder, HostClient, ScoreText, Token
from ashore.data.path import ServedModel, read_topology
from ashore.data.text import TextModel

TEXT: Final = (
    "The office opens at nine in the morning. Please send the form to the second window, and keep the copy. "
    "北京是中国的首都，上海是中国最大的城市。"
)
"""Plain sentences; only how likely a model finds them, beside the former one, counts."""
TOKENS: Final = 8
CONNECT_S: Final = 5.0
ANSWER_S: Final = 120.0
MUCH_WORSE: Final = 0.7
"""Nats a byte: a model that was broken on the way is some two above the former one, a fine-tuned one within 0.1."""


@dataclass(frozen=True, slots=True)
class HostProbe:
    """Implements `Probe` over the hosts of the topology."""

    topology: Path

    def __call__(self, release: str, beside: str) -> str:
        served = {one.release: one for one in self._served()}
        if release not in served or not served[release].sockets:
            raise NotReady(f"{release} has no engine host yet", hint="it is loaded; the site tries again by itself")
        return asyncio.run(_compare(served[release], served.get(beside)))

    def answers(self, release: str) -> bool:
        """Return whether a host of a release greets."""
        return asyncio.run(_greets([one for one in self._served() if one.release == release]))

    def _served(self) -> list[ServedModel]:
        topology = read_topology(self.topology)
        return [*topology.models, *topology.beside]


async def _compare(new: ServedModel, former: ServedModel | None) -> str:
    try:
        async with asyncio.timeout(ANSWER_S):
            wrong, nats = await _ask(new)
    except TimeoutError:
        return f"it gave no {TOKENS} tokens within {ANSWER_S:g} s"
    if wrong or nats is None or former is None or not former.sockets:
        return wrong
    try:
        async with asyncio.timeout(ANSWER_S):
            _, before = await _ask(former)
    except (TimeoutError, AshoreError):
        return ""  # there is nothing to compare with
    if before is not None and nats > before + MUCH_WORSE:
        return (
            f"it finds plain sentences much less likely than the former one: {nats:.2f} nats a byte, not {before:.2f}"
        )
    return ""


async def _ask(served: ServedModel) -> tuple[str, float | None]:
    """Return what is wrong with a greedy answer, and the nats a byte of `TEXT`; None if the engine tells none."""
    client = HostClient(served.sockets[0])
    try:
        await client.connect(CONNECT_S)
        info = client.info
        text = TextModel.load(Path(served.text_dir)) if served.text_dir else None
        ids = (text.encode(TEXT) if text is not None else [*TEXT.encode()])[: info.context_tokens // 2]
        if info.embedding_size:
            (vector,) = await client.embed([ids])
            return ("" if all(map(math.isfinite, vector)) and any(vector) else "its vectors are not numbers"), None
        order = GenerateOrder(
            order_id=OrderId("site-probe"), prompt_ids=ids, max_new_tokens=TOKENS, sampling=Sampling(temperature=0.0),
            ignore_eos=True, top_logprobs=0 if "logprobs" in info.features else None,
        )  # fmt: skip
        tokens = []
        async with aclosing(client.generate(order)) as events:
            async for event in events:
                if isinstance(event, Failed):
                    return f"it failed: {event.message}", None
                if isinstance(event, Token):
                    tokens.append(event)
                elif isinstance(event, Finished):
                    break
        if not tokens:
            return "it gave no token", None
        if not all(math.isfinite(one.logprob) for one in tokens if one.logprob is not None):
            return "its probabilities are not numbers", None
        if "score" not in info.features or len(ids) < 2:
            return "", None
        (scored,) = await client.score([ScoreText(ids)])
        nats = -sum(row[0].logprob for row in scored) / max(1, len(TEXT.encode()))
        return ("" if math.isfinite(nats) else "its probabilities are not numbers"), nats
    except NotReady:
        raise
    except AshoreError as fault:
        return f"it failed: {fault.message}", None
    finally:
        await client.close()


async def _greets(served: list[ServedModel]) -> bool:
    for socket in (one for model in served for one in model.sockets):
        client = HostClient(socket)
        try:
            await client.connect(CONNECT_S)
            return True
        except AshoreError:
            continue
        finally:
            await client.close()
    return False
