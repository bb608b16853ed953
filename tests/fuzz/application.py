"""The target that asks the whole application: any body on any route that takes one, in all four protocols."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from direct import Direct
from grammars import check_grammar
from memory_replica import MemoryReplica
from tests.fuzz.files import ODD_JSON
from tests.fuzz.target import Target

from ashore.control.faces.table import ROUTES
from ashore.core.clock import SystemClock
from ashore.data.authority import OnBehalf, OpenDoor
from ashore.data.http import HttpApp
from ashore.data.jobs import EgressSection, JobDesk, JobsSection, make_desk
from ashore.data.path import BytesText, ServedModel, ServingService, Topology
from ashore.kit.metrics import Metrics
from ashore.kit.rooms import Rooms
from ashore.kit.state import open_database

_PATHS: Final = (
    *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/messages", "/v1/messages/count_tokens"),
    *("/v1/responses", "/v1/responses/input_tokens", "/v1/batches"),
)
_MAY_FAIL: Final = (503, 507)
"""What a server says that lacks a part, or has no room."""


class _Rig:
    """An application over a replica in memory and a state of its own, and a loop that runs while it is asked."""

    def __init__(self, folder: Path, at_end: ExitStack) -> None:
        self.loop = asyncio.new_event_loop()
        at_end.callback(self.loop.close)
        self.faults: list[object] = []
        self.loop.set_exception_handler(lambda loop, context: self.faults.append(context))
        database = open_database(folder / "state.db", snapshots=folder, clock=SystemClock())
        at_end.callback(database.close)
        topology = Topology(models=(ServedModel(alias="echo", release="echo-1", kind="fake", sockets=("/s",)),))
        metrics = Metrics()
        self.serving = ServingService(
            topology,
            make_replica=lambda socket: MemoryReplica(),
            load_text=lambda served: BytesText(),
            check_grammar=check_grammar,
            clock=SystemClock(),
            metrics=metrics,
        )
        desk = make_desk(database, SystemClock(), JobsSection(), EgressSection())
        self.app = HttpApp(
            self.serving, OpenDoor(), metrics, ROUTES, limits=topology.limits,
            rooms=Rooms(gives={OnBehalf: OnBehalf("inner"), JobDesk: desk}),
        )  # fmt: skip
        self.loop.run_until_complete(self._start())
        at_end.callback(lambda: self.loop.run_until_complete(self.serving.close()))

    async def _start(self) -> None:
        await self.serving.start()
        while not all(card.ready for card in self.serving.models()):
            await asyncio.sleep(0.001)

    def check(self, data: bytes) -> None:
        path = _PATHS[data[0] % len(_PATHS)] if data else _PATHS[0]
        status, headers, body = self.loop.run_until_complete(self._asked(path, data[1:]))
        assert not self.faults, self.faults
        assert status < 500 or status in _MAY_FAIL, (path, body)
        kind = headers[b"content-type"]
        if status >= 400:
            error = json.loads(body)["error"]
            assert error["message"] and len(error["message"]) < 2000, error
        elif kind.startswith(b"application/json"):
            json.loads(body)
        else:
            assert kind.startswith(b"text/event-stream") and body.endswith(b"\n\n"), (kind, body[-80:])

    async def _asked(self, path: str, body: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
        sent: list[dict[str, Any]] = []
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not unread:
                await asyncio.sleep(60)
            return unread.pop()

        async def send(message: Any) -> None:
            sent.append(dict(message))

        scope = {
            "type": "http", "method": "POST", "path": path, "query_string": b"", "client": None,
            "headers": [(b"content-length", b"%d" % len(body)), (b"x-ashore-deadline-s", b"20")],
        }  # fmt: skip
        async with asyncio.timeout(30):
            await self.app({**scope, "ashore.direct": Direct(send)}, receive, send)
        return sent[0]["status"], dict(sent[0]["headers"]), b"".join(m.get("body", b"") for m in sent)


def _seeds() -> tuple[bytes, ...]:
    tool = {"type": "object", "properties": {"a": {"type": "string"}}}
    talk = [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    more = {"model": "echo", "max_tokens": 4, "temperature": 0.5, "top_p": 0.9}
    called = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    functions = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": tool}}]
    bodies: tuple[tuple[int, dict[str, Any]], ...] = (
        (0, {**more, "messages": talk, "n": 2, "seed": 1, "stop": ["x"], "logprobs": True, "top_logprobs": 2}),
        (0, {**more, "messages": talk, "stream": True, "stream_options": {"include_usage": True}, "user": "u"}),
        (0, {**more, "messages": [*talk, {"role": "assistant", "content": None, "tool_calls": [called]},
             {"role": "tool", "tool_call_id": "c", "content": "1"}], "tools": functions, "tool_choice": "auto"}),
        (0, {**more, "messages": talk, "response_format": {"type": "json_schema", "json_schema":
             {"name": "n", "schema": tool, "strict": True}}, "logit_bias": {"65": 5}}),
        (1, {**more, "prompt": ["a", "b"], "echo": True, "logprobs": 2, "best_of": 1, "suffix": None}),
        (1, {**more, "prompt": [[65, 66]], "stream": True, "frequency_penalty": 0.5}),
        (2, {"model": "echo", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 4}),
        (3, {**more, "system": "s", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
             "tools": [{"name": "f", "input_schema": tool}], "stop_sequences": ["x"], "stream": True}),
        (3, {**more, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content":
             [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]}, {"role": "user", "content":
             [{"type": "tool_result", "tool_use_id": "t", "content": "r"}]}], "thinking": {"type": "disabled"}}),
        (4, {"model": "echo", "messages": talk[1:], "system": [{"type": "text", "text": "s"}]}),
        (5, {"model": "echo", "input": "hi", "store": False, "max_output_tokens": 4, "instructions": "i"}),
        (5, {"model": "echo", "input": [{"type": "message", "role": "user", "content":
             [{"type": "input_text", "text": "hi"}]}, {"type": "function_call", "call_id": "c", "name": "f",
             "arguments": "{}"}, {"type": "function_call_output", "call_id": "c", "output": "1"}], "store": False,
             "tools": [{"type": "function", "name": "f", "parameters": tool}], "stream": True,
             "text": {"format": {"type": "json_object"}}, "max_output_tokens": 4}),
        (6, {"model": "echo", "input": "hi"}),
        (7, {"input_file_id": "file-x", "endpoint": "/v1/chat/completions", "completion_window": "24h"}),
    )  # fmt: skip
    return tuple(bytes((route,)) + json.dumps(body).encode() for route, body in bodies)


REQUESTS: Final = Target(
    name="requests",
    seeds=_seeds,
    open=lambda folder, at_end: _Rig(folder, at_end).check,
    words=(
        *ODD_JSON,
        *(
            b'"n":128,',
            b'"max_tokens":2147483647,',
            b'"temperature":1e308,',
            b'"top_p":0,',
            b'"seed":-1,',
            b'"stream":true,',
        ),
        *(
            b'"logit_bias":{"-1":1},',
            b'"stop":"",',
            b'"role":"developer"',
            b'"messages":[],',
            b'"tools":[],',
            b'"model":""',
        ),
        *(b'"tool_choice":"required",', b'"store":true,', b'"background":true,', b'"previous_response_id":"resp_x",'),
        *(b'"cache":{"mode":"off"},', b'"chat_template_kwargs":{"a":1},', b'"metadata":{"a":"b"},', b'"prompt":[-1],'),
    ),
    most_bytes=8192,
    num_cases=300,
)
