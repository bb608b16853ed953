"""A million questions of other tenants, made to look as much like a kept one as can be: none may get its answer.

The whole HTTP application is called in this process, on a replica whose answers name the tenant that they were made
for. So what is judged is what a client reads, whatever the headers claim.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.front.cached import CHAT, Effort
from benchmarks.front.load import Tools
from benchmarks.row import Row
from tests.support.direct import Direct
from tests.support.memory_replica import MemoryReplica

from ashore.control.faces.table import ROUTES
from ashore.core.clock import SystemClock
from ashore.core.errors import Unauthenticated
from ashore.core.ids import TenantId
from ashore.data.authority import Principal
from ashore.data.cache import AnswerCache, CachePolicy, FixedEpochs
from ashore.data.engines import CancelOrder, EngineEvent, Finished, GenerateOrder, OrderHearer, Token
from ashore.data.http import HttpApp
from ashore.data.path import BytesText, Limits, ServedModel, ServingService, Topology
from ashore.kit.metrics import Metrics

PROBES = 1_000_000
TENANTS = 400
SEPARATORS = ("", "\0", "/", ":", "|", " ", "\n", "\x1f", "*", "\u200b", "%00", ".")
"""Put between parts of names, so that a digest over names that are merely joined would take two for one."""
MESSAGES, COMPLETIONS, ANTHROPIC = CHAT, "/v1/completions", "/v1/messages"


def mark(tenant: str) -> str:
    """Return what every answer to a tenant says."""
    return hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).hexdigest()[:12]


class TellsTenant(MemoryReplica):
    """Answers every order with the mark of the tenant that it is for, all at once."""

    def start(self, order: GenerateOrder, hearer: OrderHearer) -> CancelOrder:
        text = mark(order.prefix_partition).encode()
        events: list[EngineEvent] = [Token(order.order_id, byte) for byte in text]
        events.append(Finished(order.order_id, "stop", len(order.prompt_ids), 0, len(text)))
        return asyncio.get_running_loop().call_soon(hearer.hear, events).cancel


class Everybody:
    """Knows every principal by a token that is its place in the list."""

    def __init__(self, principals: Sequence[Principal]) -> None:
        self._principals = principals

    def authenticate(self, token: str | None, origin: str = "") -> Principal:
        if token is None or not token.isdigit():
            raise Unauthenticated("no such token", hint="none")
        return self._principals[int(token)]


def principals() -> list[Principal]:
    """Return one principal for each tenant; names of tenants and principals are cut from the same text."""
    found: dict[str, Principal] = {}
    for separator in SEPARATORS:
        whole = separator.join(("acme", "b", "c", "key"))
        for cut in range(1, len(whole)):
            for tenant, name in ((whole[:cut], whole[cut:]), (whole[:cut], whole[cut:].removeprefix(separator))):
                if tenant not in found or (separator and whole[cut:].startswith(separator)):
                    found[tenant] = Principal(id=name, tenant=TenantId(tenant), roles=frozenset(("developer",)))
    for at in range(len(found), TENANTS):
        found[f"tenant-{at}"] = Principal(id="key", tenant=TenantId(f"tenant-{at}"), roles=frozenset(("developer",)))
    return list(found.values())


@dataclass(slots=True)
class Tally:
    """What came of the probes."""

    probes: int = 0
    crossed: int = 0
    hits: int = 0
    """Answers of the asker's own tenant from its own entries."""
    refused: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def proves(self) -> bool:
        """Whether the answers were looked at: a probe that is refused shows nothing, nor do caches that never hit."""
        return self.hits > 0 and self.refused == 0


def bodies(number: int) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield forms of one question, where text is moved over borders that a careless key would not see."""
    a, b, c = f"Keep {number}", f"secret {number}", f"What is {number}?"
    system, user = {"role": "system", "content": a}, {"role": "user", "content": c}
    base: dict[str, object] = {"model": "m", "temperature": 0}
    yield MESSAGES, base | {"messages": [system, user]}
    yield MESSAGES, base | {"messages": [{"role": "system", "content": a + b}, user]}
    yield MESSAGES, base | {"messages": [system, {"role": "user", "content": b + c}]}
    yield MESSAGES, base | {"messages": [{"role": "user", "content": a + c}]}
    yield MESSAGES, base | {"messages": [system, {"role": "assistant", "content": b}, user]}
    yield MESSAGES, base | {"messages": [system, user], "user": "tenant-399", "metadata": {"tenant": "tenant-399"}}
    yield MESSAGES, base | {"messages": [system, user], "prompt_cache_key": "tenant-399"}
    yield MESSAGES, base | {"messages": [system, user], "stream": True}
    yield COMPLETIONS, base | {"prompt": a + c}
    yield ANTHROPIC, base | {"max_tokens": 64, "system": a, "messages": [user]}


def games(victim: str) -> list[list[tuple[bytes, bytes]]]:
    """Return headers by which a client may try to be somebody else or to widen what it may be given."""
    name = victim.encode("latin-1", "replace").replace(b"\n", b" ").replace(b"\0", b" ")
    return [
        [],
        [(b"x-tenant", name), (b"x-ashore-tenant", name), (b"x-ashore-on-behalf-of", name)],
        [(b"cache-control", b"max-stale=99999, only-if-cached")],
        [(b"x-ashore-cache", b"use")],
        [(b"x-request-id", b"the-same-one"), (b"forwarded", b"for=127.0.0.1")],
        [(b"x-api-key", b"0")],
    ]


class Prober:
    """Calls the application as a server would."""

    def __init__(self, app: HttpApp) -> None:
        self._app = app

    async def ask(
        self, path: str, body: bytes, token: int, extra: list[tuple[bytes, bytes]]
    ) -> tuple[int, bytes, bytes]:
        """Return status, what the cache said, and the body."""
        sent: list[dict[str, object]] = []
        headers = [(b"authorization", b"Bearer %d" % token), (b"content-length", b"%d" % len(body)), *extra]
        first = True

        async def receive() -> dict[str, object]:
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": body, "more_body": False}
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope: dict[str, object] = {"type": "http", "method": "POST", "path": path, "headers": headers}
        scope |= {"client": ("127.0.0.1", 1), "ashore.direct": Direct(send)}
        await self._app(scope, receive, send)
        head = dict(sent[0]["headers"])  # type: ignore[call-overload]
        text = b"".join(one.get("body", b"") for one in sent[1:])  # type: ignore[misc]
        return int(sent[0]["status"]), head.get(b"x-ashore-cache", b""), text  # type: ignore[call-overload]


def said_in(status: int, text: bytes) -> str:
    """Return the answer's words, of any of the forms."""
    if text.startswith((b"data:", b"event:")):
        said = ""
        for line in text.splitlines():
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:]).get("choices", ()):
                    said += choice["delta"].get("content") or ""
        return said
    whole = json.loads(text)
    if "content" in whole:
        return str(whole["content"][0]["text"])
    choice = whole["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


async def probe(count: int) -> Tally:
    """Let one tenant ask, then all others the same, until `count` probes were made."""
    people = principals()
    metrics, clock = Metrics(), SystemClock()
    cache = AnswerCache(
        CachePolicy(max_bytes=64 << 20), secret=secrets.token_bytes(32), epochs=FixedEpochs(), clock=clock
    )
    model = ServedModel(alias="m", release="m-1", kind="fake", sockets=("memory",))
    serving = ServingService(
        Topology(models=(model,)),
        make_replica=lambda socket: TellsTenant(),
        load_text=lambda served: BytesText(),
        check_grammar=lambda grammar: None,
        clock=clock,
        metrics=metrics,
        cache=cache,
    )
    await serving.start()
    await asyncio.sleep(0.05)
    prober = Prober(HttpApp(serving, Everybody(people), metrics, ROUTES, limits=Limits()))
    tally = Tally()
    try:
        for number in itertools.count():
            victim = number * 7 % len(people)
            tricks = games(people[victim].tenant)
            for path, body in bodies(number):
                kept = json.dumps(body).encode()
                for _ in range(2):  # the second time from the ready bytes
                    await prober.ask(path, kept, victim, [])
                for other, one in enumerate(people):
                    if other == victim:
                        continue
                    status, cached, text = await prober.ask(path, kept, other, tricks[(other + number) % len(tricks)])
                    tally.probes += 1
                    if status != 200:
                        tally.refused += 1
                    elif said_in(status, text) != mark(one.tenant):
                        tally.crossed += 1
                        tally.examples.append(f"{one.tenant!r}/{one.id!r} read {people[victim].tenant!r} on {path}")
                    elif cached.startswith(b"hit"):
                        tally.hits += 1
                    if tally.probes == count:
                        return tally
    finally:
        await serving.close()
    raise AssertionError("unreachable")


def tenants(tools: Tools, effort: Effort) -> list[Row]:
    """Probe, and count what crossed."""
    count = 40_000 if effort.quick else PROBES
    began = time.monotonic()
    tally = asyncio.run(probe(count))
    return [
        Row(
            what=f"cross-tenant hits in {count:,} probes",
            value=float(tally.crossed) if tally.proves else None,
            unit="",
            bar=0.0,
            lower_is_better=True,
            detail=f"{len(principals())} tenants with names cut from the same text, ten forms of "
            f"each question, six sets of headers, over the whole HTTP application; judged by the words of each "
            f"answer; {tally.hits:,} hits of the asker's own tenant, {tally.refused:,} refused, "
            f"{time.monotonic() - began:.0f} s" + (f"; e.g. {tally.examples[0]}" if tally.examples else ""),
            readings={"examples": tally.examples[:20]},
        )
    ]
