"""Forms, providers and the session keeper of one worker behind one interface."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ashore.control.sessions.doors import Doors
from ashore.control.sessions.factors import Factors
from ashore.control.sessions.gate import check_site, check_token
from ashore.control.sessions.keeper import Keeper
from ashore.control.sessions.model import Outcome, Session, Visit
from ashore.control.sessions.passwords import Passwords
from ashore.control.sessions.providers import Providers
from ashore.control.sessions.steps import Fields, Steps
from ashore.core.errors import AshoreError, PermissionDenied
from ashore.core.principal import WIDE
from ashore.data.authority import Authority, withheld
from ashore.kit.rights import SERVER

NO_FACTOR: Final = "Set up a second factor to do what belongs to an office."


class Sessions:
    """Sessions and the steps of logging in. Used by the event loop of one worker; hashing and SQL run on threads.

    `opened.find(Sessions)` gives it; None: the console is off. A step that takes `fields` of a POST checks
    `Sec-Fetch-Site`, `Origin` and the field `csrf` itself, and returns a form with `error` if they are wrong. The path
    of the console is in brackets.
    """

    def __init__(self, keeper: Keeper, steps: Steps, providers: Providers, authority: Authority) -> None:
        factors, passwords = Factors(steps), Passwords(steps)
        doors = Doors(steps, factors)
        self._keeper = keeper
        self._authority = authority
        self.log_in_form = doors.log_in_form
        self.log_in = doors.log_in
        self.give_code = doors.give_code
        self.enrol = factors.enrol
        self.passkeys = factors.passkeys
        self.change_password = passwords.change_password
        self.redeem = passwords.redeem
        self.first = doors.first
        self.step_up_form = doors.step_up_form
        self.step_up = doors.step_up
        self.log_out = doors.log_out
        self.to_provider = providers.to_provider
        self.from_provider = providers.from_provider
        self.ended_by_provider = providers.ended_by_provider
        self._passwords = passwords

    async def session_of(self, visit: Visit, *, active: bool = True) -> Session | None:
        """Return the open session of the cookie; None: none, ended, or not open yet.

        Costs no I/O within a few seconds of the last call. `active=False` for requests of the page itself (polling, an
        event stream), which do not renew a session.
        """
        session = await self._keeper.session_of(visit, active=active)
        if session is None or session.whole.scope == WIDE or not withheld(self._authority, session.whole):
            return session
        return replace(session, notices=(*session.notices, NO_FACTOR))

    async def invitation_form(self, visit: Visit, query: Fields) -> Outcome:
        return self._passwords.invitation_form(visit, query)

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
        check_site(visit)
        check_token(session.csrf, token or fields.get("csrf", ""))

    def needs_proof(self, session: Session, fault: AshoreError) -> bool:
        """Return whether a call was refused only because it needs a fresh proof: then show `step_up_form`, and repeat
        the call.
        """
        if not isinstance(fault, PermissionDenied) or session.principal == session.whole or not fault.action:
            return False
        if fault.resource == SERVER and self._authority.holds(session.whole, fault.action):
            return True  # refused before the resource is known
        return self._authority.decide(session.whole, fault.action, fault.resource).allowed
