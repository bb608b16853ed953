"""The request path as the control process sees it: what workers report, who may see it, when a change is settled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from ashore.control.workers import WorkersView
from ashore.core.clock import SystemClock
from ashore.core.ids import TenantId
from ashore.data.authority import INFER, Binding, Policy, PolicyAuthority, Principal, Role, parse_rule
from ashore.data.http.inner import CHANGES, STANDING, Standing
from ashore.data.path import ModelCard, ServingState

ANN = Principal(id="ann", tenant=TenantId("acme"), kind="key")


class Told:
    """Workers that report what they are told to."""

    def __init__(self, *reports: bytes) -> None:
        self.reports = reports
        self.asked: list[str] = []

    async def ask(self, path: str, *, timeout_s: float = 1.0) -> Sequence[bytes]:
        self.asked.append(path)
        return self.reports


def report(state: ServingState, *aliases: str, behind: dict[str, tuple[str, ...]] | None = None) -> bytes:
    cards = [
        ModelCard(alias=alias, release=f"{alias}-1", kind="fake", created_s=1, ready=True, embedder=False)
        for alias in aliases
    ]
    return msgspec.json.encode(Standing(state=state, models=cards, behind=behind or {}))


def seen(workers: Told, *rules: str) -> tuple[str, list[str], list[str], set[str]]:
    """Return the state, all models, those of `ANN`, and the names."""

    async def look() -> tuple[str, list[str], list[str], set[str]]:
        view = WorkersView(workers, SystemClock())
        role = Role(name="some", title="", rules=tuple(parse_rule(rule) for rule in rules))
        view.authority = PolicyAuthority(Policy(bindings=(Binding(subject="everyone", role="some"),), roles=(role,)))
        await view.look()
        names = await asyncio.to_thread(view.names)
        view.close()
        return view.state, [one.alias for one in view.models()], [one.alias for one in view.models(ANN)], set(names)

    return asyncio.run(look())


def test_a_person_sees_the_models_that_they_may_ask_and_those_behind_an_alias_count() -> None:
    workers = Told(report("ready", "chat", "code", "any", behind={"any": ("chat", "code")}))
    allowed = f"allow {INFER} on model/chat", f"allow {INFER} on model/any"
    assert seen(workers, *allowed) == ("ready", ["chat", "code", "any"], ["chat"], {"chat", "code", "any"})
    assert set(workers.asked) == {STANDING}


def test_the_worker_that_is_worst_off_counts_and_none_is_no_error() -> None:
    assert seen(Told(report("ready", "chat"), report("loading", "chat")))[0] == "loading"
    assert seen(Told()) == ("loading", [], [], set())
    assert seen(Told(b"{}", report("ready", "chat")))[:2] == ("ready", ["chat"])


def test_a_change_is_settled_when_the_workers_were_asked_to_take_it() -> None:
    workers = Told(b"{}")

    async def settle() -> None:
        view = WorkersView(workers, SystemClock())
        await view.settle()
        view.close()

    asyncio.run(settle())
    assert workers.asked == [CHANGES]
