"""`ashore learn`: feedback on answers, and models that learn from it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from ashore.cli.calls import Server, noun_of, table
from ashore.cli.operations import operation_command
from ashore.cli.sure import AsJson, print_json
from ashore.control.feedback.calls import CALLS, Explained, LearningStatus
from ashore.core.errors import Conflict
from ashore.core.timespan import human_seconds
from ashore.kit.call import call_named
from ashore.kit.settings import read_settings

if TYPE_CHECKING:
    pass


def _show_status(found: LearningStatus) -> None:
    columns = ("run", "state", "examples", "held", "candidate", "release", "why")
    items = [
        msgspec.structs.replace(one, why=one.why if not one.erased else f"{one.erased} erased; {one.why}")
        for one in found.items
    ]
    print(table(items, columns) if items else "no runs")
    if not found.next:
        print(f"runs begin {found.begins}")
    if found.running:
        print(f"a run is under way on {found.running}")
    for one in found.next:
        left_s = None if one.due_s is None else one.due_s - time.time()
        due = "" if left_s is None else f"in {human_seconds(left_s)}, " if left_s > 0 else "due now, "
        paused = one.model in found.paused
        print(
            f"{one.model}: {'' if paused else 'next run '}{due}{one.why}"
            + (f"; the last one: {one.last}" if one.last else "")
        )
    for model, why in found.paused.items():
        if model not in {one.model for one in found.next}:
            print(f"{model} is paused: {why}")


def _show_explained(found: Explained) -> None:
    run = found.run
    print(f"{run.run}: {run.state}" + (f" ({run.why})" if run.why else ""))
    learned = [one for one in found.people if not one.held]
    print(f"\nlearned from {sum(run.examples.values())} votes of {len(learned)} people; the most came from")
    for one in learned[:10]:
        print(f"  {one.votes:5d}  {one.tenant}/{one.voter}")
    held = [one for one in found.people if one.held]
    if held:
        print(f"\nheld {sum(one.votes for one in held)} votes")
        for one in held[:20]:
            print(f"  {one.votes:5d}  {one.tenant}/{one.voter}  {one.held}: {one.why}")
    if found.lines:
        print("\ngate")
        for line in found.lines:
            print(f"  {'passed' if line.passed else 'FAILED'}  {line.metric} {line.about}".rstrip() + f": {line.why}")
    if run.erased:
        print(f"\n{run.erased} people among its examples were erased since: retire what it made, and learn again")


app = noun_of(
    "learn",
    "See what users say of answers; learn from it.",
    CALLS,
    {"status": _show_status, "explain": _show_explained},
)
app.command(operation_command("learn run"), name="run")


@app.command
def dataset(model: str, /, *, as_json: AsJson = False) -> None:
    """Show the data set of a model's votes as it is now: examples by kind, and what is held back from it and why.

    Args:
        model: Alias whose answers were voted on.
    """
    from ashore.cli.bootstrap import open_learning
    from ashore.cli.bootstrap.operations.learning import learning_section

    settings = read_settings()
    with open_learning(settings, learning_section(settings)) as learning:
        found = learning.dataset(model)
    held = [{"id": one.row.feedback_id, "voter": one.row.person, "filter": one.filter, "why": one.why}
            for one in found.held]  # fmt: skip
    if as_json:
        print_json({"model": model, "digest": found.digest, "examples": found.counts, "held": held})
        return
    print(f"{len(found.examples)} examples" + "".join(f", {n} {kind}" for kind, n in sorted(found.counts.items())))
    for one in held:
        print(f"held {one['id']}  {one['voter']}  {one['filter']}: {one['why']}")


@app.command
def revert(model: str, /, *, why: str = "", url: str | None = None, key: str | None = None) -> None:
    """Go back to what answered before the release that was learned, and learn nothing more until `ashore learn resume`.

    Args:
        model: Alias.
        why: Reason, shown in the history.
        url: Address of the server; default: the server of this home.
        key: API key; default: ASHORE_API_KEY, or the home's first key.
    """
    from ashore.control.feedback.calls import PauseIn
    from ashore.control.releases.calls import CALLS as RELEASE_CALLS
    from ashore.control.releases.calls import SHOW_ALIAS, AliasIn, RollbackIn

    server = Server(url=url, key=key)
    alias = server.ask(SHOW_ALIAS, AliasIn(alias=model))
    if not any(_was_learned(server, model, release) for release in alias.weights_percent):
        raise Conflict(
            f"nothing that was learned answers under {model}: {', '.join(sorted(alias.weights_percent))} does",
            hint=f"`ashore learn pause {model}` pauses learning; `ashore release rollback {model}` goes back from any",
        )
    seen = alias.version
    rollback = call_named("rollback", RELEASE_CALLS)
    found = server.ask(rollback, RollbackIn(alias=model, why=why or "learn revert", version=seen))
    server.ask(call_named("pause", CALLS), PauseIn(model=model, why=why or "learn revert"))
    for one in found.items:
        print(f"{one.name} answers, or does once it has loaded; learning of {model} is paused")


def _was_learned(server: Server, model: str, release: str) -> bool:
    """Return whether a release, created by anyone, serves a model that a run learned."""
    from ashore.control.feedback.calls import StatusIn
    from ashore.control.releases.calls import SHOW_RELEASE, ReleaseIn

    status = call_named("status", CALLS)
    runs = server.ask(status, StatusIn(model=model, limit=1000)).items
    if release in {run.release for run in runs}:
        return True
    made_of = server.ask(SHOW_RELEASE, ReleaseIn(release=release)).model
    return made_of.partition("@")[0] in {run.candidate for run in runs if run.candidate}
