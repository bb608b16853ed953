"""The console itself: maps an address to a page, identifies the reader, and builds the response."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote, urlencode

from ashore.control.console import calling, chatting, doors, tabs
from ashore.control.console.acts import Acts, Settle, who_may
from ashore.control.console.forms import SECRETS
from ashore.control.console.model import PAGE_HEADERS, Answer, Asked
from ashore.control.console.pages import BY_NAME, Placed
from ashore.control.console.ports import Serving, Votes
from ashore.control.console.reader import Reader
from ashore.control.console.rendering import THEMES, load_all, render
from ashore.control.console.static import static_answer
from ashore.control.console.views import VIEWS
from ashore.control.console.words import LANGUAGES, Words, chosen, words_in
from ashore.control.sessions import Sessions, Visit
from ashore.core.errors import AshoreError, EnvironmentFault, NotReady, PermissionDenied, UnknownRoute
from ashore.core.outward import retry_after
from ashore.data.authority import Authenticator, Authority, Principal, denial_of
from ashore.kit.recorder import Recorder
from ashore.kit.rooms import Room

log = logging.getLogger("ashore.console")

LOOK_COOKIE: Final = "ashore-look"
MOST_KEPT: Final = 900
"""Most characters of a form kept in the address across a log-in; a longer form must be filled in again."""
_LOOK: Final = re.compile(rf"(?:^|; ?){LOOK_COOKIE}=(\w{{0,8}})\.(\w{{0,8}})(?:;|$)")
NOT_KEPT: Final = SECRETS | {"csrf", "next", "text"}


class Console:
    """Answers requests below `/console`. Used by the event loop of one worker."""

    def __init__(
        self,
        rooms: Iterable[Room],
        desks: Mapping[str, object],
        *,
        sessions: Sessions | None,
        authenticator: Authenticator,
        authority: Authority,
        recorder: Recorder,
        serving: Serving,
        votes: Votes | None = None,
        chat_model: str = "",
        settle: Settle | None = None,
        slow: asyncio.Semaphore | None = None,
    ) -> None:
        """Create it.

        Args:
            rooms: Whose calls have pages.
            desks: The desk of each room by name; may be filled later.
            sessions: Resolves cookies; None: this server has no console.
            authenticator: Reads keys.
            authority: Decides what people may do.
            recorder: Records refusals.
            serving: The request path.
            votes: Stores votes on answers; None: votes are off.
            chat_model: Alias that the page Chat offers first.
            settle: Returns when every process goes by a change; None: no other process does.
            slow: As for `perform`.
        """
        self.acts: Final = Acts(
            rooms, desks, authority=authority, serving=serving, recorder=recorder, settle=settle, slow=slow
        )
        self.votes: Final = votes
        self.sessions: Final = sessions
        self._chat_model = chat_model
        self._authenticator = authenticator
        self._recorder = recorder

    async def start(self) -> None:
        """Load what the first page needs."""
        await asyncio.to_thread(load_all)
        for language in LANGUAGES:
            words_in(language)

    def static(self, path: str, *, gzip: bool) -> Answer | None:
        """Return a file that pages load; None: there is none of that name."""
        return static_answer(path, gzip=gzip)

    async def answer(self, asked: Asked) -> Answer:
        """Return a page or a redirect. A refusal is a page too, and is recorded like any other."""
        words, theme, cookies = look_of(asked)
        look: dict[str, object] = {"theme": theme}
        reader: Reader | None = None
        try:
            if self.sessions is None:
                raise NotReady("the console needs a state database", hint="start the server with `ashore up`")
            if asked.path == "oidc/ended" and asked.method == "POST":
                ended = await self.sessions.ended_by_provider(asked.fields)
                return Answer(status=ended.status, headers=((b"cache-control", b"no-store"),))
            if asked.path == "key":
                found = await doors.key_door(
                    self.sessions, self._authenticator, self.acts, asked, words, look,
                    refused=lambda fault: self._record(asked, None, fault),
                )  # fmt: skip
                return _with(found, cookies)
            outcome = await doors.open_door(self.sessions, asked)
            if outcome is not None:
                return _with(await doors.door_page(outcome, asked, words, look), cookies)
            session = await self.sessions.session_of(asked.visit, active=not asked.polls)
            if session is None:
                return _with(_going(asked, "log-in"), cookies)
            reader = Reader(asked=asked, words=words, session=session, look=look, acts=self.acts)
            if asked.method == "POST":
                self.sessions.check_post(asked.visit, session, asked.fields, token=asked.token)
            answer = await self._page(reader)
        except AshoreError as fault:
            answer = self._refused(reader, asked, words, look, fault)
        return _with(_kept(answer, asked), cookies)

    async def _page(self, reader: Reader) -> Answer:
        path = reader.asked.path
        if path.startswith("call/"):
            return await self._call(reader, self._placed(path))
        if path == "chat" and "_tab" not in dict(reader.asked.query):
            return await chatting.chat_page(reader, self.votes, self._chat_model)
        if path == "connect":
            return await chatting.connect_page(reader)
        name, _, tab = path.partition("/")
        is_derived = "_tab" in dict(reader.asked.query) and name in BY_NAME and BY_NAME[name].nouns
        view = VIEWS.get(path)
        if view is not None and not is_derived:
            return await view(reader)
        page = BY_NAME.get(name)
        if page is None or path == "home":
            raise UnknownRoute(f"the console has no page {path[:100]!r}", hint="choose one from the navigation")
        return await tabs.tab_page(reader, page, tab)

    async def _call(self, reader: Reader, placed: Placed) -> Answer:
        """Return the page of a call. If the person may make the call but filled it in wrongly, the form stays."""
        try:
            return await calling.call_page(reader, placed)
        except PermissionDenied as fault:
            proves = self.sessions is not None and self.sessions.needs_proof(reader.session, fault)
            if reader.asked.method != "POST" or not reader.offers(placed) or proves:
                raise
            self._record(reader.asked, reader.session.principal, fault)
            return await calling.call_page(reader, placed, refused=fault)

    def _placed(self, path: str) -> Placed:
        placed = self.acts.atlas.by_address.get(path)
        if placed is None:
            raise UnknownRoute(f"the console has no act {path[:100]!r}", hint="choose a page from the navigation")
        return placed

    def _refused(
        self, reader: Reader | None, asked: Asked, words: Words, look: Mapping[str, object], fault: AshoreError
    ) -> Answer:
        principal = None if reader is None else reader.session.principal
        if reader is not None and self.sessions is not None and self.sessions.needs_proof(reader.session, fault):
            return _going(asked, "step-up")
        self._record(asked, principal, fault)
        if isinstance(fault, EnvironmentFault):
            log.warning("request %s: %s %s", asked.visit.request_id, fault.code, fault.message)
        who = who_may(fault.action) if isinstance(fault, PermissionDenied) and fault.action else ()
        if reader is not None:
            page = reader.page("refused.html", "", status=fault.http_status, fault=fault, who=who)
        else:
            body = render("outside.html", asked, words, {**look, "fault": fault, "who": who})
            page = Answer(status=fault.http_status, body=body)
        seconds = retry_after(fault)
        return page if seconds is None else replace(page, headers=(*page.headers, (b"retry-after", b"%d" % seconds)))

    def _record(self, asked: Asked, principal: Principal | None, fault: AshoreError) -> None:
        act = denial_of(fault, principal, origin=asked.visit.origin, request_id=asked.visit.request_id)
        if act is not None:
            self._recorder.record(act)


def _going(asked: Asked, where: str) -> Answer:
    """Return a redirect to a page that asks for proof of identity, and from there back to the current task."""
    location = f"{asked.root}{where}?{urlencode({'next': way_back(asked)})}"
    status = 303 if asked.part == "page" else 401  # the script follows the redirect itself
    return Answer(status=status, headers=(*PAGE_HEADERS, (b"location", location.encode())))


def way_back(asked: Asked) -> str:
    """Return the path of a request with its form fields, so that nothing runs twice and nothing has to be retyped.
    Secrets and long texts are left out.
    """
    pairs = [pair for pair in (asked.form if asked.method == "POST" else asked.query) if pair[0] not in NOT_KEPT]
    query = urlencode(pairs)
    path = asked.visit.prefix + "/console" + (f"/{quote(asked.path)}" if asked.path else "")
    return f"{path}?{query}" if query and len(query) <= MOST_KEPT else path


def words_of(visit: Visit) -> Words:
    """Return the language that a browser's pages are in."""
    return words_in(chosen(_look_cookie(visit.cookie)[0], visit.language))


def look_of(asked: Asked) -> tuple[Words, str, tuple[tuple[bytes, bytes], ...]]:
    """Return language and colours of a page, and the cookie that stores a new choice. The cookie is not secret and
    identifies no one.
    """
    language, theme = _look_cookie(asked.visit.cookie)
    query = dict(asked.query)
    said, colour = query.get("_lang", ""), query.get("_theme", "")
    cookies: tuple[tuple[bytes, bytes], ...] = ()
    if said in LANGUAGES or colour in THEMES:
        language, theme = said if said in LANGUAGES else language, colour if colour in THEMES else theme
        text = f"{LOOK_COOKIE}={language}.{theme}; Path={asked.visit.prefix}/console; Max-Age=31536000; SameSite=Lax"
        cookies = ((b"set-cookie", (text + "; Secure" * asked.visit.is_secure).encode()),)
    return words_in(chosen(language, asked.visit.language)), theme, cookies


def _look_cookie(header: str) -> tuple[str, str]:
    found = _LOOK.search(header)  # a cookie parser takes 100 ms of the event loop for a header of 60 KB
    language, theme = (found[1], found[2]) if found else ("", "")
    return language if language in LANGUAGES else "", theme if theme in THEMES else "auto"


def _with(answer: Answer, cookies: tuple[tuple[bytes, bytes], ...]) -> Answer:
    return replace(answer, headers=(*answer.headers, *cookies)) if cookies else answer


def _kept(answer: Answer, asked: Asked) -> Answer:
    """Return 304 to a polling page whose content has not changed."""
    if not asked.polls or answer.status != 200 or answer.file is not None:
        return answer
    tag = f'"{hashlib.sha256(answer.body).hexdigest()[:16]}"'.encode()
    headers = (*answer.headers, (b"etag", tag))
    if asked.etag.encode("latin-1", "replace") == tag:
        return Answer(status=304, headers=headers)
    return replace(answer, headers=headers)
