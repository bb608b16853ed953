"""`ashore reload`: apply a changed ashore.toml to the server that runs from this home."""

from __future__ import annotations

import sys
from typing import Annotated

import cyclopts
import msgspec

from ashore.cli.sure import json_text
from ashore.cli.upchecks import refuse_what_cannot_start
from ashore.cli.upplan import ReloadOrder, listening_of, plan_and_fetch, plan_without_fetching, request_of, show_changes
from ashore.core.errors import InvalidRequest, InvalidSpec, RemoteRefused
from ashore.core.nearest import did_you_mean
from ashore.data.engines import Change, ModelPlan, Plan
from ashore.kit.processes import ask
from ashore.kit.settings import read_settings
from ashore.machine.config import Listening
from ashore.machine.deployment import with_standing
from ashore.machine.planning import compare, number_releases

app = cyclopts.App(name="reload", help="Apply a changed ashore.toml to a running server.")


@app.default
def reload(
    *,
    take: Annotated[tuple[str, ...], cyclopts.Parameter(negative="")] = (),
    dry_run: bool = False,
    json_: Annotated[bool, cyclopts.Parameter(name="--json")] = False,
) -> int:
    """Read ashore.toml again, show what changes, and apply it without dropping a stream.

    New engine hosts load beside the old ones. When they are ready, new requests go to them, and the old ones stop after
    their last answer. If the change cannot be served, everything stays as it was. A second reload waits for the first.
    A release that was promoted stays live, and the output says where ashore.toml disagrees.

    Args:
        take: Alias to serve as ashore.toml says, in place of the release that was promoted.
        dry_run: Show the difference and change nothing.
        json_: Print the difference as JSON.
    """
    home = read_settings().home
    status = _ask({"op": "status"})
    request = request_of(status["request"])
    running = msgspec.convert(status["plan"], Plan)
    spec, settings = request.spec(), request.settings()
    if settings.home != home:
        raise InvalidSpec(
            f"the file sets the home to {settings.home.root}", hint=f"set ASHORE_HOME to {home.root} instead"
        )
    serving = msgspec.convert(status["listening"], Listening)
    wanted = listening_of(spec, settings)
    moved = serving.kept_but_changed(wanted)
    if moved:
        raise InvalidSpec(
            f"these keys cannot change while the server is running: {'; '.join(moved)}",
            hint="stop `ashore up` and start it again, or restore the old values",
        )
    planned, notes = (plan_without_fetching if dry_run else plan_and_fetch)(spec, settings, running.inventory, running)
    refuse_what_cannot_start(spec, planned)
    plan = number_releases(running, planned)
    standing = msgspec.convert(status.get("standing", {}), dict[str, ModelPlan])
    for alias in take:
        if alias not in standing:
            raise InvalidRequest(
                f"no promoted release stands in the place of what ashore.toml says of {alias[:80]!r}",
                hint=did_you_mean(alias[:80], standing) if standing else "omit --take",
            )
    changes = with_standing(compare(running, plan), plan, standing, take)
    if not request.config:
        notes = (*notes, "this server was started without --config, so no ashore.toml is read")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    sections, keys = serving.sections_to_take(wanted), serving.keys_to_take(wanted)
    print(_json(changes, sections, keys) if json_ else show_changes(changes, keys), flush=True)
    if dry_run:
        return 0
    _ask({"op": "apply", "order": msgspec.to_builtins(ReloadOrder(plan=plan, listening=wanted, taken=take))})
    moved_rules = (running.demand, running.shares) != (plan.demand, plan.shares)
    changed = sections or moved_rules or any(change.kind != "keep" for change in changes)
    print("applied" if changed else "nothing to change", file=sys.stderr)
    return 0


def _ask(question: dict[str, object]) -> dict[str, object]:
    """Return the last line of the server's answer."""
    last: dict[str, object] = {}
    for last in ask(read_settings().home.control_socket, question):
        if "error" in last:
            raise RemoteRefused(str(last["error"]), hint=str(last.get("hint", "")))
    return last


def _json(changes: tuple[Change, ...], sections: tuple[str, ...], keys: tuple[str, ...]) -> str:
    document = {"items": changes, "sections": sections, "keys": keys}
    return json_text(document)
