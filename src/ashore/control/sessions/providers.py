"""Log-in by an OpenID provider: the authorization code flow with PKCE, fresh proofs, and log-out from its side.

Sources: OpenID Connect Core 1.0 and Back-Channel Logout 1.0, RFC 7636 (PKCE), RFC 9207 (`iss` in the answer).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import msgspec

from ashore.control.sessions import sql
from ashore.control.sessions.cookies import digest_of
from ashore.control.sessions.gate import check_channel
from ashore.control.sessions.hashing import same
from ashore.control.sessions.keeper import Keeper
from ashore.control.sessions.model import Outcome, Visit
from ashore.control.sessions.paths import home, next_of
from ashore.control.sessions.section import ProviderSection
from ashore.control.sessions.sql import Flow, SessionRow
from ashore.control.sessions.steps import Steps
from ashore.core.addresses import address_of
from ashore.core.clock import Clock
from ashore.core.errors import (
    AshoreError,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    SourceUnreachable,
    Unauthenticated,
)
from ashore.core.visible import first_hidden
from ashore.data.authority import Issuer, JwtVerifier
from ashore.data.authority.issuers import Fetch, IssuerKeys
from ashore.data.authority.jwt import subject_in
from ashore.kit.state import in_write

if TYPE_CHECKING:
    from sqlalchemy import Connection

FLOW_S: Final = 600
"""How long somebody may stay with a provider."""
MOST_FLOWS: Final = 10_000
MOST_OF_ONE: Final = 200
"""Log-ins of one address that have begun and not ended, so that nobody uses up those of all. A whole office may stand
behind one address."""
DISCOVERY_S: Final = 3_600.0
FRESH_S: Final = 60
"""How old the provider's own log-in may be, where it was told to ask anew."""
LOGOUT: Final = "http://schemas.openid.net/event/backchannel-logout"
_STRONG: Final = frozenset(("otp", "hwk", "swk", "sms", "fpt", "face", "iris", "sc", "pop"))
"""Values of `amr` (RFC 8176) that make two factors beside a password."""


class _Keys:
    """Stores verifiers as the keys of `IssuerKeys`."""

    def __init__(self) -> None:
        self.verifier = JwtVerifier(())

    def use(self, verifier: JwtVerifier | None) -> None:
        self.verifier = verifier or JwtVerifier(())

    def forget(self) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Endpoints of a provider."""

    authorize: str
    token: str


class Providers:
    """The providers of one worker. Used by its event loop."""

    def __init__(
        self, keeper: Keeper, steps: Steps, clock: Clock, *, fetch: Fetch, all_strong: Callable[[], bool]
    ) -> None:
        """Create it. `all_strong`: whether everyone must use a second factor."""
        self._keeper = keeper
        self._steps = steps
        self._clock = clock
        self._fetch = fetch
        self._all_strong = all_strong
        self._held = _Keys()
        self._keys = IssuerKeys(self._held, clock, fetch=fetch)
        self._sections: dict[str, ProviderSection] = {}
        self._issuers: dict[str, Issuer] = {}
        self._egress: tuple[str, ...] = ()
        self._found: dict[str, tuple[float, Endpoints]] = {}
        self._finding: dict[str, asyncio.Task[Endpoints]] = {}
        """One for each provider: visitors of one that hangs wait together, and open no connection each."""

    async def apply(
        self, sections: Sequence[ProviderSection], issuers: Sequence[Issuer], egress: Sequence[str]
    ) -> None:
        """Apply new providers. Tokens of a log-in are for the client, and not for the API."""
        by_name = {one.name: one for one in issuers}
        self._sections = {one.issuer: one for one in sections if one.issuer in by_name}
        self._issuers = {
            name: msgspec.structs.replace(by_name[name], audience=one.client_id) for name, one in self._sections.items()
        }
        self._egress, self._found, self._finding = tuple(egress), {}, {}
        await self._keys.apply(tuple(self._issuers.values()), egress)

    async def keep_fetching(self) -> None:
        """Fetch keys when due, until cancelled."""
        await self._keys.keep_fetching()

    # --- there

    async def to_provider(self, visit: Visit, name: str, fields: Mapping[str, str]) -> Outcome:
        """Send the browser to an OpenID provider. [POST /console/oidc/NAME]"""
        page = next_of(visit, fields.get("next", ""))
        row: SessionRow | None = None
        try:
            section, issuer = self._named(name)
            check_channel(visit)
            binding = self._keeper.cookies.read(visit, "visit")
            if fields.get("proof_again"):
                row = (await self._steps.check_posted(visit, fields)).row
                binding = self._keeper.cookies.read(visit, "session")
                if row.way != "provider" or row.owner.partition(":")[0] != name:
                    raise PermissionDenied("this session came from another place", hint="give the proof there")
            else:
                self._steps.check_first(visit, fields)
            endpoints = await self._endpoints(issuer, section)
            return await self._leave(visit, section, endpoints, binding, page, row)
        except AshoreError as fault:
            return self._steps.first_form(visit, page=page, error=fault)

    async def _leave(
        self,
        visit: Visit,
        section: ProviderSection,
        endpoints: Endpoints,
        binding: str,
        page: str,
        row: SessionRow | None,
    ) -> Outcome:
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        flow = Flow(
            state=digest_of(state), provider=section.issuer, verifier=verifier, nonce=nonce, visit=digest_of(binding),
            next_page=page, session="" if row is None else row.digest, origin=address_of(visit.origin),
            ends_s=self._keeper.now_s + FLOW_S,
        )  # fmt: skip

        def save(connection: Connection) -> bool:
            everyone, mine = sql.count_flows(connection, self._keeper.now_s, flow.origin)
            if everyone >= MOST_FLOWS or mine >= MOST_OF_ONE:
                return False
            sql.save_flow(connection, flow)
            return True

        if not await in_write(self._keeper.database, save):
            raise Overloaded("too many log-ins have begun and not ended", hint="try again later", retry_after_s=30.0)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code", "client_id": section.client_id, "redirect_uri": redirect_uri(visit),
            "scope": " ".join(section.scopes), "state": state, "nonce": nonce, "code_challenge": challenge,
            "code_challenge_method": "S256",
        }  # fmt: skip
        if section.acr:
            query["acr_values"] = section.acr
        if row is not None:
            query |= {"prompt": "login", "max_age": "0"}
        mark = "&" if "?" in endpoints.authorize else "?"
        return Outcome(status=303, goto=f"{endpoints.authorize}{mark}{urlencode(query)}")

    # --- and back

    async def from_provider(self, visit: Visit, query: Mapping[str, str]) -> Outcome:
        """Process the redirect from the provider. [GET /console/oidc]"""
        page = home(visit)
        try:
            flow = await self._take_flow(visit, query.get("state", ""))
            page = flow.next_page
            section, issuer = self._named(flow.provider)
            if query.get("iss", issuer.issuer) != issuer.issuer:
                raise PermissionDenied("another provider answered than was asked", hint="log in again")
            if "error" in query or not query.get("code"):
                said = "".join(char for char in query.get("error", "no code") if char.isprintable())[:100]
                raise Unauthenticated(f"{section.title or section.issuer} did not log you in: {said}", hint="try again")
            endpoints = await self._endpoints(issuer, section)
            token = await self._exchange(visit, section, endpoints, query["code"][:4096], flow.verifier)
            said_all = await self._believe(issuer, token)
            if not same(str(said_all.get("nonce", "")), flow.nonce):
                raise PermissionDenied("the token was made for another log-in", hint="log in again")
            if section.acr and said_all.get("acr") != section.acr:
                raise Unauthenticated(
                    f"the provider did not state acr {section.acr!r}", hint="check acr in [[console.provider]]"
                )
            return await self._come_in(visit, section, issuer, said_all, flow)
        except AshoreError as fault:
            return self._steps.first_form(visit, page=page, error=fault)

    async def _take_flow(self, visit: Visit, state: str) -> Flow:
        database, now_s = self._keeper.database, self._keeper.now_s
        flow = await in_write(database, sql.take_flow, digest_of(state[:200]), now_s) if state else None
        kind = "visit" if flow is None or not flow.session else "session"
        mine = self._keeper.cookies.read(visit, "session" if kind == "session" else "visit")
        if flow is None or not mine or not same(flow.visit, digest_of(mine)):
            raise PermissionDenied(
                "this log-in was not begun in this browser, was finished, or took longer than ten minutes",
                hint="log in again",
                rule="state",
            )
        return flow

    async def _exchange(
        self, visit: Visit, section: ProviderSection, endpoints: Endpoints, code: str, verifier: str
    ) -> str:
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri(visit),
            "code_verifier": verifier,
        }  # fmt: skip
        basic = ""
        if section.client_secret:
            basic = f"{quote(section.client_id, safe='')}:{quote(section.client_secret, safe='')}"
        else:
            form["client_id"] = section.client_id
        raw = await self._fetch(endpoints.token, self._egress, form=form, basic=basic)
        token = _document(raw, endpoints.token).get("id_token")
        if not isinstance(token, str) or len(token) > 65_536:
            raise SourceUnreachable(f"{endpoints.token} sent no id_token", hint='check scopes; they must have "openid"')
        return token

    async def _believe(self, issuer: Issuer, token: str) -> Mapping[str, Any]:
        """Return the claims of this issuer's ID token; unknown keys are fetched again."""
        try:
            signer, said = self._held.verifier.read(token, self._clock.now_s())
        except Unauthenticated:
            if issuer.name not in self._held.verifier.missed:
                raise
            await self._keys.look()
            signer, said = self._held.verifier.read(token, self._clock.now_s())
        if signer.name != issuer.name:
            raise Unauthenticated(
                f"{issuer.name} sent a token of {signer.name}", hint="have each provider sign its own tokens"
            )
        return said

    async def _come_in(
        self, visit: Visit, section: ProviderSection, issuer: Issuer, said: Mapping[str, Any], flow: Flow
    ) -> Outcome:
        claims = self._held.verifier.claims_in(issuer, said, 0.0)
        strong = section.second_factor or is_strong(claims.factors)
        factors = tuple(dict.fromkeys((*claims.factors, *(("mfa",) if strong else ()))))
        claims = replace(claims, factors=factors)
        if self._all_strong() and not strong:
            raise Unauthenticated(
                f"{section.title or section.issuer} did not say that it asked for a second factor",
                hint="have it send amr, or set second_factor = true in [[console.provider]] where it always asks",
            )
        at_s = said.get("auth_time")
        proof_s = int(at_s) if isinstance(at_s, int) and 0 <= at_s <= self._keeper.now_s + issuer.skew_s else 0
        owner = f"{claims.issuer}:{claims.subject}"
        kept = msgspec.json.encode(claims).decode()
        sid = said.get("sid", "")
        sid = sid[:200] if isinstance(sid, str) and not first_hidden(sid) else ""
        if flow.session:
            return await self._prove(visit, flow, owner, kept, sid, proof_s, factors)
        row = self._keeper.new_row(
            visit, stage="open", way="provider", owner=owner, tenant=claims.tenant, claims=kept, sid=sid,
            factors=factors, proof_s=proof_s,
        )  # fmt: skip
        self._keeper.principal_of(row)
        return Outcome(status=303, goto=flow.next_page, cookies=await self._keeper.open(visit, row))

    async def _prove(
        self, visit: Visit, flow: Flow, owner: str, kept: str, sid: str, proof_s: int, factors: tuple[str, ...]
    ) -> Outcome:
        found = await self._keeper.find(visit)
        if found is None or found.row.digest != flow.session or found.row.owner != owner:
            raise PermissionDenied("somebody else logged in there than here", hint="log out, then log in again")
        if self._keeper.now_s - proof_s > FRESH_S:
            raise Unauthenticated(
                "the provider did not ask you anew", hint="have it honour prompt=login and send auth_time"
            )
        self._keeper.record("session:prove", found.row, visit, detail={"by": "provider"}, on=None)
        new = replace(found.row, claims=kept, sid=sid, proof_s=proof_s, factors=factors)
        cookies = await self._keeper.open(visit, new, replaces=found.row)
        return Outcome(status=303, goto=flow.next_page, cookies=cookies)

    # --- log-out from its side

    async def ended_by_provider(self, fields: Mapping[str, str]) -> Outcome:
        """End the sessions that a logout token names (OpenID Connect Back-Channel Logout 1.0). Called by the provider
        itself, without a cookie: respond with the status, no body, `Cache-Control: no-store`. [POST
        /console/oidc/ended]
        """
        try:
            name, owner, sid = await self._logged_out(fields.get("logout_token", "")[:65_536])
        except AshoreError as fault:
            return Outcome(status=400, error=fault)

        def end(connection: Connection) -> None:
            for row in sql.end_sessions_of_provider(connection, name, owner=owner, sid=sid):
                self._keeper.record("session:end", row, None, reason=f"{name} ended it", on=connection)

        await in_write(self._keeper.database, end)
        self._keeper.forget()
        return Outcome(status=200)

    async def _logged_out(self, token: str) -> tuple[str, str, str]:
        """Return the provider, the person and the session of a logout token; one of the last two may be empty.

        Raises:
            AshoreError: it is malformed, invalid, or a replay.
        """
        now_s = self._clock.now_s()
        try:
            issuer, said = self._held.verifier.read(token, now_s, subject=False)
        except Unauthenticated:
            if not self._held.verifier.missed:
                raise
            await self._keys.look()
            issuer, said = self._held.verifier.read(token, now_s, subject=False)
        events, jti = said.get("events"), said.get("jti")
        person, sid = said.get(issuer.subject_claim, ""), said.get("sid", "")
        if not isinstance(events, dict) or LOGOUT not in events or "nonce" in said or not isinstance(jti, str):
            raise InvalidRequest("this is no logout token", hint="see OpenID Connect Back-Channel Logout 1.0, 2.4")
        if not isinstance(person, str) or not isinstance(sid, str) or not (person or sid):
            raise InvalidRequest("the logout token names neither sub nor sid", hint="have the provider send one")

        def take(connection: Connection) -> bool:
            ends_s = int(said["exp"] + issuer.skew_s) + 1
            return sql.take_logout(connection, digest_of(f"{issuer.name} {jti}"), ends_s)

        if not await in_write(self._keeper.database, take):
            raise InvalidRequest("this logout token came before", hint="send each once")
        return issuer.name, f"{issuer.name}:{subject_in(issuer, person)}" if person else "", sid

    # --- parts

    def _named(self, name: str) -> tuple[ProviderSection, Issuer]:
        section = self._sections.get(name)
        if section is None:
            raise NotFound(f"there is no provider {name[:100]!r}", hint="add it as [[console.provider]]")
        return section, self._issuers[name]

    async def _endpoints(self, issuer: Issuer, section: ProviderSection) -> Endpoints:
        if section.authorize_url:
            return Endpoints(authorize=section.authorize_url, token=section.token_url)
        kept = self._found.get(issuer.name)
        if kept is not None and self._clock.monotonic_s() < kept[0]:
            return kept[1]
        finding = self._finding.get(issuer.name)
        if finding is None or finding.done():
            finding = self._finding[issuer.name] = asyncio.create_task(self._find(issuer))
        return await asyncio.shield(finding)

    async def _find(self, issuer: Issuer) -> Endpoints:
        """Return what a provider says of itself."""
        url = issuer.issuer.rstrip("/") + "/.well-known/openid-configuration"
        said = _document(await self._fetch(url, self._egress), url)
        if said.get("issuer") != issuer.issuer:
            raise SourceUnreachable(
                f"{url} speaks for {str(said.get('issuer'))[:200]!r}, and not for {issuer.issuer!r}",
                hint="check issuer in [[access.issuer]]; it must be equal to the last slash",
            )
        found = Endpoints(
            authorize=str(said.get("authorization_endpoint", "")), token=str(said.get("token_endpoint", ""))
        )
        if not found.authorize.startswith(("https://", "http://")) or not found.token:
            raise SourceUnreachable(f"{url} names no endpoints", hint="set authorize_url and token_url")
        if self._issuers.get(issuer.name) == issuer:  # no reload came meanwhile
            self._found[issuer.name] = (self._clock.monotonic_s() + DISCOVERY_S, found)
        return found


def redirect_uri(visit: Visit) -> str:
    """Return the redirect URI. It must be registered exactly like this."""
    return f"{visit.base}{home(visit)}/oidc"


def is_strong(factors: Sequence[str]) -> bool:
    """Return whether `amr` shows two factors: `mfa`, or a password and something else (RFC 8176)."""
    named = {*factors}
    return "mfa" in named or bool(named & _STRONG and named & {"pwd", "pin", "kba"}) or len(named & _STRONG) > 1


def _document(raw: bytes, url: str) -> Mapping[str, Any]:
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError) as fault:
        raise SourceUnreachable(f"{url} sent no JSON") from fault
    if not isinstance(said, dict):
        raise SourceUnreachable(f"{url} sent no JSON object")
    return said
