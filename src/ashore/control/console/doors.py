"""Log-in pages: which step of `sessions` each address runs, and how its outcome is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from ashore.control.console.acts import Acts
from ashore.control.console.model import PAGE_HEADERS, Answer, Asked
from ashore.control.console.qr import qr_path
from ashore.control.console.rendering import render
from ashore.control.console.words import Words
from ashore.control.sessions import FIELDS, Outcome, Sessions
from ashore.core.errors import AshoreError, PermissionDenied
from ashore.data.authority import Authenticator

ACTIONS: Final = {
    "log-in": "log-in",
    "code": "log-in/code",
    "enrol": "me/factor",
    "new-password": "me/password",
    "invitation": "invitation",
    "step-up": "step-up",
}
"""Target of each form, below `/console/`."""
KINDS: Final = {"account": "username", "code": "one-time-code", "password": "current-password", "invitation": "off"}
"""What a browser may fill in (`autocomplete`); anything else is a new password."""


CREATE: Final = "account create"
"""The call behind the page of a key."""


async def open_door(sessions: Sessions, asked: Asked) -> Outcome | None:
    """Run a log-in step; None: the address is not one of them."""
    visit, fields, path = asked.visit, asked.fields, asked.path
    if asked.method == "GET":
        if path == "log-in":
            return await sessions.log_in_form(visit, fields)
        if path == "invitation":
            return await sessions.invitation_form(visit, fields)
        if path.startswith("first/"):
            return await sessions.first(visit, path.removeprefix("first/"))
        if path == "oidc":
            return await sessions.from_provider(visit, fields)
        if path == "step-up":
            return await sessions.step_up_form(visit, fields)
        return None
    if path.startswith("oidc/") and path != "oidc/ended":
        return await sessions.to_provider(visit, path.removeprefix("oidc/"), fields)
    steps = {
        "log-in": sessions.log_in,
        "log-in/code": sessions.give_code,
        "me/factor": sessions.enrol,
        "me/passkey": sessions.passkeys,
        "me/password": sessions.change_password,
        "invitation": sessions.redeem,
        "step-up": sessions.step_up,
        "log-out": sessions.log_out,
    }
    step = steps.get(path)
    return None if step is None else await step(visit, fields)


async def key_door(
    sessions: Sessions, authenticator: Authenticator, acts: Acts, asked: Asked, words: Words, look: dict[str, object],
    *, refused: Callable[[AshoreError], None],
) -> Answer:  # fmt: skip
    """Return the page where a person exchanges their own key for a password: the key serves as an invitation. `refused`
    records why that failed. [/console/key]
    """
    fault: AshoreError | None = None
    if asked.method == "POST":
        try:
            check_site(asked)
            principal = authenticator.authenticate(asked.fields.get("key", "").strip(), asked.visit.origin)
            placed = acts.atlas.by_key[CREATE]
            invited = await acts.perform(asked, principal, placed, placed.call.takes(account=principal.id))
            outcome = await sessions.invitation_form(asked.visit, {"account": principal.id})
            values = {**outcome.values, "invitation": invited.invitation}
            return await door_page(replace(outcome, values=values), asked, words, look)
        except AshoreError as problem:
            fault = problem
            refused(problem)
    status = 200 if fault is None else fault.http_status
    return Answer(status=status, body=render("key.html", asked, words, {**look, "fault": fault}))


def check_site(asked: Asked) -> None:
    """Check that a form without a session was sent by a page of this server.

    Raises:
        PermissionDenied: another site sent it.
    """
    visit = asked.visit
    if visit.fetch_site not in ("", "same-origin") or visit.origin_said not in ("", visit.base):
        raise PermissionDenied("another site sent this form", action="access:use", resource="server")


async def door_page(outcome: Outcome, asked: Asked, words: Words, look: dict[str, object]) -> Answer:
    """Return the response for an outcome."""
    cookies = tuple((b"set-cookie", one.encode("latin-1")) for one in outcome.cookies)
    if outcome.goto.startswith(("https://", "http://")):  # a form may submit to this site only, redirects included
        body = render("leave.html", asked, words, {**look, "goto": outcome.goto})
        return Answer(headers=(*PAGE_HEADERS, *cookies), body=body)
    if outcome.goto:
        headers = (*PAGE_HEADERS, (b"location", outcome.goto.encode("latin-1")), *cookies)
        return Answer(status=303, headers=headers)
    uri = "" if outcome.enrolment is None else outcome.enrolment.uri
    qr, wide = await asyncio.to_thread(qr_path, uri) if uri else ("", 0)  # milliseconds
    content = {
        **look,
        "outcome": outcome,
        "qr": qr,
        "wide": wide,
        "fields": FIELDS[outcome.form],
        "kept": {"invitation": asked.fields.get("invitation", ""), **outcome.values},
        "action": ACTIONS.get(outcome.form, ""),
        "kinds": KINDS,
        "passkey_at": "me/passkey" if outcome.form in ("enrol", "passkey") else ACTIONS.get(outcome.form, ""),
    }
    status = outcome.error.http_status if outcome.error is not None and outcome.status == 200 else outcome.status
    return Answer(status=status, headers=(*PAGE_HEADERS, *cookies), body=render("door.html", asked, words, content))
