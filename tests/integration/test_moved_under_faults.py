"""Nodes that are killed, stopped and cut off under streams: each answer goes on elsewhere, with the same tokens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from host_in_thread import host_running
from node_lists import nodes_at
from scratch import a_ledger, usages

from ashore.core.chat import Message
from ashore.core.clock import SystemClock
from ashore.core.errors import AshoreError
from ashore.core.ids import RequestId
from ashore.data.authority import OpenDoor
from ashore.data.authority.budgets import BudgetRule, LedgerBudgets
from ashore.data.engines import EngineOptions, HostClient, Sampling
from ashore.data.engines.fake.files import fake_model_files
from ashore.data.engines.vllm.engine import VllmEngine
from ashore.data.path import (
    BytesText,
    ChoiceEnded,
    Delta,
    GenerationRequest,
    Guards,
    ServedModel,
    ServingEvent,
    ServingService,
    Started,
    Topology,
    Usage,
)
from ashore.kit.metrics import Metrics
from ashore.kit.recorder import MemoryRecorder

ANYONE = OpenDoor().authenticate(None)
CAP = 10_000_000
TOKENS = 40
MODEL = f"fake:random?tok_per_s=20&tokens={TOKENS}&context=512"
SUPPORT = Path(__file__).parents[1] / "support"
DOUBLE = f"""
import signal, socket, sys
sys.path.insert(0, {str(SUPPORT)!r})
from vllm_double import VllmDouble
double = VllmDouble({MODEL!r}, port=int(sys.argv[1]))
double.resumes = True
signal.signal(signal.SIGUSR1, lambda *_: [one.shutdown(socket.SHUT_RDWR) for one in list(double._open)])
while True:
    signal.pause()
"""
"""A node in ashore's form, in a process that starts quickly. SIGUSR1 cuts its connections off."""
KINDS: dict[str, dict[str, Any]] = {
    "greedy": {"sampling": Sampling(temperature=0.0)},
    "seed and penalties": {
        "sampling": Sampling(temperature=0.8, seed=7, presence_penalty=0.6, frequency_penalty=0.3),
    },
    "log-probabilities": {"sampling": Sampling(temperature=0.0), "top_logprobs": 2},
    "stop string": {"sampling": Sampling(temperature=0.0), "stop": ("zq",)},
}  # fmt: skip


@dataclass
class Node:
    """One engine node, which can be hurt."""

    words: Callable[[int], list[str]]
    port: int
    env: dict[str, str]
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(self.words(self.port), env=self.env, start_new_session=True)

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def hurt(self, number: int) -> None:
        self.signal(number)
        if number == signal.SIGKILL:
            self.process.wait()

    def heal(self, number: int) -> None:
        self.signal(signal.SIGCONT)
        if number == signal.SIGKILL:
            self.start()


@contextlib.contextmanager
def three_nodes(words: Callable[[int], list[str]], free_port: Callable[[], int], home: Path) -> Iterator[list[Node]]:
    nodes = []
    try:
        for number in range(3):
            (home / str(number)).mkdir(mode=0o700)
            env = {**os.environ, "ASHORE_HOME": str(home / str(number))}
            nodes.append(Node(words, free_port(), env))
        yield nodes
    finally:
        for node in nodes:
            node.signal(signal.SIGKILL)
            node.process.wait()


class Front:
    """The server before the nodes, under a budget."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self.ledger = a_ledger(SystemClock())
        rule = BudgetRule(kind="tokens", window="total", cap=CAP)
        self.budgets = LedgerBudgets(self.ledger, MemoryRecorder(), rules=[rule])

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[ServingService]:
        model = ServedModel(alias="chat", release="chat-1", kind="vllm", sockets=(str(self._socket),))
        service = ServingService(
            Topology(models=(model,)),
            make_replica=lambda path: HostClient(Path(path)),
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=SystemClock(),
            metrics=Metrics(),
            guards=Guards(budgets=self.budgets),
        )
        await service.start()
        assert await service.connected(20)
        try:
            yield service
        finally:
            await service.close()

    async def backends(self) -> list[str]:
        client = HostClient(self._socket)
        await client.connect(10)
        try:
            return [one.state for one in (await client.stats()).backends]
        finally:
            await client.close()

    async def are_ready(self, number: int = 3) -> None:
        while (await self.backends()).count("ready") != number:
            await asyncio.sleep(0.05)


def asked(kind: str, number: int) -> GenerationRequest:
    text = Message(role="user", content=f"story {number}")
    return GenerationRequest(
        request_id=RequestId("r"), model="chat", messages=(text,), max_tokens=TOKENS, **KINDS[kind]
    )  # fmt: skip


async def told(service: ServingService, kind: str, number: int) -> list[ServingEvent]:
    """Return the pieces, as one, and the end and the usage of an answer."""
    events: list[ServingEvent] = []
    await service.answer(asked(kind, number), ANYONE, events.append)
    return events


def seen_of(events: list[ServingEvent]) -> tuple[str, tuple[Any, ...], ChoiceEnded, int, int]:
    """Return what a client sees of a whole answer, wherever its pieces end."""
    pieces = [one for one in events if isinstance(one, Delta)]
    (ended,) = (one for one in events if isinstance(one, ChoiceEnded))
    usage = events[-1]
    assert isinstance(usage, Usage)
    logprobs = tuple(token for one in pieces for token in one.logprobs)
    return "".join(one.text for one in pieces), logprobs, ended, usage.prompt_tokens, usage.completion_tokens


def doubles(port: int) -> list[str]:
    return [sys.executable, "-c", DOUBLE, str(port)]


def engine_nodes(port: int) -> list[str]:
    words = ("engine", "serve", MODEL, "--served-model-name", "the-model", "--port", str(port))
    return [sys.executable, "-m", "ashore.cli.main", *words]


FAULTS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGUSR1)
"""A process is killed; hangs; its connections are cut off."""


@pytest.mark.parametrize(
    ("words", "faults", "streams"),
    [
        pytest.param(doubles, FAULTS, 16, id="3 faults"),
        pytest.param(doubles, (FAULTS * 7)[:20], 32, id="20 faults", marks=pytest.mark.full),
        pytest.param(engine_nodes, FAULTS[:1] * 4, 32, id="4 kills of engine nodes", marks=pytest.mark.full),
    ],
)
def test_no_answer_fails_is_cut_or_changes_while_nodes_are_lost(
    words: Callable[[int], list[str]],
    faults: tuple[int, ...],
    streams: int,
    tmp_path: Path,
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ashore.data.engines.vllm.servers.SILENT_S", 4.0)
    monkeypatch.setattr("ashore.data.engines.vllm.servers.PROBE_S", 0.5)
    (tmp_path / "homes").mkdir()
    (tmp_path / "host").mkdir()
    with three_nodes(words, free_port, tmp_path / "homes") as nodes:
        files = fake_model_files("fake:random?context=512", tmp_path / "files")
        extra = {**nodes_at(*(node.url for node in nodes)), "served_model_name": "the-model", "dialect": "vllm"}
        options = EngineOptions(kind="vllm", context_tokens=512, extra=extra)
        with host_running(tmp_path / "host", VllmEngine(), files, options=options) as socket:
            counts = asyncio.run(asyncio.wait_for(under_faults(Front(socket), nodes, faults, streams), 240))
    print(counts)
    assert counts["failed"] == counts["changed"] == 0 and counts["moved"] >= len(faults) // 2


async def under_faults(front: Front, nodes: list[Node], faults: tuple[int, ...], streams: int) -> dict[str, int]:
    counts = {"answers": 0, "moved": 0, "failed": 0, "changed": 0}
    async with front.serving() as service:
        await front.are_ready()
        every = [(kind, number) for kind in KINDS for number in range(4)]
        whole = await asyncio.gather(*(told(service, *one) for one in every))
        undisturbed = dict(zip(every, map(seen_of, whole), strict=True))
        owed = sum(seen[3] + seen[4] for seen in undisturbed.values())
        over = asyncio.Event()

        rounds = [0] * streams

        async def keep_asking(stream: int) -> None:
            nonlocal owed
            at = stream
            while not over.is_set():
                rounds[stream] += 1
                one = every[at % len(every)]
                at += 7
                counts["answers"] += 1
                try:
                    events = await told(service, *one)
                except AshoreError as fault:
                    print(f"{one}: {fault.code} {fault.message}")
                    counts["failed"] += 1
                    continue
                usage = events[-1]
                assert isinstance(usage, Usage)
                counts["moved"] += bool(usage.moved)
                counts["changed"] += seen_of(events) != undisturbed[one]
                begun = events[0]
                assert isinstance(begun, Started)
                if begun.cache == "miss":  # others wait for the same answer, and pay no tokens
                    owed += usage.prompt_tokens + usage.completion_tokens

        asking = [asyncio.create_task(keep_asking(stream)) for stream in range(streams)]
        for number, fault in enumerate(faults):
            node = nodes[number % len(nodes)]
            before = list(rounds)  # two losses without a token between end an answer, so each waits for new ones
            while any(now == was for now, was in zip(rounds, before, strict=True)):
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)
            node.hurt(fault)
            if fault != signal.SIGUSR1:
                await front.are_ready(2)
            node.heal(fault)
            await front.are_ready()
        over.set()
        await asyncio.gather(*asking)
    charged = sum(one.prompt_tokens + one.completion_tokens for one in usages(front.ledger))
    assert counts["failed"] or charged == owed, "what is made twice is paid once"
    return counts
