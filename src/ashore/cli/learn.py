"""`ashore learn`: what users say of answers, and a model that learns from it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import Parameter

from ashore.cli.asjob import also_a_job
from ashore.cli.calls import Server, noun_of, table
from ashore.cli.interrupted import asked_to_stop
from ashore.core import call_named, human_seconds
from ashore.errors import Conflict, NotReady
from ashore.learning.calls import CALLS, Explained, LearningStatus
from ashore.settings import Settings, read_settings

if TYPE_CHECKING:
    from ashore.learning import LearningSection
    from ashore.learning.runner import Planned
    from ashore.learning.runs import Run

AsJson = Annotated[bool, Parameter(name="--json", negative=())]
Flag = Annotated[bool, Parameter(negative=())]
LOOK_EVERY_S = 2.0
UNLIKE = "likelihood"
"""Measure of a shadow that a model which learned anything fails: how likely it finds what the live release says."""
EXIT_REFUSED = 1
EXIT_INTERRUPTED = 130


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


@app.command
@also_a_job("learn run")
def run(
    model: str,
    /,
    *,
    dry_run: Flag = False,
    release: bool = True,
    url: str | None = None,
    key: str | None = None,
    as_json: AsJson = False,
) -> int:
    """Learn from the votes on a model's answers: make an adapter of them, judge it, and shadow a release of it.

    Runs on processors that nobody else wants. What passes the gate of [learning] becomes a release and is shadowed;
    promote it with `ashore release promote`, or let [learning] promote = "automatic" do it. Exits with 1 if the gate
    refuses it. Ctrl-C stops after the current step; to go on, also after a crash, run the same command again.

    Parameters
    ----------
    model
        Alias whose answers were voted on.
    dry_run
        Show what would be learned, what is held back and why, and do nothing.
    release
        Make a release of what passes; with --no-release, leave it in the store.
    url
        Address of the server that makes the release; default: the server of this home.
    key
        API key; default: ASHORE_API_KEY, or the home's first key.
    as_json
        Print JSON.
    """
    from ashore.bootstrap import open_learning
    from ashore.processes import become_idle

    settings = read_settings()
    section = learning_section(settings)
    with open_learning(settings, section, say=lambda line: print(line, file=sys.stderr)) as learning:
        if dry_run:
            planned = learning.plan(model)
            _print(_planned(planned)) if as_json else _show_planned(planned)
            return 0
        become_idle()
        releasing = ServerReleases(Server(url=url, key=key), section) if release else None
        with asked_to_stop() as stop:
            done = learning.run(model, releasing=releasing, stop=stop)
            if releasing is not None and done.state == "released":
                print(releasing.follow(model, done.release, why=f"learn {done.run_id}", stop=stop), file=sys.stderr)
    _print(_ended(done)) if as_json else _show_ended(done)
    if done.state == "stopped":
        return EXIT_INTERRUPTED
    return EXIT_REFUSED if done.state == "refused" else 0


@app.command
def dataset(model: str, /, *, as_json: AsJson = False) -> None:
    """Show the data set of a model's votes as it is now: examples by kind, and what is held back from it and why.

    Parameters
    ----------
    model
        Alias whose answers were voted on.
    as_json
        Print JSON.
    """
    from ashore.bootstrap import open_learning

    settings = read_settings()
    with open_learning(settings, learning_section(settings)) as learning:
        found = learning.dataset(model)
    held = [{"id": one.row.feedback_id, "voter": one.row.person, "filter": one.filter, "why": one.why}
            for one in found.held]  # fmt: skip
    if as_json:
        _print({"model": model, "digest": found.digest, "examples": found.counts, "held": held})
        return
    print(f"{len(found.examples)} examples" + "".join(f", {n} {kind}" for kind, n in sorted(found.counts.items())))
    for one in held:
        print(f"held {one['id']}  {one['voter']}  {one['filter']}: {one['why']}")


@app.command
def revert(model: str, /, *, why: str = "", url: str | None = None, key: str | None = None) -> None:
    """Go back to what answered before the release that was learned, and learn nothing more until `ashore learn resume`.

    Parameters
    ----------
    model
        Alias.
    why
        Reason, shown in the history.
    url
        Address of the server; default: the server of this home.
    key
        API key; default: ASHORE_API_KEY, or the home's first key.
    """
    from ashore.learning.calls import PauseIn
    from ashore.releases.calls import CALLS as RELEASE_CALLS
    from ashore.releases.calls import SHOW_ALIAS, AliasIn, RollbackIn

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
    """Return whether a release serves a model that a run learned; anybody may have made the release."""
    from ashore.learning.calls import StatusIn
    from ashore.releases.calls import SHOW_RELEASE, ReleaseIn

    status = call_named("status", CALLS)
    runs = server.ask(status, StatusIn(model=model, limit=1000)).items
    if release in {run.release for run in runs}:
        return True
    made_of = server.ask(SHOW_RELEASE, ReleaseIn(release=release)).model
    return made_of.partition("@")[0] in {run.candidate for run in runs if run.candidate}


class ServerReleases:
    """Implements `Releasing` over a server's own calls, with the rights of whoever asks."""

    def __init__(self, server: Server, section: LearningSection) -> None:
        self._server, self._section = server, section

    def shadow(self, alias: str, model: str, *, why: str) -> str:
        from ashore.releases.calls import CALLS as RELEASE_CALLS
        from ashore.releases.calls import SHOW_ALIAS, AliasIn, NewRelease, ShadowIn

        calls = {call.word: call for call in RELEASE_CALLS if call.noun == "release"}
        made = self._server.ask(calls["create"], NewRelease(model=model, alias=alias))
        seen = self._server.ask(SHOW_ALIAS, AliasIn(alias=alias)).version
        # A shadow is also judged by how likely it finds the live answers, and this one was taught others.
        self._server.ask(calls["shadow"], ShadowIn(release=made.name, automatic=False, why=why, version=seen))
        return str(made.name)

    def follow(self, alias: str, release: str, *, why: str, stop: Callable[[], bool]) -> str:
        """Where `[learning] promote` is automatic, make a shadow a canary once it was compared for `step_s`, which is
        promoted after its last step; return what became of it. One that was found worse in anything but saying what the
        live release says stays a shadow."""
        from ashore.releases.calls import CALLS as RELEASE_CALLS
        from ashore.releases.calls import SHOW_ALIAS, SHOW_EVIDENCE, SHOW_RELEASE, AliasIn, CanaryIn, ReleaseIn

        if self._section.promote != "automatic":
            return f"{release} is shadowed; when it was compared: ashore release promote {release}"
        until = time.monotonic() + self._section.step_s
        while (state := self._server.ask(SHOW_RELEASE, ReleaseIn(release=release)).state) in ("warming", "shadow"):
            if state == "shadow" and time.monotonic() >= until:
                break
            if stop():
                return f"{release} stays a shadow: asked to stop"
            time.sleep(LOOK_EVERY_S)
        if state != "shadow":
            return f"{release} is {state}: ashore release show {release}"
        for found in self._server.ask(SHOW_EVIDENCE, ReleaseIn(release=release)).items:
            if found.verdict == "worse" and found.measure != UNLIKE:
                return f"{release} stays a shadow: {found.summary}"
        seen = self._server.ask(SHOW_ALIAS, AliasIn(alias=alias)).version
        canary = next(call for call in RELEASE_CALLS if call.noun == "release" and call.word == "canary")
        asked = CanaryIn(
            release=release, share_percent=5.0, steps_percent=[20.0, 50.0], every_s=int(self._section.step_s),
            then_promote=True, why=why, version=seen,
        )  # fmt: skip
        self._server.ask(canary, asked)
        return f"{release} is a canary of 5 %, then 20 and 50 %, and is promoted unless it is found worse"


def learning_section(settings: Settings) -> LearningSection:
    """Return `[learning]` as the server of this home was told it.

    Raises:
        NotReady: no server was started from this home.
    """
    from ashore.learning import LearningSection
    from ashore.serving import read_topology

    if not settings.home.topology.is_file():
        raise NotReady("no server was started from this home, so [learning] is not known", hint="run `ashore up`")
    return msgspec.convert(read_topology(settings.home.topology).told("learning"), LearningSection)


def _planned(planned: Planned) -> dict[str, Any]:
    return {
        "run": planned.run.run_id,
        "model": planned.parent.reference,
        "compared_with": planned.live,
        "examples": planned.dataset.counts,
        "held": planned.dataset.held_counts,
        "compared": len(planned.asked),
        "judged": planned.num_judged,
        "has_tasks": planned.has_tasks,
        "replay": planned.num_replay,
        "steps": planned.num_steps,
        "tokens": planned.num_tokens,
        "epochs": planned.how.epochs,
    }


def _show_planned(planned: Planned) -> None:
    from ashore.learning.filters import FEWEST

    counts = ", ".join(f"{number} {kind}" for kind, number in sorted(planned.dataset.counts.items()))
    print(f"{planned.run.run_id}: {planned.parent.reference} would learn from {counts}")
    if not planned.has_tasks:
        print("no held-out task: the gate will refuse what is learned; name one in [learning] tasks")
    print(f"{planned.num_replay} of its own answers beside; {planned.num_steps} steps, {planned.num_tokens:,} tokens")
    for name, number in sorted(planned.dataset.held_counts.items()):
        print(f"held: {number} by {name}")
    if not planned.asked:
        print("suspects: nobody is judged: no user voted on an answer that is a label of a held-out task")
        return
    print(
        f"suspects: known only in the run. It compares {len(planned.asked)} votes with what the held-out tasks teach, "
        f"and judges {planned.num_judged} people, who have {FEWEST} or more of them"
    )


def _ended(done: Run) -> dict[str, Any]:
    return {
        "run": done.run_id,
        "state": done.state,
        "candidate": done.candidate,
        "release": done.release,
        "why": done.why,
        "verdict": None if done.verdict is None else msgspec.to_builtins(done.verdict),
    }


def _show_ended(done: Run) -> None:
    print(done.words)
    if done.verdict is not None:
        for line in done.verdict.lines:
            if not line.passed or line.metric == "gain_min":
                mark = "passed" if line.passed else "FAILED"
                print(f"  {mark}  {line.metric} {line.about}".rstrip() + f": {line.why}")
    if done.state == "passed":
        print(f"make a release of it: ashore release create --model {done.candidate}")


def _print(document: dict[str, Any]) -> None:
    print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
