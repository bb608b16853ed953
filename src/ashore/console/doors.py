"""The pages of logging in: which step of `sessions` stands behind which address, and how its outcome is shown."""

from __future__ import annotations

from typing import Final

from ashore.console.model import PAGE_HEADERS, Answer, Asked
from ashore.console.rendering import render
from ashore.console.words import Words
from ashore.sessions import FIELDS, Outcome, Sessions

ACTIONS: Final = {
    "log-in": "log-in",
    "code": "log-in/code",
    "enrol": "me/factor",
    "new-password": "me/password",
    "invitation": "invitation",
    "step-up": "step-up",
}
"""Where each form is sent, below `/console/`."""
KINDS: Final = {"account": "username", "code": "one-time-code", "password": "current-password", "invitation": "off"}
"""What a browser may fill in (`autocomplete`); anything else is a new password."""


async def open_door(sessions: Sessions, asked: Asked) -> Outcome | None:
    """Do a step of logging in; None: the address is none of them."""
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
        "me/password": sessions.change_password,
        "invitation": sessions.redeem,
        "step-up": sessions.step_up,
        "log-out": sessions.log_out,
    }
    step = steps.get(path)
    return None if step is None else await step(visit, fields)


def door_page(outcome: Outcome, asked: Asked, words: Words, look: dict[str, object]) -> Answer:
    """Return what a browser gets of an outcome."""
    cookies = tuple((b"set-cookie", one.encode("latin-1")) for one in outcome.cookies)
    if outcome.goto:
        headers = (*PAGE_HEADERS, (b"location", outcome.goto.encode("latin-1")), *cookies)
        return Answer(status=303, headers=headers)
    content = {
        **look,
        "outcome": outcome,
        "fields": FIELDS[outcome.form],
        "action": ACTIONS.get(outcome.form, ""),
        "kinds": KINDS,
    }
    status = outcome.error.http_status if outcome.error is not None and outcome.status == 200 else outcome.status
    return Answer(status=status, headers=(*PAGE_HEADERS, *cookies), body=render("door.html", asked, words, content))
