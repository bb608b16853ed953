"""`ashore account`: who logs in to the console. An invitation is printed with the link that a person opens."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from ashore.cli.calls import Errand, cell, noun_of
from ashore.cli.target import find_target
from ashore.control.sessions.calls import CALLS, InvitedOut


def invite(errand: Errand, asked: msgspec.Struct) -> None:
    """Print an invitation as a link. Its code stands behind `#`, which a browser sends to no server."""
    made: InvitedOut = errand.ask(asked)
    if errand.as_json:
        errand.tell(made)
        return
    address = find_target(errand.server.url, key=errand.server.key).url.rstrip("/")
    print(f"give {made.account} this link; it works once, until {cell('expires_at', made.expires_at)}:")
    print(f"{address}{made.page}#{quote(made.invitation)}")


app = noun_of(
    "account", "Manage who logs in to the console, and how.", CALLS, conducts={"create": invite, "reset": invite}
)
