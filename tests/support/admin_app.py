"""The HTTP application without a socket, in which everybody holds the same roles: for tests of administrative calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ashore.access import Authenticator, Binding, OpenDoor, Policy, PolicyAuthority, Role
from ashore.api.http import ROUTES, HttpApp
from ashore.api.http.routes import Route
from ashore.core import MemoryRecorder, SystemClock
from ashore.metrics import Metrics
from ashore.serving import BytesText, Limits, MemoryReplica, ServingService, Topology


class AdminApp:
    """An application and what it recorded.

    Args:
        roles: Names of built-in roles that everybody holds.
        own: Roles of the policy that everybody holds, too.
        door: Who comes in; default: anybody.
        desks: By room; may ask `authority` and `recorder` of this object once it is made.
    """

    def __init__(
        self, *roles: str, own: Sequence[Role] = (), routes: Sequence[Route] = ROUTES, door: Authenticator | None = None
    ) -> None:
        names = (*roles, *(role.name for role in own))
        bindings = tuple(Binding(subject="everyone", role=name) for name in names)
        self.authority = PolicyAuthority(Policy(bindings=bindings, roles=tuple(own)))
        self.recorder = MemoryRecorder()
        self.desks: dict[str, object] = {}
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
            door or OpenDoor(),
            metrics,
            routes,
            limits=Limits(),
            authority=self.authority,
            recorder=self.recorder,
            desks=self.desks,
        )

    def send(self, method: str, path: str, body: bytes = b"", query: str = "") -> tuple[int, bytes]:
        """Return status and body of the answer."""
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(dict(message))

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(b"authorization", b"Bearer x")],
            "client": ("10.0.0.9", 1),
        }
        asyncio.run(self.app(scope, receive, send))
        return sent[0]["status"], b"".join(m.get("body", b"") for m in sent)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, query: str = "") -> Any:
        """Return the answer's JSON; the error object with its status where it was refused."""
        status, answer = self.send(method, path, b"" if body is None else json.dumps(body).encode(), query)
        found = json.loads(answer)
        return found if status == 200 else {"status": status, **found["error"]}
