"""Conversations over real hosts: every turn goes to the host that has the turns before, also from two workers."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator

import pytest

from ashore.core.chat import Message
from ashore.core.clock import SystemClock
from ashore.core.ids import RequestId, TenantId
from ashore.data.authority import Principal
from ashore.data.engines import EngineOptions, HostClient, HostLaunch, Sampling, host_command
from ashore.data.engines.fake.files import fake_model_files
from ashore.data.path import BytesText, Delta, GenerationRequest, ServedModel, ServingService, Topology, Usage
from ashore.kit.metrics import Metrics
from ashore.kit.processes.launchfiles import write_launch

ALICE = Principal(id="alice", tenant=TenantId("acme"), roles=frozenset({"developer"}))
TURNS, TALKS = 5, 8
QUESTION = "Tell me a little more about that, please, and be as kind as you were before. "


@pytest.fixture(scope="module")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    found, processes = [], []
    for number in range(3):
        folder = tmp_path_factory.mktemp(f"host{number}")
        launch = HostLaunch(files=fake_model_files("fake:echo", folder / "files"), options=EngineOptions(kind="fake"))
        write_launch(launch, folder / "launch.json")
        command = host_command(folder / "h.sock", folder / "launch.json")
        processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        found.append(str(folder / "h.sock"))
    yield tuple(found)
    for process in processes:
        process.kill()
        process.wait()


def worker(sockets: tuple[str, ...]) -> tuple[ServingService, Metrics]:
    metrics = Metrics()
    served = ServedModel(alias="chat", release="chat-1", kind="fake", sockets=sockets)
    service = ServingService(
        Topology(models=(served,)),
        make_replica=HostClient,
        load_text=lambda served: BytesText(),
        check_grammar=lambda grammar: None,
        clock=SystemClock(),
        metrics=metrics,
    )
    return service, metrics


async def talk(workers: list[ServingService], number: int) -> int:
    """Hold a conversation, each turn at another worker; return the cached tokens of its turns but the first."""
    messages, cached = [Message(role="system", content=f"You are assistant number {number}.")], 0
    for turn in range(TURNS):
        messages.append(Message(role="user", content=f"{QUESTION}{number} {turn}"))
        request = GenerationRequest(
            request_id=RequestId(f"r{number}.{turn}"), model="chat", messages=tuple(messages), max_tokens=64,
            sampling=Sampling(temperature=0.0),
        )  # fmt: skip
        events = [event async for event in workers[turn % len(workers)].generate(request, ALICE)]
        usage = events[-1]
        assert isinstance(usage, Usage)
        cached += usage.cached_tokens if turn else 0
        messages.append(Message(role="assistant", content="".join(e.text for e in events if isinstance(e, Delta))))
    return cached


def test_every_turn_finds_the_turns_before_it_whichever_worker_asks(sockets: tuple[str, ...]) -> None:
    async def scenario() -> None:
        made = [worker(sockets), worker(sockets)]
        services = [service for service, _ in made]
        try:
            for service in services:
                await service.start()
            for service in services:
                while len(await service.host_stats()) < len(sockets):
                    await asyncio.sleep(0.05)
            cached = [await talk(services, number) for number in range(TALKS)]
            hosts = list((await services[0].host_stats()).values())
        finally:
            for service in services:
                await service.close()
        assert min(cached) > 0.8 * max(cached) > 0, f"a conversation changed its host: {cached}"
        assert sum(one.prompt_tokens > 0 for one in hosts) >= 2, "conversations are spread"
        firsts = [metrics.value("ashore_openings", "chat", "first") for _, metrics in made]
        assert sum(firsts) == TALKS * TURNS and all(firsts)

    asyncio.run(asyncio.wait_for(scenario(), 60))
