"""A host of a real model: its weights lie in huge pages, and its threads may run on every processor."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from demo_files import demo_files

from ashore.core.ids import OrderId
from ashore.data.engines import (
    EngineOptions,
    GenerateOrder,
    HostClient,
    HostLaunch,
    HostProcess,
    Sampling,
    host_process,
)
from ashore.kit.processes.hugepages import use_huge_pages

LEAST_KIB = 64 << 10
"""About half of what the weights of the demo model take; 106 to 112 MiB were seen."""


async def answer(host: HostProcess, tokens: int) -> set[frozenset[int]]:
    """Have so many tokens made; return on which processors threads of the host might run meanwhile."""
    client = HostClient(host.socket)
    await host.connect(client)
    order = GenerateOrder(
        order_id=OrderId("1"), prompt_ids=[1, 2, 3, 4], max_new_tokens=tokens, sampling=Sampling(), ignore_eos=True
    )
    seen: set[frozenset[int]] = set()
    async for _ in client.generate(order):
        threads = [int(folder.name) for folder in Path(f"/proc/{host.process.pid}/task").iterdir()]
        seen |= {frozenset(os.sched_getaffinity(thread)) for thread in threads}
    await client.close()
    return seen


@pytest.mark.model
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells how memory and threads lie")
def test_weights_lie_in_huge_pages_and_threads_run_everywhere(demo_home: Path) -> None:
    files = demo_files(demo_home, "smollm2@int8")
    launch = HostLaunch(files=files, options=EngineOptions(kind="openvino", kv_tokens=4096), drain_s=0.0)
    can = use_huge_pages() > 0
    with host_process(launch) as host:
        assert asyncio.run(answer(host, 32)) == {frozenset(os.sched_getaffinity(0))}
        rollup = Path(f"/proc/{host.process.pid}/smaps_rollup").read_text().splitlines()
    huge_kib = next(int(line.split()[1]) for line in rollup if line.startswith("AnonHugePages"))
    assert huge_kib >= LEAST_KIB or not can, f"{huge_kib} KiB"
