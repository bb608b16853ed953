"""A whole API worker in this process, with its state, audit log and console, over a model in memory.

A cookie `who=KEY` says who is logged in, in place of the room `sessions`: pages are tested here, log-in is elsewhere.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlencode, urljoin, urlsplit

from direct import Direct
from memory_replica import MemoryReplica

from ashore.control.access import AccountWish, KeyWish, People
from ashore.control.console import Console
from ashore.control.console.pages import PAGES
from ashore.control.faces.console import ConsoleDoor
from ashore.control.faces.table import ROUTES
from ashore.control.process import releasing_of
from ashore.control.sessions import Outcome, Session, Visit
from ashore.core.clock import Clock, SystemClock
from ashore.core.errors import AshoreError, PermissionDenied, Unauthenticated
from ashore.data.audit.launch import AuditLink
from ashore.data.authority import (
    OFFICERS,
    SYSTEM,
    Acts,
    Authenticator,
    Authority,
    keep_first_key,
    make_first_key,
)
from ashore.data.authority.budgets import LedgerBudgets
from ashore.data.authority.issuers import Fetch
from ashore.data.cache import AnswerCache
from ashore.data.feedback.service import FeedbackService
from ashore.data.http import HttpApp, HttpServer, listen
from ashore.data.issuers import fetch_jwks
from ashore.data.jobs import Quotas
from ashore.data.opening import open_the_state
from ashore.data.origin import Origins
from ashore.data.path import BytesText, HttpListen, Limits, ServedModel, ServingService, StateLink, Topology
from ashore.data.recording import LogRecorder
from ashore.data.releases.room import RequestPath
from ashore.data.worker import guards_of
from ashore.kit.metrics import Metrics
from ashore.kit.recorder import Recorder
from ashore.kit.rooms import Context, Rooms, rooms
from ashore.kit.state import Database, EpochWatch, open_database

T = TypeVar("T")
Form = Mapping[str, Any] | Sequence[tuple[str, str]]
ROLES = (*OFFICERS, "model-owner", "developer", "viewer")
PEOPLE = {role: role.split("-")[0][:3] + "-person" for role in ROLES} | {"none": "nobody-yet"}
"""Account of each role."""
PATHS = ("", *(f"/{page.name}" for page in PAGES if page.name != "home"))
"""Of every page, below `/console`."""


class CookieSessions:
    """Sessions whose cookie is a key: whoever has it is logged in."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self.polled = 0

    async def session_of(self, visit: Visit, *, active: bool = True) -> Session | None:
        found = re.search(r"who=([\w-]+)", visit.cookie)
        self.polled += not active
        if found is None:
            return None
        try:
            principal = self._authenticator.authenticate(found[1], visit.origin)
        except AshoreError:
            return None
        return Session(
            id=f"ses_{principal.id}", principal=principal, whole=principal, way="password",
            csrf=f"token-of-{principal.id}", opened_s=1, active_s=1, ends_s=2_000_000_000, idle_ends_s=2_000_000_000,
            is_fresh=True, account=principal.id,
        )  # fmt: skip

    def check_post(self, visit: Visit, session: Session, fields: Mapping[str, str], *, token: str = "") -> None:
        if visit.fetch_site not in ("same-origin", "") or session.csrf not in (fields.get("csrf"), token):
            raise PermissionDenied("this form is not of your session", rule="token")

    def needs_proof(self, session: Session, fault: AshoreError) -> bool:
        return False

    async def log_in_form(self, visit: Visit, query: Mapping[str, str]) -> Outcome:
        return Outcome(form="log-in", csrf="x", values={name: query.get(name, "") for name in ("next", "account")})

    async def log_in(self, visit: Visit, fields: Mapping[str, str]) -> Outcome:
        fault = Unauthenticated("account or password is wrong")
        return Outcome(form="log-in", csrf="x", values={"account": fields.get("account", "")}, error=fault)

    async def _form(self, visit: Visit, fields: Mapping[str, str]) -> Outcome:
        return Outcome(form="message", csrf="x")

    give_code = enrol = passkeys = change_password = invitation_form = redeem = from_provider = step_up_form = (
        step_up
    ) = _form

    async def first(self, visit: Visit, token: str) -> Outcome:
        return Outcome(form="message")

    async def to_provider(self, visit: Visit, name: str, fields: Mapping[str, str]) -> Outcome:
        return Outcome(form="message")

    async def ended_by_provider(self, fields: Mapping[str, str]) -> Outcome:
        return Outcome()

    async def log_out(self, visit: Visit, fields: Mapping[str, str]) -> Outcome:
        return Outcome(status=303, goto=f"{visit.prefix}/console/log-in", cookies=("who=; Max-Age=0; Path=/",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """An answer, and what its HTML has."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def tags(self) -> Tags:
        return Tags.of(self.text)


@dataclass
class Tags(HTMLParser):
    """What a page links to, sends and says."""

    links: list[str] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    scripts: int = 0
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, text: str) -> Tags:
        found = cls()
        HTMLParser.__init__(found)
        found.feed(text)
        return found

    def __hash__(self) -> int:
        return id(self)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names.append(tag)
        self.attributes += [(tag, name, value) for name, value in given.items()]
        if tag == "a":
            self.links.append(given.get("href", ""))
        if tag == "form":
            self.forms.append(given)
        self.scripts += tag == "script"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


class Site:
    """Asks the application."""

    def __init__(self, app: HttpApp, loop: asyncio.AbstractEventLoop, keys: Mapping[str, str]) -> None:
        self.app = app
        self.keys = keys
        """Key of the person of each role; `first-key`."""
        self.port = 0
        self._loop = loop

    @property
    def console(self) -> Console:
        assert isinstance(self.app.console, ConsoleDoor)
        return self.app.console.console

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def get(self, path: str, role: str = "", **headers: str) -> Page:
        """Return a page below `/console`."""
        return self.send("GET", f"/console{path}", role, headers=headers)

    def shown_paths(self, role: str) -> list[str]:
        """Return every page of a role, each with each of its tabs."""
        found: dict[str, None] = {}
        unread = list(reversed(PATHS))
        while unread:
            path = unread.pop()
            if path in found:
                continue
            found[path] = None
            page = f"/{path.partition('?')[0].split('/')[1]}" if path else ""
            for link in self.get(path, role).tags.links:
                at = urlsplit(urljoin(f"http://h/console{path.partition('?')[0]}", link))
                below = at.path.removeprefix("/console")
                if page and below == page and re.fullmatch(r"_tab=[^&]*", at.query):
                    unread.append(f"{below}?{unquote(at.query).replace(' ', '+')}")
                elif page and below.startswith(f"{page}/") and not at.query:
                    unread.append(below)
        return list(found)

    def post(self, path: str, role: str, form: Form = (), **headers: str) -> Page:
        """Send a form of a page of the console, with the token of the person's session."""
        pairs = list(form.items()) if isinstance(form, Mapping) else list(form)
        person = "first-key" if role == "first-key" else PEOPLE[role]
        body = urlencode([*pairs, ("csrf", f"token-of-{person}")], doseq=True).encode()
        kind = {"content-type": "application/x-www-form-urlencoded"}
        return self.send("POST", f"/console{path}", role, body, headers=kind | headers)

    def send(
        self, method: str, path: str, role: str = "", body: bytes = b"", headers: Mapping[str, str] | None = None,
        *, key: str = "",
    ) -> Page:  # fmt: skip
        """Send a request: with the cookie of a role, or with a key."""
        given = {"host": "ashore.test:8080", "content-length": str(len(body)), **(headers or {})}
        if role:
            given["cookie"] = f"who={self.keys[role]}"
        if key:
            given["authorization"] = f"Bearer {key}"
        return self.run(self._asked(method, path, body, given))

    async def _asked(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Page:
        sent: list[dict[str, Any]] = []
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not unread:
                await asyncio.sleep(60)
            return unread.pop()

        async def send(message: Any) -> None:
            sent.append(dict(message))

        path, _, query = path.partition("?")
        scope = {
            "type": "http", "method": method, "path": unquote(path), "raw_path": path.encode(),
            "query_string": query.encode(), "client": ("10.0.0.9", 1),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        await self.app({**scope, "ashore.direct": Direct(send)}, receive, send)
        return Page(
            status=sent[0]["status"],
            headers={name.decode(): value.decode() for name, value in sent[0]["headers"]},
            body=b"".join(one.get("body", b"") for one in sent),
        )


async def ask_here(app: Any, exchange: Any, principal: Any, path: str = "/v1/chat/completions") -> None:
    """Answer as a worker does to which the page Chat passes a request on."""
    route, exchange.arguments = app.table.find(exchange.method, path.partition("?")[0])
    app._check_route(route, principal)
    await route.handler(app, exchange, principal)


@contextmanager
def console_site(
    folder: Path, *, port: int = 0, with_people: bool = True, sections: Mapping[str, Any] | None = None
) -> Iterator[Site]:
    """Open a server in `folder`; with a `port` it listens there, too. `sections`: of ashore.toml."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="console site", daemon=True)
    thread.start()
    end = asyncio.Event()
    ready: list[Site] = []
    opening = asyncio.run_coroutine_threadsafe(_serve(folder, port, ready, end, with_people, sections or {}), loop)
    try:
        while not ready:
            if opening.done():
                opening.result()
            thread.join(0.01)
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(end.set)
        opening.result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


async def _serve(
    folder: Path, port: int, ready: list[Site], end: asyncio.Event, with_people: bool, sections: Mapping[str, Any]
) -> None:
    (folder / "audit").mkdir()
    link = StateLink(path=str(folder / "state.db"), snapshots=str(folder / "snapshots"))
    keys = await asyncio.to_thread(_people, folder, link, with_people)
    served = [
        ServedModel(alias=alias, release=f"{alias}-1", kind="fake", sockets=(f"/memory/{alias}",), created_s=1)
        for alias in ("chat", "chat-next")
    ]
    topology = Topology(
        models=tuple(served), state=link, home=str(folder), first_key_file=str(folder / "first-key"),
        audit=AuditLink(path=str(folder / "audit"), keys=str(folder / "audit-keys")), budgets=str(folder / "budgets"),
        http=HttpListen(port=port), sections=dict(sections),
    )  # fmt: skip
    metrics = Metrics(metric for room in rooms() for metric in room.metrics)
    gives = {
        Clock: SystemClock(),
        Metrics: metrics,
        Recorder: LogRecorder(),
        Fetch: fetch_jwks,
    }
    aliases = lambda: {one.alias for one in serving.models()}  # noqa: E731
    opened = Rooms(Context(told=topology.told, gives=gives, names=aliases, behind=lambda name: serving.behind(name)))
    await opened.open("record")
    await open_the_state(topology, opened)
    await opened.open("state")
    authority = opened.context.need(Authority)
    serving = ServingService(
        topology, make_replica=lambda socket: MemoryReplica(), load_text=lambda served: BytesText(),
        check_grammar=lambda grammar: None, clock=SystemClock(), metrics=metrics, authority=authority,
        cache=opened.context.need(AnswerCache), guards=guards_of(opened.context),
    )  # fmt: skip
    opened.give({RequestPath: serving, Quotas: opened.find(LedgerBudgets), **releasing_of(topology)})
    await opened.open("serving")
    authenticator = opened.context.need(Authenticator)
    watch = opened.context.need(EpochWatch)

    async def settle() -> None:
        await asyncio.to_thread(watch.look)

    console = Console(
        rooms(), opened.desks, sessions=CookieSessions(authenticator), authenticator=authenticator, authority=authority,
        recorder=opened.context.recorder, serving=serving, votes=opened.find(FeedbackService),
        settle=settle,
    )  # fmt: skip
    await console.start()
    app = HttpApp(
        serving, opened.context.need(Authenticator), metrics, ROUTES, limits=Limits(), authority=authority,
        recorder=opened.context.recorder, origins=Origins(), rooms=opened,
        console=ConsoleDoor(console, ask_here), settle=settle,
    )  # fmt: skip
    await serving.start()
    while not all(card.ready for card in serving.models()):
        await asyncio.sleep(0.001)
    server = HttpServer(app, listen(topology.http), topology.limits) if port else None
    app.start()
    if server is not None:
        server.start()
    site = Site(app, asyncio.get_running_loop(), keys)
    site.port = port
    ready.append(site)
    work = [asyncio.ensure_future(one()) for _, one in opened.background()]
    await end.wait()
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
    await serving.close()
    if server is not None:
        await server.stop(1.0)
    await app.close()
    await opened.close()


def _people(folder: Path, link: StateLink, with_people: bool) -> dict[str, str]:
    """Make an account for each role, and return their keys."""
    first = make_first_key(folder / "first-key")
    database = open_database(Path(link.path), snapshots=Path(link.snapshots), clock=SystemClock())
    try:
        with database.write() as connection:
            keep_first_key(connection, first, created_s=1)
        return {"first-key": first, **(_accounts(database) if with_people else {})}
    finally:
        database.close()


def _accounts(database: Database) -> dict[str, str]:
    people = People(Acts(database, LogRecorder(), SystemClock()))
    keys = {}
    for role, name in PEOPLE.items():
        roles = () if role == "none" else (role,)
        _, new = people.create_account(SYSTEM, AccountWish(id=name, roles=roles, key=KeyWish()))
        assert new is not None
        keys[role] = new.secret
    return keys
