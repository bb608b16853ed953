"""The port of this room for the console. `opened.find(Sessions)` gives it in an API worker; None: the console
is off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ashore.control.sessions.model import Outcome, Session, Visit
from ashore.core.errors import AshoreError
from ashore.data.authority import Principal

Fields = Mapping[str, str]
"""Fields of a posted form, or parameters of a query: the last one of each name."""


class Sessions(Protocol):
    """Sessions and the steps of logging in. Used by the event loop of one worker; hashing and SQL run on threads.

    A method that takes `fields` of a POST checks `Sec-Fetch-Site`, `Origin` and the field `csrf` itself, and returns a
    form with `error` if they are wrong. The path of the console is in brackets.
    """

    async def session_of(self, visit: Visit, *, active: bool = True) -> Session | None:
        """Return the open session of the cookie; None: none, ended, or not open yet.

        Costs no I/O within a few seconds of the last call. `active=False` for requests of the page itself (polling, an
        event stream), which do not renew a session.
        """
        ...

    async def principal_of(self, visit: Visit, *, active: bool = True) -> Principal | None:
        """Return `session_of(...).principal`."""
        ...

    def check_post(self, visit: Visit, session: Session, fields: Fields, *, token: str = "") -> None:
        """Check that a page of this session requested a change. Call it before every act of the console.

        Args:
            visit: The request.
            session: Its session.
            fields: The form; `csrf` is checked.
            token: The header `X-CSRF-Token`, for requests that post no form.

        Raises:
            PermissionDenied: the request came from another site, or from a page of another session.
        """
        ...

    def needs_proof(self, session: Session, fault: AshoreError) -> bool:
        """Return whether a call was refused only because it needs a fresh proof: then show `step_up_form`, and repeat
        the call.
        """
        ...

    async def log_in_form(self, visit: Visit, query: Fields) -> Outcome:
        """Return the first form, or that of the next step; a logged-in person goes to `next`. [GET /console/log-in]"""
        ...

    async def log_in(self, visit: Visit, fields: Fields) -> Outcome:
        """Check account and password. Answer and timing are the same for an unknown account and a wrong password. [POST
        /console/log-in]
        """
        ...

    async def give_code(self, visit: Visit, fields: Fields) -> Outcome:
        """Check the code of the second factor, or a recovery code. [POST /console/log-in/code]"""
        ...

    async def enrol(self, visit: Visit, fields: Fields) -> Outcome:
        """Start to set up a second factor (no `code` in fields), or confirm it by its first code, which shows the
        recovery codes. For an unfinished log-in that must have one, and for an open session. [POST /console/me/factor]
        """
        ...

    async def passkeys(self, visit: Visit, fields: Fields) -> Outcome:
        """Show the passkeys of a person and request a new one (neither `credential` nor `remove` in fields), store it,
        or remove one. As `enrol`, for an unfinished log-in and for an open session. [POST /console/me/passkey]
        """
        ...

    async def change_password(self, visit: Visit, fields: Fields) -> Outcome:
        """Set a new password. Other sessions of the account end. [POST /console/me/password]"""
        ...

    async def invitation_form(self, visit: Visit, query: Fields) -> Outcome:
        """Return the form for an invitation. [GET /console/invitation]"""
        ...

    async def redeem(self, visit: Visit, fields: Fields) -> Outcome:
        """Redeem an invitation once, with the person's own first password. [POST /console/invitation]"""
        ...

    async def first(self, visit: Visit, token: str) -> Outcome:
        """Open a session with the link that `ashore up` printed: once, within minutes, from this machine.
        [GET /console/first/TOKEN]
        """
        ...

    async def to_provider(self, visit: Visit, name: str, fields: Fields) -> Outcome:
        """Send the browser to an OpenID provider. [POST /console/oidc/NAME]"""
        ...

    async def from_provider(self, visit: Visit, query: Fields) -> Outcome:
        """Process the redirect from the provider. [GET /console/oidc]"""
        ...

    async def ended_by_provider(self, fields: Fields) -> Outcome:
        """End the sessions that a logout token names (OpenID Connect Back-Channel Logout 1.0). Called by the provider
        itself, without a cookie: respond with the status, no body, `Cache-Control: no-store`. [POST
        /console/oidc/ended]
        """
        ...

    async def step_up_form(self, visit: Visit, query: Fields) -> Outcome:
        """Return the form that asks for a fresh proof. [GET /console/step-up]"""
        ...

    async def step_up(self, visit: Visit, fields: Fields) -> Outcome:
        """Check a fresh proof; the session continues under a new cookie. [POST /console/step-up]"""
        ...

    async def log_out(self, visit: Visit, fields: Fields) -> Outcome:
        """End this session. [POST /console/log-out]"""
        ...
