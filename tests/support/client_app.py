"""The HTTP application in process over the text of a fake model that makes the calls it is asked for: `fake:tools`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from direct import Direct
from memory_replica import ECHO_INFO, MemoryReplica

from ashore.control.faces.table import ROUTES
from ashore.core.clock import SystemClock
from ashore.data.authority import OpenDoor
from ashore.data.engines import CancelOrder, GenerateOrder, OrderHearer
from ashore.data.engines.fake.engine import spoken
from ashore.data.engines.fake.files import VOCAB_SIZE, fake_model_files
from ashore.data.http import HttpApp
from ashore.data.path import Limits, ServedModel, ServingService, Topology
from ashore.data.text import TextModel
from ashore.kit.metrics import Metrics
from ashore.kit.rooms import Rooms

INFO = msgspec.structs.replace(ECHO_INFO, vocab_size=VOCAB_SIZE, context_tokens=100_000, kv_tokens=1_000_000)
ALIAS = "served"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a request was answered with."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ignored(self) -> list[str]:
        """What of the request was left out."""
        return [one for one in self.headers.get("x-ashore-ignored", "").split(", ") if one]

    @property
    def events(self) -> list[tuple[str, Any]]:
        """Names (where there are names) and data of an event stream; `[DONE]` as it is."""
        found = []
        for block in self.body.decode().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.splitlines())
            if "data" in lines:
                data = lines["data"]
                found.append((lines.get("event", ""), data if data == "[DONE]" else json.loads(data)))
        return found


class _Calling(MemoryReplica):
    """Says what `fake:tools` says."""

    def start(self, order: GenerateOrder, hearer: OrderHearer) -> CancelOrder:
        said = list(spoken(order.prompt_ids, calls=True))
        return super().start(msgspec.structs.replace(order, prompt_ids=said), hearer)


class ClientApp:
    """Answers requests."""

    def __init__(self, app: HttpApp) -> None:
        self._app = app

    async def ask(self, method: str, path: str, body: Any = None) -> Answer:
        sent: list[dict[str, Any]] = []
        data = b"" if body is None else json.dumps(body).encode()
        unread = [{"type": "http.request", "body": data, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not unread:
                await asyncio.sleep(60)
            return unread.pop()

        async def send(message: Any) -> None:
            sent.append(dict(message))

        headers = [(b"content-length", b"%d" % len(data))] if data else []
        scope = {
            "type": "http", "method": method, "path": path, "query_string": b"", "client": None, "headers": headers,
        }  # fmt: skip
        async with asyncio.timeout(30):
            await self._app({**scope, "ashore.direct": Direct(send)}, receive, send)
        return Answer(
            status=sent[0]["status"],
            headers={name.decode(): value.decode() for name, value in sent[0]["headers"]},
            body=b"".join(message.get("body", b"") for message in sent),
        )


@asynccontextmanager
async def client_app(folder: Path, limits: Limits | None = None) -> AsyncIterator[ClientApp]:
    """Yield the application; `folder` takes the files of the model."""
    files = fake_model_files("fake:tools", folder)
    served = ServedModel(alias=ALIAS, release="served-1", kind="fake", sockets=("/s",), text_dir=files.directory)
    topology, metrics = Topology(models=(served,), limits=limits or Limits()), Metrics()
    serving = ServingService(
        topology,
        make_replica=lambda socket: _Calling(INFO),
        load_text=lambda served: TextModel.load(Path(served.text_dir)),
        check_grammar=lambda grammar: None,
        clock=SystemClock(),
        metrics=metrics,
    )
    app = HttpApp(serving, OpenDoor(), metrics, ROUTES, limits=topology.limits, rooms=Rooms(gives={}))
    await serving.start()
    while not all(card.ready for card in serving.models()):
        await asyncio.sleep(0.001)
    try:
        yield ClientApp(app)
    finally:
        await serving.close()
