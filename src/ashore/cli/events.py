"""`ashore events`: events of jobs and releases, once or live."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
from cyclopts import App, Parameter

from ashore.cli.calls import Errand, Server, command_of
from ashore.cli.target import find_target, listen
from ashore.control.server.calls import CALLS, EventList, EventsIn
from ashore.core.errors import SourceUnreachable
from ashore.core.timespan import human_moment
from ashore.kit.call import ADMIN

app = App(name="events", help="Show what happens to jobs and releases.")

AGAIN_S: Final = 2.0
"""Between two tries to go on after the server was gone."""
TRIES: Final = 30
LIST: Final = next(call for call in CALLS if (call.noun, call.word) == ("events", "list"))
FOLLOW: Final = next(call for call in CALLS if (call.noun, call.word) == ("events", "follow"))


Follow = Annotated[bool, Parameter(negative=(), help="Go on with each new event, also after a restart of the server.")]


def _show_list(found: EventList) -> None:
    for one in found.items:
        _show(msgspec.to_builtins(one), as_json=False)


def _list_and_follow(errand: Errand, asked: EventsIn, *, follow: Follow = False) -> None:
    """Show the newest events; with --follow, continue."""
    found: EventList = errand.ask(asked)
    for one in found.items if follow else ():
        _show(msgspec.to_builtins(one), as_json=errand.as_json)
    if not follow:
        return errand.tell(found)
    for event in _followed(errand.server, found.reached):
        _show(event, as_json=errand.as_json)
    return None


app.default(command_of(LIST, _show_list, _list_and_follow))


def _followed(server: Server, last: int) -> Iterator[dict[str, Any]]:
    """Yield each new event. A server that is down is retried for a minute."""
    failed = 0
    while True:
        try:
            target = find_target(server.url, key=server.key)
            for number, data in listen(target, ADMIN + FOLLOW.path, last):
                last, failed = number, 0
                yield {"id": number, **data}
        except SourceUnreachable as fault:
            failed += 1
            if failed > TRIES:
                raise
            if failed == 1:
                print(f"{fault.message}; trying again", file=sys.stderr)
        time.sleep(AGAIN_S)


def _show(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(event).decode(), flush=True)
        return
    at = event.get("happened_at")
    when = "" if at is None else human_moment(at)
    about = " ".join(f"{name}={value}" for name, value in event.get("about", {}).items() if value not in (None, ""))
    print(f"{event['id']:>6}  {when}  {event['kind']:18}  {about}", flush=True)
