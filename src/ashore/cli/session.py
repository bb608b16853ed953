"""`ashore session`: sessions of the console, and the one-time login link."""

from __future__ import annotations

from ashore.cli.calls import noun_of
from ashore.control.sessions.calls import CALLS

app = noun_of("session", "List and end sessions of the console.", CALLS)


@app.command(name="link")
def print_link(*, url: str = "") -> None:
    """Print a one-time link into the console for whoever is at this machine, while the first key is valid.

    The link works once, within ten minutes, from this machine alone. It opens a session of the first key, which creates
    the three administrators. Links that were printed before stop working.

    Args:
        url: Address of the server; default: that of the server of this home.
    """
    from ashore.cli.bootstrap import owned_state
    from ashore.cli.target import local_address
    from ashore.control.sessions.office import make_first_link
    from ashore.core.clock import SystemClock
    from ashore.core.errors import Conflict
    from ashore.data.authority import Acts
    from ashore.kit.settings import read_settings

    settings = read_settings()
    address = (url or local_address(settings)).rstrip("/")
    with owned_state(settings) as (state, recorder):
        clock = SystemClock()
        token = make_first_link(state, Acts(state, recorder, clock), int(clock.now_s()))
    if not token:
        raise Conflict(
            "the first key no longer works, because the three administrators exist",
            hint=f"log in at {address}/console; if the administrators lost their keys: `ashore access revive --lost`",
        )
    print(f"{address}/console/first/{token}")
