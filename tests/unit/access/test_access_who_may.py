"""Who may do a call is asked in one place, and every face says the same: HTTP, a stream that goes on, the console."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
from admin_app import AdminApp
from direct import Direct

from ashore.control.console.acts import Acts
from ashore.control.console.pages import Placed
from ashore.control.faces.admin import routes_of
from ashore.core.errors import NotReady, PermissionDenied, Unauthenticated
from ashore.core.ids import TenantId
from ashore.data.authority import BUILT_IN, KeyScope, Principal, Role, Rule
from ashore.data.http.exchange import Exchange
from ashore.data.http.routes import Route
from ashore.kit.call import ADMIN, Call
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.rights import METRICS_READ, SERVER, lacks
from ashore.kit.rooms import Room, rooms

BROUGHT = tuple(rooms())
ROUTES = tuple(route for room in BROUGHT for route in routes_of(room.name, room.calls))
ANN = Principal(id="ann", tenant=TenantId("retail"), key_id="ash_0a1b2c3d")
KEYS = {
    "as its owner": ANN,
    "to ask models": replace(ANN, scope=KeyScope(actions=("infer",))),
    "to one model": replace(ANN, scope=KeyScope(models=("chat",))),
    "to what others keep": replace(ANN, scope=KeyScope(actions=("key:*", "metrics:read"))),
}
CUSTOM = {
    "none": Role(name="none", rules=()),
    "own-keys": Role(name="own-keys", rules=(Rule(effect="allow", action="key:create-own", resource="*"),)),
    "one-budget": Role(name="one-budget", rules=(Rule(effect="allow", action="budget:read", resource="budget/b"),)),
}
ROLES = (*CUSTOM, *(role.name for role in BUILT_IN))


def app_of(role: str, principal: Principal, routes: Sequence[Route] = ()) -> AdminApp:
    if role in CUSTOM:
        return AdminApp(own=(CUSTOM[role],), principal=principal, routes=routes)
    return AdminApp(role, principal=principal, routes=routes)


def nothing(desk: object, actor: object, asked: object) -> None:
    raise NotReady("it was let in")


ANYBODY = Call("toy", "do", "POST", "/toy", "", nothing)
ON_SOMETHING = replace(ANYBODY, action="budget:read")
ON_SERVER = replace(ANYBODY, action="budget:read", on_server=True)
OR_OWN = replace(ANYBODY, action="access:write", own="key:create-own")


@pytest.mark.parametrize(
    ("role", "key", "call", "lacking"),
    [
        ("none", "as its owner", ANYBODY, ""),
        ("none", "to ask models", ANYBODY, ""),
        ("none", "as its owner", ON_SOMETHING, "budget:read"),
        ("one-budget", "as its owner", ON_SOMETHING, ""),
        ("one-budget", "as its owner", ON_SERVER, "budget:read"),
        ("one-budget", "to ask models", ON_SOMETHING, "budget:read"),
        ("one-budget", "to one model", ON_SOMETHING, ""),
        ("auditor", "as its owner", ON_SERVER, ""),
        ("auditor", "to ask models", ON_SERVER, "budget:read"),
        ("own-keys", "as its owner", OR_OWN, ""),
        ("own-keys", "to what others keep", OR_OWN, ""),
        ("own-keys", "to ask models", OR_OWN, "key:create-own"),
        ("security-officer", "as its owner", OR_OWN, ""),
        ("security-officer", "to ask models", OR_OWN, "access:write"),
        ("none", "as its owner", OR_OWN, "key:create-own"),
    ],
)
def test_who_may_do_a_call(role: str, key: str, call: Call, lacking: str) -> None:
    assert lacks(app_of(role, KEYS[key]).authority, KEYS[key], call) == lacking


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("role", ROLES)
def test_every_face_lets_in_the_same_callers_and_refuses_in_the_same_words(role: str, key: str) -> None:
    """Nothing is behind the faces: who is let in hears that the room is not there."""
    me = KEYS[key]
    made = app_of(role, me, ROUTES)
    recorder, serving = MemoryRecorder(), SimpleNamespace(read_aside=None)
    acts = Acts(BROUGHT, {}, authority=made.authority, serving=serving, recorder=recorder)
    asked = SimpleNamespace(visit=SimpleNamespace(origin="10.0.0.9", request_id="r"))
    scope = {"method": "GET", "path": "/", "headers": [], "client": ("10.0.0.9", 1), "ashore.direct": Direct()}
    exchange = Exchange(scope, None, None)

    async def over_http(call: Call) -> str:
        status, body = await made.asked(call.method, re.sub(r"\{\w+\}", "x", ADMIN + call.path))
        return json.loads(body)["error"]["message"].partition(". Hint")[0] if status == 403 else ""

    async def on_a_page(room: Room, call: Call) -> str:
        try:
            await acts.perform(asked, me, Placed(room.name, call, "page", "tab"), None)
        except PermissionDenied as fault:
            return fault.message
        except NotReady:
            return ""
        raise AssertionError("nothing is there that could do it")

    async def ask_all() -> list[str]:
        wrong = []
        for room in BROUGHT:
            for call in room.calls:
                lacking = lacks(made.authority, me, call)
                told = await over_http(call), await on_a_page(room, call)
                offered = acts.offers(SimpleNamespace(whole=me), Placed(room.name, call, "page", "tab"))
                goes_on = await made.app.may_still(call, exchange, me)
                expected = f"ann may not {lacking} on {SERVER}" if lacking else ""
                if not (told[0] == told[1] and told[0].startswith(expected) and bool(told[0]) == bool(lacking)):
                    wrong.append(f"{call.noun} {call.word}: lacks {lacking!r}, HTTP {told[0]!r}, page {told[1]!r}")
                if not offered == goes_on == (not lacking):
                    wrong.append(f"{call.noun} {call.word}: lacks {lacking!r}, offered {offered}, goes on {goes_on}")
        return wrong

    assert asyncio.run(ask_all()) == []


class WrongKeys:
    """Knows no key."""

    def authenticate(self, token: str | None, origin: str = "") -> Principal:
        raise Unauthenticated("no key")


@pytest.mark.parametrize("door", [None, WrongKeys()], ids=["a key that may nothing", "no key"])
def test_this_machine_may_do_what_is_for_its_operator_without_a_right_and_nothing_else(door: WrongKeys | None) -> None:
    made = AdminApp(principal=ANN, door=door, routes=ROUTES)
    operators = [call for room in BROUGHT for call in room.calls if call.operator]
    assert operators and all(call.action == METRICS_READ and call.on_server for call in operators)

    async def ask(call: Call, client: str) -> int:
        return (await made.asked(call.method, ADMIN + call.path, client=client))[0]

    for call in operators:
        assert asyncio.run(ask(call, "127.0.0.1")) == 503, "let in, and nothing is there"
        assert asyncio.run(ask(call, "10.0.0.9")) == (403 if door is None else 401)
    (history,) = (call for room in BROUGHT for call in room.calls if (call.noun, call.word) == ("server", "history"))
    assert history.action == METRICS_READ
    assert asyncio.run(ask(history, "127.0.0.1")) == (403 if door is None else 401)
