"""One tenant's many streams beside another tenant's request, on the request path over the host of a fake engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

from host_in_thread import host_running

from ashore.core.clock import SystemClock
from ashore.core.errors import Overloaded
from ashore.core.ids import RequestId, TenantId
from ashore.data.authority import Principal
from ashore.data.engines import HostClient, Sampling
from ashore.data.engines.fake.engine import FakeEngine
from ashore.data.engines.fake.files import fake_model_files
from ashore.data.path import (
    AdmissionSection,
    BytesText,
    GenerationRequest,
    ServedModel,
    ServingService,
    Topology,
)
from ashore.kit.metrics import Metrics

STREAMS = 40
RUNNING = 8
WAITING = 24


def ask(name: str, *, priority: int = 0) -> GenerationRequest:
    return GenerationRequest(
        request_id=RequestId(name),
        model="echo",
        prompt=f"{name} " * 20,
        sampling=Sampling(temperature=0),
        top_logprobs=20,
        max_tokens=100,
        priority=priority,
    )


def of(tenant: str) -> Principal:
    return Principal(id=f"{tenant}-key", tenant=TenantId(tenant), roles=frozenset(("developer",)))


def test_a_tenant_with_forty_streams_delays_and_refuses_no_other(tmp_path: Path) -> None:
    began: list[str] = []
    refused: list[str] = []
    ended: list[str] = []

    async def scenario(path: Path) -> list[float]:
        model = ServedModel(alias="echo", release="echo-1", kind="fake", sockets=(str(path),))
        serving = ServingService(
            Topology(models=(model,), admission=AdmissionSection(max_waiting=WAITING)),
            make_replica=lambda socket: HostClient(Path(socket)),
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=SystemClock(),
            metrics=Metrics(),
        )
        loop = asyncio.get_running_loop()

        async def stream(tenant: str, name: str, *, priority: int = 0) -> float:
            asked_at, first_at = loop.time(), 0.0
            try:
                async for _ in serving.generate(ask(name, priority=priority), of(tenant)):
                    if not first_at:
                        first_at = loop.time()
                        began.append(tenant)
            except Overloaded:
                refused.append(tenant)
            else:
                ended.append(tenant)
            return first_at - asked_at

        await serving.start()
        try:
            while not all(card.ready for card in serving.models()):
                await asyncio.sleep(0.001)
            bobs = [asyncio.create_task(stream("bob", f"bob {number}", priority=100)) for number in range(STREAMS)]
            while len(began) < RUNNING or len(refused) < STREAMS - RUNNING - WAITING:
                await asyncio.sleep(0.001)
            waits_s = [await stream("alice", f"alice {number}") for number in range(3)]
            await asyncio.gather(*bobs)
            return waits_s
        finally:
            await serving.close()

    files = fake_model_files(f"fake:echo?sequences={RUNNING}&tok_per_s=200", tmp_path / "files")
    with host_running(tmp_path, FakeEngine(), files) as path:
        waits_s = asyncio.run(scenario(path))
    before = began.index("alice") if "alice" in began else len(began)
    print(
        f"alice: first token after {max(waits_s):.2f} s at most, {refused.count('alice')} of 3 refused; "
        f"streams of bob that began before hers: {before} of {began.count('bob')}; {refused.count('bob')} refused"
    )
    assert refused == ["bob"] * (STREAMS - RUNNING - WAITING)
    assert before <= 2 * RUNNING, "eight places are freed at once here, and hers is one of the first"
    assert ended.count("bob") == RUNNING + WAITING
