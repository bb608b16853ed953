"""`[console]`: who may log in to the console, how, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from msgspec import Meta, field

from ashore.control.sessions.rules import MLPS3, Rules, rules_of
from ashore.core.errors import InvalidSpec
from ashore.core.nearest import did_you_mean
from ashore.kit.section import Kept, Section, toml

OrProfile = Annotated[int, Meta(ge=0, le=86_400)]

_BOUNDS: Final = {
    "idle_s": (60, 86_400), "longest_s": (60, 86_400), "fresh_s": (60, 86_400), "most_sessions": (1, 1_000),
    "tries": (3, 20), "lock_s": (60, 86_400), "password_chars": (8, 64), "password_kinds": (1, 4),
    "password_max_age_days": (1, 3_650), "password_former": (1, 24),
}  # fmt: skip
"""Of keys that are given."""
_TIGHTER_IS_LESS: Final = ("idle_s", "longest_s", "fresh_s", "tries", "most_sessions", "password_max_age_days")


class ProviderSection(Section, frozen=True, kw_only=True):
    """An OpenID provider that people log in with, by the authorization code flow with PKCE."""

    issuer: Annotated[str, Meta(examples=['"corp"'])]
    """Name of the `[[access.issuer]]` whose keys, algorithms and claims count for it."""
    client_id: Annotated[str, Meta(examples=['"ashore-console"'])]
    """Id under which the provider knows this console. Its ID tokens have it in `aud`."""
    client_secret: str = ""
    """Secret of the client, better as `{ from_file = "…" }`; empty: a public client, which PKCE alone protects."""
    title: str = ""
    """What the button of the log-in page says; empty: the name of the issuer."""
    scopes: tuple[str, ...] = ("openid", "profile")
    """Scopes to ask for; add the one that brings groups."""
    authorize_url: str = ""
    """Where the browser is sent; empty: from the provider's discovery document, as is `token_url`."""
    token_url: str = ""
    """Where codes are exchanged."""
    acr: str = ""
    """Value of `acr` that the provider must state, for providers that name their second factor so."""
    second_factor: bool = False
    """Take it that the provider asks for a second factor itself. Otherwise a person who needs one must come with `amr`
    of two factors (`mfa`, or `otp`, `hwk` … beside another)."""

    def checked(self, where: str) -> Self:
        if not self.issuer or not self.client_id:
            raise InvalidSpec(f"{where} needs issuer and client_id", hint="issuer is the name of an [[access.issuer]]")
        if "openid" not in self.scopes:
            raise InvalidSpec(f"{where} scopes lack openid", hint='without it there is no ID token; add "openid"')
        for name, url in (("authorize_url", self.authorize_url), ("token_url", self.token_url)):
            parts = urlsplit(url)
            if url and parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
                raise InvalidSpec(f"{where} {name} = {url!r}", hint="use https; codes are worth a log-in")
        if bool(self.authorize_url) != bool(self.token_url):
            raise InvalidSpec(f"{where} has one of authorize_url and token_url", hint="give both, or none of them")
        return self


class ConsoleSection(Section, frozen=True, kw_only=True):
    """The console under `/console`, and how people log in to it."""

    enabled: Kept[bool] = True
    """Offer the console."""
    profile: Literal["", "mlps3"] = ""
    """`mlps3`: the rules of GB/T 22239-2019 level 3 (等保三级), 8.1.4.1 a, b and d. Keys below may be stricter than the
    profile, and not looser."""
    local: bool = True
    """Let local accounts log in by password. Without, people come from a provider; the first link still works."""
    chat_model: str = ""
    """Alias that the page Chat offers first. Empty, or one that the reader may not ask: the first that they may."""
    factor: Literal["", "all", "offices", "nobody"] = ""
    """Who must have a second factor: `all`, `offices` (holders of one of the three offices, and model owners) or
    `nobody`. Empty: as the profile says: offices; mlps3: all."""
    idle_s: OrProfile = 0
    """Seconds without a person's request after which a session ends; polling by a page does not count. 0: as the
    profile says: 900."""
    longest_s: OrProfile = 0
    """Seconds after which a session ends whatever is done. 0: as the profile says: 36,000; mlps3: 28,800."""
    fresh_s: OrProfile = 0
    """Seconds for which a proof (code or password) opens acts of an office. 0: as the profile says: 300."""
    most_sessions: OrProfile = 0
    """Sessions that one person may have at once; one more ends the oldest. 0: as the profile says: 10; mlps3: 3."""
    tries: OrProfile = 0
    """Wrong passwords or codes for one account, within 15 minutes, that lock it. 0: as the profile says: 5."""
    lock_s: OrProfile = 0
    """Seconds of the first lock; each further one lasts twice as long, at most an hour. 0: as the profile says: 900;
    mlps3: 1,800."""
    password_chars: OrProfile = 0
    """Fewest characters of a password. 0: as the profile says: 12; mlps3: 10."""
    password_kinds: OrProfile = 0
    """Kinds of characters that a password must have: small letters, capitals, digits, others. 0: as the profile says:
    1; mlps3: 3."""
    password_max_age_days: OrProfile = 0
    """Days after which a password must be changed. 0: as the profile says: never; mlps3: 90."""
    password_former: OrProfile = 0
    """Former passwords that may not be used again. 0: as the profile says: 5."""
    providers: Annotated[tuple[ProviderSection, ...], toml("provider")] = field(default=())

    @property
    def rules(self) -> Rules:
        """What is in force: the keys that were given, over those of the profile."""
        given = {name: getattr(self, name) for name in Rules.__dataclass_fields__}
        return rules_of(self.profile, {name: value for name, value in given.items() if value})

    @property
    def calls(self) -> Mapping[str, str]:
        return {f"provider {one.issuer} token_url": one.token_url for one in self.providers if one.token_url}

    def fits(self, others: Mapping[str, Any], where: str) -> None:
        known = [one.name for one in others["access"].issuers]
        for one in self.providers:
            if one.issuer not in known:
                raise InvalidSpec(
                    f"{where} [[console.provider]] issuer = {one.issuer!r} is the name of no [[access.issuer]]",
                    hint=did_you_mean(one.issuer, known) or "add an [[access.issuer]] of this name",
                )

    def checked(self, where: str) -> Self:
        names = [one.issuer for one in self.providers]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidSpec(f"{where} has two providers of the issuer {twice!r}", hint="give each issuer one")
        for name, (least, most) in _BOUNDS.items():
            given = getattr(self, name)
            if given and not least <= given <= most:
                raise InvalidSpec(f"{where} {name} = {given}", hint=f"expected {least:,} to {most:,}, or 0")
        if self.profile == "mlps3":
            self._check_profile(where)
        return self

    def _check_profile(self, where: str) -> None:
        for name in Rules.__dataclass_fields__:
            given, least = getattr(self, name), getattr(MLPS3, name)
            if not given or given == least:
                continue
            looser = given > least if name in _TIGHTER_IS_LESS else name == "factor" or given < least
            if looser:
                raise InvalidSpec(
                    f'{where} {name} = {given!r} is looser than profile = "mlps3" allows; its value is {least!r}',
                    hint="leave the key out, or make it stricter",
                )
