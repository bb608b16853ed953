"""Prefixes on disk, through the host of a real model: they survive `kill -9`, for the tenant that they are of."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from host_in_thread import collect

from ashore.core.clock import SystemClock
from ashore.core.ids import OrderId
from ashore.core.sampling import Sampling
from ashore.data.engines import (
    EngineOptions,
    Finished,
    GenerateOrder,
    HostClient,
    HostLaunch,
    ModelFiles,
    PrefixPlace,
    Token,
    host_process,
)
from ashore.kit.store import ModelStore

pytestmark = pytest.mark.model

PROMPT = [(i * 7919) % 40000 + 100 for i in range(200)]
WHOLE = 192
LONG_S = 120.0
BLOCK_FILE = 30 * 2 * 3 * 32 * 64 * 4 + 36
"""In full precision: 30 layers, keys and values of 3 heads, 32 tokens of 64 numbers; and what encryption adds."""


@pytest.fixture(scope="module")
def launch(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> HostLaunch:
    folder = tmp_path_factory.mktemp("prefixes")
    found = ModelStore(demo_home / "store", folder / "run", SystemClock()).open("smollm2@int8")
    files = ModelFiles(
        name="smollm2@int8",
        digest=found.digest,
        directory=str(found.directory),
        format=found.format,
        weights=found.weights,
    )
    exact = {"full_precision": True}
    return HostLaunch(
        files=files,
        options=EngineOptions(kind="openvino", kv_tokens=4096, extra=exact),
        prefixes=PrefixPlace(folder=str(folder / "kept"), max_bytes=1 << 30),
    )


async def ask(
    client: HostClient, tenant: str, *, prompt: list[int] = PROMPT, kept: bool = True
) -> tuple[list[int], int]:
    """Return the tokens of an answer, and how many of the prompt were found."""
    order = GenerateOrder(
        order_id=OrderId("o"),
        prompt_ids=prompt,
        max_new_tokens=8,
        sampling=Sampling(temperature=0),
        prefix_partition=tenant,
        tenant=tenant,
        kept=kept,
        ignore_eos=True,
    )
    events = await collect(client.generate(order))
    assert isinstance(events[-1], Finished), events[-1]
    return [one.token_id for one in events if isinstance(one, Token)], events[-1].cached_tokens


async def written(client: HostClient, num_blocks: int) -> None:
    """Wait until the host has written so many blocks."""
    end_s = asyncio.get_running_loop().time() + LONG_S
    while (await client.stats()).kept_prefix_bytes < num_blocks * BLOCK_FILE:
        assert asyncio.get_running_loop().time() < end_s, "they are not written"
        await asyncio.sleep(0.05)


def test_a_prompt_is_not_computed_again_after_kill_nine(launch: HostLaunch, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def first(host_client: HostClient) -> list[int]:
        secret, _ = await ask(host_client, "clinic", prompt=PROMPT[::-1], kept=False)
        answer, cached = await ask(host_client, "bank")
        assert (len(secret), cached) == (8, 0)
        await written(host_client, WHOLE // 32)
        return answer

    async def second(host_client: HostClient, answer: list[int]) -> None:
        assert await ask(host_client, "bank") == (answer, WHOLE)
        assert (await host_client.stats()).restored_tokens == WHOLE
        assert await ask(host_client, "clinic") == (answer, 0), "they are another tenant's"
        assert (await ask(host_client, "clinic", prompt=PROMPT[::-1]))[1] == 0, "that request was not to be stored"
        assert (await host_client.stats()).prefix_faults == 0

    async def use(step: int, answer: list[int]) -> list[int]:
        with host_process(launch, log=log) as host:
            client = HostClient(host.socket)
            await host.connect(client)
            if step == 1:
                answer = await first(client)
                os.kill(host.process.pid, signal.SIGKILL)
            else:
                await second(client, answer)
            await client.close()
        return answer

    answer = asyncio.run(use(1, []))
    asyncio.run(use(2, answer))
