"""Sessions of the console, the origin of a visit, and the outcome of a log-in step. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from ashore.core.errors import AshoreError
from ashore.data.authority import Principal

CONSOLE: Final = "/console"
"""Path, behind the prefix of the site, below which alone a cookie counts."""

Way = Literal["password", "directory", "provider", "first-link"]
"""How a session was opened: a local account, the password of a directory, an OpenID provider, or the link that `ashore
up` printed."""
TYPED: Final = ("password", "directory")
"""Ways with a password that is typed here, and a second factor of ashore."""
Stage = Literal["code", "enrol", "new-password", "open"]
"""What the session still lacks. Nothing but its forms can be used before it is `open`:

- `code`: the password was right, the code of the second factor is missing;
- `enrol`: this account must have a second factor, and has none;
- `new-password`: the password has expired, or was given out by somebody else.
"""
Form = Literal[
    "log-in", "code", "enrol", "recovery-codes", "new-password", "invitation", "step-up", "passkey", "message"
]
"""Which page an outcome asks for. Its fields are in `FIELDS`."""

FIELDS: Final[Mapping[Form, tuple[str, ...]]] = {
    "log-in": ("account", "password"),
    "code": ("code",),
    "enrol": ("code",),
    "recovery-codes": (),
    "new-password": ("password", "new_password", "again"),
    "invitation": ("account", "invitation", "new_password", "again"),
    "step-up": ("proof",),
    "passkey": (),
    "message": (),
}
"""Fields that a person fills in each form. Every form also posts `csrf` (`Outcome.csrf`), and `next` where to go then.

`code` takes six digits or a recovery code. `proof` takes a code where the account has a second factor, and the password
where it has none. Where `Outcome.passkey` is set, `credential` takes in its place what an authenticator gave.
"""

SECOND: Final = frozenset({"otp", "hwk"})
"""What the factors of a session have beside a password (RFC 8176): a code, or a passkey."""


def has_second(factors: Iterable[str]) -> bool:
    """Return whether a second factor was used."""
    return not SECOND.isdisjoint(factors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request to the console, as far as log-in is concerned. The caller fills it from the HTTP request."""

    origin: str = ""
    """Address of the client as the edge says it (`HttpApp.origin_of`); empty: this machine."""
    passed_on: bool = False
    """Whether a proxy passed it on that is no edge of ours: then `origin` is that of the proxy, and says nothing."""
    request_id: str = ""
    base: str
    """Scheme, host and port that the browser used, without a path: `https://ai.corp.example`, `http://127.0.0.1:8080`.
    From the `Host` header and, behind an edge, from what the edge says; never from a header that a client may set."""
    prefix: str = ""
    """Path under which a proxy offers this server, without a slash at its end: `` or `/ashore`."""
    cookie: str = ""
    """The whole `Cookie` header."""
    agent: str = ""
    """The `User-Agent` header, shown in the list of sessions."""
    fetch_site: str = ""
    """The `Sec-Fetch-Site` header."""
    origin_said: str = ""
    """The `Origin` header."""
    purpose: str = ""
    """The `Sec-Purpose` header. A browser that only looks ahead uses up no link."""
    language: str = ""

    @property
    def is_secure(self) -> bool:
        """Whether the browser speaks TLS."""
        return self.base.startswith("https://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An open session. Contains no secret but `csrf`."""

    id: str
    """Public name for lists and the audit log, `ses_0a1b2c3d4e5f`. It opens nothing."""
    principal: Principal
    """Who acts, for every call. While no recent proof was given (`is_fresh`), its scope lacks the changes that belong
    to an office, so that the authority refuses them wherever it is asked."""
    whole: Principal
    """The same person as a fresh proof would have it: for what a page offers, never for doing it."""
    way: Way
    csrf: str
    """Token that each form of this session posts as `csrf`."""
    opened_s: int
    active_s: int
    """Last request by a person. Requests that poll (`active=False`) do not count."""
    ends_s: int
    """When it ends at the latest, whatever is done."""
    idle_ends_s: int
    """When it ends if nothing more is done."""
    is_fresh: bool
    """Whether a proof was given within the last minutes."""
    origin: str = ""
    agent: str = ""
    account: str = ""
    """Id of the account that logged in here; empty for a provider's people and the first link."""
    has_factor: bool = False
    notices: tuple[str, ...] = ()
    """What the person should be told on the next page, as plain sentences: the password expires in 3 days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """An OpenID provider that the log-in page offers."""

    name: str
    """Name of its `[[access.issuer]]`."""
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """A second factor being set up. Shown once."""

    uri: str
    """`otpauth://totp/…`, for a QR code that the page draws, or as a link."""
    secret: str
    """The same secret as base32 in groups of four, to type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Result of a step: a redirect or a form. The console turns it into a response."""

    status: int = 200
    """HTTP status: 303 where `goto` is set; else 200, or that of `error`."""
    goto: str = ""
    """Path of this server, with the prefix, or the address of a provider: answer with `Location` and nothing else."""
    cookies: tuple[str, ...] = ()
    """Values of `Set-Cookie` headers, to be sent as they are."""
    form: Form = "message"
    """Which form to show where there is no `goto`."""
    csrf: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    """What the form is filled with. Never a password or code."""
    error: AshoreError | None = None
    """What went wrong; `error.param` is the field, where it is one."""
    providers: tuple[Provider, ...] = ()
    """Offered on `log-in`, each by a POST to `/console/oidc/NAME`."""
    local: bool = True
    """Whether `log-in` offers account and password."""
    ended: bool = False
    """Whether this browser had a session that has ended: `log-in` says so."""
    enrolment: Enrolment | None = None
    """On `enrol`."""
    passkey: str = ""
    """What the browser is to ask of an authenticator, as JSON: on `code` and `step-up` for a proof, on `enrol` and
    `passkey` for a new one. Empty: nothing, here."""
    passkeys: tuple[tuple[str, str], ...] = ()
    """On `passkey`: id and title of those that there are."""
    recovery_codes: tuple[str, ...] = ()
    """On `recovery-codes`: shown once, with a link to `values["next"]`."""
    rules: tuple[str, ...] = ()
    """On forms with a new password: what it must have, a sentence each."""
