"""`learn run`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ashore.cli.bootstrap.operations.model import EXIT_INTERRUPTED, EXIT_REFUSED, Operation, Shown, Work
from ashore.cli.bootstrap.optimizing import open_subject
from ashore.cli.bootstrap.state import open_state
from ashore.cli.bootstrap.stores import build_store
from ashore.cli.bootstrap.variants import prepare_variant
from ashore.core.clock import SystemClock
from ashore.core.errors import NotReady
from ashore.data.jobs.operations.asks import LearnIn
from ashore.kit.settings import Settings, read_settings

if TYPE_CHECKING:
    from ashore.data.feedback import LearningSection
    from ashore.data.feedback.runs import Run
    from ashore.kit.call import Call
    from ashore.lab.evaluation import Subject
    from ashore.lab.learning.runner import Learning, Planned

LOOK_EVERY_S: Final = 2.0
UNLIKE: Final = "likelihood"
"""Measure that the shadow of any learned model fails: the likelihood of the live release's answers."""
FEW_PERCENT: Final = 5.0
"""Share of requests of a first canary."""


@contextmanager
def open_learning(
    settings: Settings, section: LearningSection, *, say: Callable[[str], None] = lambda line: None
) -> Iterator[Learning]:
    """Open learning in this home, on its state.

    Args:
        settings: Of the home.
        section: `[learning]`.
        say: Called with each message.

    Raises:
        StateLost, HomeTooNew: the state cannot be opened.
    """
    from ashore.data.audit import SqlSubjectKeys
    from ashore.data.engines import DEFAULT
    from ashore.data.feedback.texts import SealedTexts
    from ashore.lab.learning.runner import Learning

    store = build_store(settings.home, settings)

    def opened(name: str) -> AbstractContextManager[Subject]:
        """Open a model in half precision on the default engine if that supports its family: as it is served, and the
        same for both sides of a comparison.
        """
        known = store.resolve(name).shape.architecture in (DEFAULT.decoders or ())
        return open_subject(store, settings.home, name, kind=DEFAULT.kind if known else None)

    with closing(open_state(settings)) as state:
        yield Learning(
            state,
            store,
            section,
            folder=settings.home.cache / "learning",
            adapters=settings.home.adapters,
            texts=SealedTexts(SqlSubjectKeys(state)),
            open_subject=opened,
            prepare=lambda model, variant: prepare_variant(store, store.resolve(model), variant).reference,
            clock=SystemClock(),
            say=say,
        )


def plan(asked: LearnIn, work: Work) -> Shown:
    """Show what would be learned, what is held back and why."""
    settings = read_settings()
    with open_learning(settings, learning_section(settings), say=work.say) as learning:
        planned = learning.plan(asked.model)
    return Shown(document=_plan_json(planned), lines=_plan_lines(planned))


def run(asked: LearnIn, work: Work) -> Shown:
    """Train, judge and release."""
    from ashore.kit.processes.priority import become_idle

    settings = read_settings()
    section = learning_section(settings)
    with open_learning(settings, section, say=work.say) as learning:
        become_idle()
        releasing = ServerReleases(work.ask, section) if asked.release else None
        done = learning.run(asked.model, releasing=releasing, stop=work.stopping)
        if releasing is not None and done.state == "released":
            work.say(releasing.follow(asked.model, done.release, why=f"learn {done.run_id}", stop=work.stopping))
    codes = {"stopped": EXIT_INTERRUPTED, "refused": EXIT_REFUSED}
    return Shown(document=_run_json(done), lines=_run_lines(done), code=codes.get(done.state, 0))


def learning_section(settings: Settings) -> LearningSection:
    """Return `[learning]` as this home's server was started with it.

    Raises:
        NotReady: no server was started from this home.
    """
    from ashore.data.feedback import LearningSection
    from ashore.data.path import read_topology

    if not settings.home.topology.is_file():
        raise NotReady("no server was started from this home, so [learning] is not known", hint="run `ashore up`")
    return msgspec.convert(read_topology(settings.home.topology).told("learning"), LearningSection)


class ServerReleases:
    """Implements `Releasing` with a server's own calls and the rights of the requester."""

    def __init__(self, ask: Callable[[Call, msgspec.Struct], Any], section: LearningSection) -> None:
        self._ask, self._section = ask, section

    def shadow(self, alias: str, model: str, *, why: str) -> str:
        from ashore.control.releases.calls import SHOW_ALIAS, AliasIn, NewRelease, ShadowIn

        made = self._ask(_release_call("create"), NewRelease(model=model, alias=alias))
        seen = self._ask(SHOW_ALIAS, AliasIn(alias=alias)).version
        # A shadow is also judged by the likelihood of the live answers, and this one was trained on others.
        self._ask(_release_call("shadow"), ShadowIn(release=made.name, automatic=False, why=why, version=seen))
        return str(made.name)

    def follow(self, alias: str, release: str, *, why: str, stop: Callable[[], bool]) -> str:
        """If `[learning] promote` is automatic, turn a shadow into a canary after `step_s` of comparison, to be
        promoted after its last step; return the outcome. A shadow stays if it is worse in anything but the likelihood
        of live answers.
        """
        from ashore.control.releases.calls import SHOW_ALIAS, SHOW_EVIDENCE, SHOW_RELEASE, AliasIn, CanaryIn, ReleaseIn

        if self._section.promote != "automatic":
            return f"{release} is shadowed; when it was compared: ashore release promote {release}"
        until = time.monotonic() + self._section.step_s
        while (state := self._ask(SHOW_RELEASE, ReleaseIn(release=release)).state) in ("warming", "shadow"):
            if state == "shadow" and time.monotonic() >= until:
                break
            if stop():
                return f"{release} stays a shadow: asked to stop"
            time.sleep(LOOK_EVERY_S)
        if state != "shadow":
            return f"{release} is {state}: ashore release show {release}"
        for found in self._ask(SHOW_EVIDENCE, ReleaseIn(release=release)).items:
            if found.verdict == "worse" and found.measure != UNLIKE:
                return f"{release} stays a shadow: {found.summary}"
        seen = self._ask(SHOW_ALIAS, AliasIn(alias=alias)).version
        asked = CanaryIn(
            release=release, share_percent=FEW_PERCENT, steps_percent=[20.0, 50.0], every_s=int(self._section.step_s),
            then_promote=True, why=why, version=seen,
        )  # fmt: skip
        self._ask(_release_call("canary"), asked)
        return f"{release} is a canary of 5 %, then 20 and 50 %, and is promoted unless it is found worse"


def _release_call(word: str) -> Call:
    from ashore.control.releases.calls import CALLS

    return next(call for call in CALLS if call.noun == "release" and call.word == word)


def _plan_json(planned: Planned) -> dict[str, Any]:
    return {
        "run": planned.run.run_id,
        "model": planned.parent.reference,
        "compared_with": planned.live,
        "examples": planned.dataset.counts,
        "held": planned.dataset.held_counts,
        "has_tasks": planned.has_tasks,
        "replay": planned.num_replay,
        "steps": planned.num_steps,
        "tokens": planned.num_tokens,
        "epochs": planned.how.epochs,
    }


def _plan_lines(planned: Planned) -> Sequence[str]:
    counts = ", ".join(f"{number} {kind}" for kind, number in sorted(planned.dataset.counts.items()))
    lines = [f"{planned.run.run_id}: {planned.parent.reference} would learn from {counts}"]
    if not planned.has_tasks:
        lines.append("no held-out task: the gate will refuse what is learned; name one in [learning] tasks")
    steps = f"{planned.num_steps} steps, {planned.num_tokens:,} tokens"
    lines.append(f"{planned.num_replay} of its own answers beside; {steps}")
    lines += [f"held: {number} by {name}" for name, number in sorted(planned.dataset.held_counts.items())]
    return lines


def _run_json(done: Run) -> dict[str, Any]:
    return {
        "run": done.run_id,
        "state": done.state,
        "candidate": done.candidate,
        "release": done.release,
        "why": done.why,
        "verdict": None if done.verdict is None else msgspec.to_builtins(done.verdict),
    }


def _run_lines(done: Run) -> Sequence[str]:
    lines = [done.words]
    for line in () if done.verdict is None else done.verdict.lines:
        if not line.passed or line.metric == "gain_min":
            mark = "passed" if line.passed else "FAILED"
            lines.append(f"  {mark}  {line.metric} {line.about}".rstrip() + f": {line.why}")
    if done.state == "passed":
        lines.append(f"make a release of it: ashore release create --model {done.candidate}")
    return lines


OPERATIONS: Final = (Operation(name="learn run", takes=LearnIn, do=run, plan=plan, stops=True, asks_server=True),)
