"""What a worker without processor time refuses, and how little it looks at first."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from direct import Direct
from memory_replica import MemoryReplica

from ashore.control.faces.table import ROUTES
from ashore.core.clock import SystemClock
from ashore.data.authority import OnBehalf, OpenDoor
from ashore.data.http import HttpApp
from ashore.data.http.app import model_in
from ashore.data.path import AdmissionSection, BytesText, ConcurrencyLimit, ServedModel, ServingService, Topology
from ashore.data.path.concurrency import CALM, LOOK_S, Pulse
from ashore.kit.metrics import Metrics
from ashore.kit.rooms import Rooms

PRESSED = Pulse(0.8, 0.001)
DROWNING = Pulse(1.0, 0.050)


class Said:
    """A meter that says one thing."""

    def __init__(self) -> None:
        self.pulse = CALM

    def take(self) -> Pulse:
        return self.pulse


class Counting(BytesText):
    """Counts what it is asked to make tokens of."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded = 0

    def encode_chat(self, *given: Any, **options: Any) -> list[int]:
        self.encoded += 1
        return super().encode_chat(*given, **options)


class Rig:
    """An application whose loop is said to be as busy as a test wants it."""

    def __init__(self, *, slow: tuple[str, ...]) -> None:
        self.meter, self.now = Said(), 100.0
        self.limit = ConcurrencyLimit(self.meter, clock=lambda: self.now)
        self.metrics, self.text = Metrics(), Counting()
        models = tuple(
            ServedModel(alias=alias, release=f"{alias}-1", kind="fake", sockets=(alias,)) for alias in ("chat", "code")
        )
        topology = Topology(models=models, admission=AdmissionSection(max_running=1, max_waiting=1))
        self.serving = ServingService(
            topology,
            make_replica=lambda socket: MemoryReplica(token_s=30.0 if socket in slow else 0.0),
            load_text=lambda served: self.text,
            check_grammar=lambda grammar: None,
            clock=SystemClock(),
            metrics=self.metrics,
            limit=self.limit,
        )
        self.app = HttpApp(
            self.serving,
            OpenDoor(),
            self.metrics,
            ROUTES,
            limits=topology.limits,
            rooms=Rooms(gives={OnBehalf: OnBehalf("inner")}),
        )

    @property
    def encoded(self) -> int:
        return self.text.encoded

    def say(self, pulse: Pulse) -> None:
        """Have the loop look so at this look and at the one before."""
        self.meter.pulse = pulse
        for _ in range(2):
            self.now += 1.01 * LOOK_S
            self.limit.look()

    async def ask(
        self, model: str, *, text: str = "hello", headers: tuple[tuple[bytes, bytes], ...] = (), **more: object
    ) -> list[str]:
        """Send one chat and return what happened, in order: `body` read, then the status."""
        happened: list[str] = []
        turns = [{"role": "user", "content": text}]
        body = json.dumps({"model": model, "messages": turns, "temperature": 0, **more}).encode()

        async def receive() -> dict[str, Any]:
            if "body" in happened:
                await asyncio.sleep(60)
            happened.append("body")
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if "status" in message:
                happened.append(str(message["status"]))

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "query_string": b"",
            "client": None,
            "headers": [(b"content-length", b"%d" % len(body)), *headers],
        }
        await self.app({**scope, "ashore.direct": Direct(send)}, receive, send)
        return happened


FRESH = ((b"cache-control", b"no-store"),)


@asynccontextmanager
async def rig(*, full: tuple[str, ...] = ()) -> AsyncIterator[Rig]:
    """Run an application; the models in `full` have one request that runs and one that waits."""
    one = Rig(slow=full)
    await one.serving.start()
    while not all(card.ready for card in one.serving.models()):
        await asyncio.sleep(0.001)
    tasks = [asyncio.create_task(one.ask(model, text=f"{at}", headers=FRESH)) for model in full for at in range(2)]
    while not all(one.metrics.value("ashore_waiting_sequences", model) == 1 for model in full):
        await asyncio.sleep(0.001)
        await one.serving.measure()
    one.text.encoded = 0
    yield one
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await one.serving.close()


def refused(one: Rig, model: str, reason: str) -> float:
    return one.metrics.value("ashore_refused", model, reason)


def test_a_worker_that_drowns_refuses_before_it_reads_the_body() -> None:
    async def scenario() -> None:
        async with rig(full=("chat",)) as one:
            one.limit.took(200, "default")
            one.say(DROWNING)
            assert await one.ask("chat") == ["429", "body"]
            assert refused(one, "-", "loop") == 1
            one.say(CALM)
            assert await one.ask("chat", headers=FRESH) == ["body", "429"]  # `code` has room, so it was read

    asyncio.run(scenario())


def test_a_pressed_worker_refuses_unread_what_no_model_has_room_for() -> None:
    async def scenario() -> None:
        async with rig(full=("chat", "code")) as one:
            one.say(PRESSED)
            assert await one.ask("chat", headers=FRESH) == ["429", "body"]
            assert await one.ask("chat") == ["body", "429"]  # it might be a repeated one: looked up, not parsed
            assert refused(one, "-", "loop") == 1
            assert refused(one, "chat", "queue") == 1

    asyncio.run(scenario())


def test_what_no_cache_answers_is_refused_unread_while_no_model_has_room() -> None:
    async def scenario() -> None:
        async with rig(full=("chat", "code")) as one:
            one.say(CALM)
            for headers in (FRESH, ((b"x-ashore-cache", b"off"),)):
                assert await one.ask("chat", headers=headers) == ["429", "body"]
            assert refused(one, "-", "queue") == 2
            for headers in ((), ((b"cache-control", b"no-cache"),), ((b"x-ashore-cache", b"use"),)):
                assert await one.ask("chat", headers=headers) == ["body", "429"], "it may be kept, or be made already"
            assert one.encoded == 0, "nobody is tokenised for nothing"

    asyncio.run(scenario())


def test_a_job_is_read_while_no_model_has_room_and_waits_behind() -> None:
    async def scenario() -> None:
        async with rig(full=("chat", "code")) as one:
            named = ((b"authorization", b"Bearer inner"), (b"x-ashore-on-behalf-of", b"me/mine"))
            job = asyncio.create_task(one.ask("chat", headers=(*FRESH, *named)))
            await asyncio.wait({job}, timeout=0.05)
            assert not job.done() and one.encoded == 1
            job.cancel()
            await asyncio.wait({job})

    asyncio.run(scenario())


def test_a_pressed_worker_reads_the_name_of_the_model_while_one_has_room() -> None:
    async def scenario() -> None:
        async with rig(full=("chat",)) as one:
            one.say(PRESSED)
            assert await one.ask("chat", headers=FRESH) == ["body", "429"]
            assert await one.ask("chat", headers=FRESH, nonsense=1) == ["body", "429"]  # nobody looked at the rest
            assert await one.ask("code", headers=FRESH) == ["body", "200"]
            assert await one.ask("code", headers=FRESH, nonsense=1) == ["body", "400"]
            assert await one.ask("absent", headers=FRESH) == ["body", "404"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"messages": [{"role": "x"}], "model": "chat"}', "chat"),
        (b'{"messages": []}', ""),
        (b'{"model": 5}', ""),
        (b"[1]", ""),
        (b"{", ""),
        (b"\xff\xfe", ""),
        (b'{"model": "a", "x": ' + b"[" * 500_000, ""),
    ],
)
def test_the_model_of_a_body_is_found_without_parsing_the_rest(body: bytes, expected: str) -> None:
    assert model_in(body) == expected
