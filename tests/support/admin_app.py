"""The HTTP application without a socket, in which everybody holds the same roles: for tests of administrative calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, BinaryIO

import cyclopts
import pytest
from direct import Direct
from memory_replica import MemoryReplica

from ashore.cli.target import ServerTarget
from ashore.control.faces.table import ROUTES
from ashore.core.clock import SystemClock
from ashore.core.errors import AshoreError
from ashore.data.authority import Authenticator, Binding, OpenDoor, Policy, PolicyAuthority, Principal, Role
from ashore.data.http import HttpApp
from ashore.data.http.routes import Route
from ashore.data.path import BytesText, Limits, ServingService, Topology
from ashore.kit.metrics import Metrics
from ashore.kit.recorder import MemoryRecorder, Recorder
from ashore.kit.rooms import Rooms


class OneDoor:
    """Lets everybody in as the same principal."""

    def __init__(self, principal: Principal) -> None:
        self._principal = principal

    def authenticate(self, token: str | None, origin: str = "") -> Principal:
        return self._principal


class AdminApp:
    """An application and what it recorded.

    Args:
        roles: Names of built-in roles that everybody holds.
        own: Roles of the policy that everybody holds, too.
        routes: What the application serves.
        principal: Who everybody is; default: whoever an open server lets in.
        door: Who comes in, where that is not one principal.
        recorder: The audit log; default: `recorder` of this object.
        settle: Awaited after each change.
        desks: By room; may ask `authority` and `recorder` of this object once it is made.
    """

    def __init__(
        self,
        *roles: str,
        own: Sequence[Role] = (),
        routes: Sequence[Route] = ROUTES,
        principal: Principal | None = None,
        door: Authenticator | None = None,
        recorder: Recorder | None = None,
        settle: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        names = (*roles, *(role.name for role in own))
        bindings = tuple(Binding(subject="everyone", role=name) for name in names)
        self.authority = PolicyAuthority(Policy(bindings=bindings, roles=tuple(own)))
        self.recorder = MemoryRecorder()
        """Of what was recorded, unless another recorder was given."""
        rooms = Rooms()
        self.desks = rooms.desks
        self.headers: dict[bytes, bytes] = {}
        metrics = Metrics()
        serving = ServingService(
            Topology(),
            make_replica=lambda socket: MemoryReplica(),
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=SystemClock(),
            metrics=metrics,
        )
        self.app = HttpApp(
            serving,
            door or (OpenDoor() if principal is None else OneDoor(principal)),
            metrics,
            routes,
            limits=Limits(),
            authority=self.authority,
            recorder=recorder or self.recorder,
            rooms=rooms,
            settle=settle,
        )

    def send(
        self, method: str, path: str, body: bytes = b"", query: str = "", headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> tuple[int, bytes]:
        """Return status and body of the answer; its headers are then in `headers`."""
        return asyncio.run(self.asked(method, path, body, query, headers))

    async def asked(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        query: str = "",
        headers: Sequence[tuple[bytes, bytes]] = (),
        client: str = "10.0.0.9",
    ) -> tuple[int, bytes]:
        """Do the same on the loop that runs."""
        path, _, in_path = path.partition("?")
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(dict(message))

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": (query or in_path).encode(),
            "headers": [(b"authorization", b"Bearer x"), *headers],
            "client": (client, 1),
        }
        await self.app({**scope, "ashore.direct": Direct(send)}, receive, send)
        self.headers = dict(sent[0]["headers"])
        return sent[0]["status"], b"".join(m.get("body", b"") for m in sent)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, query: str = "") -> Any:
        """Return the answer's JSON; the error object with its status where it was refused."""
        status, answer = self.send(method, path, b"" if body is None else json.dumps(body).encode(), query)
        found = json.loads(answer)
        return found if status == 200 else {"status": status, **found["error"]}

    def answer_commands(self, patch: pytest.MonkeyPatch) -> None:
        """Have commands of this process ask this application, whichever server they name."""

        def ask_server(target: object, method: str, path: str, *, body: bytes | None = None) -> bytes:
            status, answer = self.send(method, path, body or b"")
            if status != 200:
                raise AshoreError(json.loads(answer)["error"]["message"])
            return answer

        def save_answer(target: object, method: str, path: str, into: BinaryIO, *, body: bytes | None = None) -> None:
            into.write(ask_server(target, method, path, body=body))

        patch.setattr("ashore.cli.target.ask_server", ask_server)
        patch.setattr("ashore.cli.target.save_answer", save_answer)
        patch.setattr("ashore.cli.target.find_target", lambda url, *, key=None: ServerTarget(url=url or ""))
        patch.setattr("ashore.cli.target.operator_target", lambda url, *, key=None: ServerTarget(url=url or ""))


def run_command(command: cyclopts.App, *words: str) -> Any:
    """Run a command in this process and return what it returns."""
    return command(list(words), exit_on_error=False, result_action="return_value")
