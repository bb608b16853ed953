"""One run: votes to a data set, to an adapter, to a verdict. Runs in its own process on idle processors.

Every phase stores its result in a folder named after the data set, so that a killed run resumes when it is started
again; a changed data set starts a new run.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import platform
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec

from ashore.core.clock import Clock
from ashore.core.errors import Conflict, InvalidRequest, InvalidSpec, UnsupportedModel
from ashore.core.foreign import foreign_errors
from ashore.core.timespan import written_moment
from ashore.data.feedback import LearningSection
from ashore.data.feedback.consent import Consents, Purpose
from ashore.data.feedback.dataset import Dataset, make_dataset, rows_of
from ashore.data.feedback.filters import plain
from ashore.data.feedback.leases import Lease, leased
from ashore.data.feedback.runs import Run, load_runs, num_gone, pauses, save_examples, save_run
from ashore.data.feedback.sql import votes_on
from ashore.data.feedback.texts import SealedTexts
from ashore.data.releases import load_book
from ashore.data.text import TextModel
from ashore.kit.folders import make_folder
from ashore.kit.processes.lock import locked
from ashore.kit.recordfile import read_record
from ashore.kit.state import Database
from ashore.kit.store import DERIVED, ModelStore, StoredModel, Verdict, keep_verdict
from ashore.kit.textfile import read_text_file
from ashore.lab.evaluation import Subject, Task, open_task
from ashore.lab.learning.judging import PROBES, Exam, Marks, Probe, exam_words, examine, judge
from ashore.lab.learning.replay import builtin_prompts, how_many, own_answers, read_prompts
from ashore.lab.learning.teaching import SMALLEST_ROW, Teaching, batches_of, learned_of, recipe_notes, replay_of, teach
from ashore.lab.training import Precision, faster_precision, mlp_size
from ashore.lab.training import RunState as Checkpoints

FEWEST_EXAMPLES: Final = 20
FEWEST_STEPS: Final = 100
"""Of a run, replay apart: passes are repeated where there are fewer."""
MOST_EPOCHS: Final = 8
STOPPED: Final = "paused, or asked to stop; run it again to go on"
T = TypeVar("T")
OpenSubject = Callable[[str], AbstractContextManager[Subject]]
Prepare = Callable[[str, str], str]
"""Makes a variant of a model in the store where it is absent, and returns its reference."""
Say = Callable[[str], None]


def passes_for(num_steps: int) -> float:
    """Return how many passes over the examples reach `FEWEST_STEPS`, at least one, from the steps of one pass."""
    return min(MOST_EPOCHS, max(1.0, math.ceil(100 * FEWEST_STEPS / num_steps) / 100))


class _Known(msgspec.Struct, frozen=True):
    prompt: str
    answer: str


class Releasing(Protocol):
    """Creates releases: a server over HTTP, on behalf of the run's requester."""

    def shadow(self, alias: str, model: str, *, why: str) -> str:
        """Create a release of a model for an alias and shadow it; return its name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a run would do."""

    run: Run
    dataset: Dataset
    parent: StoredModel
    live: str
    """Model behind what answers now, which the candidate is compared with: both in the same precision, whatever variant
    of them is served."""
    variant: str
    """The variant that answers now; empty: the model itself does."""
    num_steps: int
    num_tokens: int
    num_replay: int
    how: Teaching
    has_tasks: bool
    """Without a held-out task the gate lets nothing pass."""


class Learning:
    """Runs learning in one home, one run at a time."""

    def __init__(
        self,
        database: Database,
        store: ModelStore,
        section: LearningSection,
        *,
        folder: Path,
        adapters: Path,
        texts: SealedTexts,
        open_subject: OpenSubject,
        prepare: Prepare,
        clock: Clock,
        say: Say = lambda line: None,
        teaching: Teaching | None = None,
    ) -> None:
        """Create it.

        Args:
            database: Has the votes; stores the runs.
            store: Has the models; stores the learned ones.
            section: `[learning]`.
            folder: Folder of intermediate results.
            adapters: Folder of the adapters of this home.
            texts: Opens votes.
            open_subject: Opens a model behind the engine that serves it.
            prepare: Makes the variant of what was learned that is served.
            clock: Dates runs.
            say: Called with each message.
            teaching: How models are taught, but for the epochs, which the number of examples decides. None: from the
                section, in the faster precision on this machine.
        """
        self._database, self._store, self._section = database, store, section
        self._folder, self._adapters, self._texts = folder, adapters, texts
        self._open_subject, self._prepare, self._clock, self._say = open_subject, prepare, clock, say
        self._teaching = teaching or Teaching(learning_rate=section.learning_rate)
        self._precision: Precision | None = None if teaching is None else teaching.precision
        self._consents = Consents(section.purpose, section.tenants, database)

    def plan(self, alias: str) -> Planned:
        """Return what a run of a model would learn from. Loads nothing.

        Raises:
            InvalidRequest: there is nothing, or too little, to learn from; or learning is paused.
            UnsupportedModel: the live model is not in this home's store, or cannot be trained.
        """
        with self._database.read() as connection:
            if alias in (paused := pauses(connection)):
                raise InvalidRequest(
                    f"learning of {alias} is paused: {paused[alias]}", hint=f"ashore learn resume {alias}"
                )
            book, runs = load_book(connection), load_runs(connection, model=alias)
        live = next(iter(book.live_of(alias)), None)
        if live is None:
            raise InvalidRequest(
                f"nothing answers under the alias {alias!r}", hint="`ashore alias list` shows the aliases"
            )
        plan = book.releases[live.release].plan
        if not plan.in_store:
            raise UnsupportedModel(
                f"{plan.name} is not a model of this home's store, so nothing can be learned here",
                hint="learn on the machine that has the weights",
            )
        parent = self._root(plan.name)
        dataset = self.dataset(alias, runs)
        if len(dataset.examples) < FEWEST_EXAMPLES:
            held = ", ".join(f"{number} by {name}" for name, number in sorted(dataset.held_counts.items()))
            raise InvalidRequest(
                f"{len(dataset.examples)} examples can be learned from; a run needs {FEWEST_EXAMPLES}"
                + (f" (held: {held})" if held else ""),
                hint="wait for more votes; `ashore learn dataset` shows what is held and why",
            )
        text = TextModel.load(self._store.open(parent.reference).directory)
        learned = learned_of(dataset.examples, text)
        num_replay = how_many(len(dataset.examples), self._section.replay_share)
        how = self._teaching
        once = batches_of(learned, (), replace(how, epochs=1)).num_steps
        how = replace(how, epochs=max(how.epochs, passes_for(once)))
        planned = batches_of(learned, (), how)
        now_ms = self._now_ms()
        run_id = f"{alias}-{_short_digest(dataset.digest, parent.digest)}"
        before = next((one for one in runs if one.run_id == run_id), None)
        run = before or Run(
            run_id=run_id,
            model=alias,
            base=parent.digest,
            dataset=dataset.digest,
            examples=dataset.counts,
            held=dataset.held_counts,
            started_ms=now_ms,
            changed_ms=now_ms,
        )
        return Planned(
            run=run, dataset=dataset, parent=parent, live=plan.name, num_steps=planned.num_steps,
            num_tokens=planned.num_tokens, num_replay=num_replay, how=how,
            variant=plan.variant, has_tasks=bool(self._section.tasks),
        )  # fmt: skip

    def dataset(self, alias: str, runs: list[Run] | None = None) -> Dataset:
        """Return the data set of a model's votes as they are now."""
        if runs is None:
            with self._database.read() as connection:
                runs = load_runs(connection, model=alias)
        votes = list(votes_on(self._database, alias))
        purposes: Mapping[str, Purpose] = {vote.tenant: self._consents.purpose(vote.tenant) for vote in votes}
        rows = list(rows_of(votes, self._texts, purposes))
        since_ms = max((one.started_ms for one in runs if one.state in ("released", "passed")), default=0)
        past = [row for row in rows if row.created_ms < since_ms]
        return make_dataset(alias, rows, past=past, reference=self._known())

    def run(self, alias: str, *, releasing: Releasing | None = None, stop: Callable[[], bool] = lambda: False) -> Run:
        """Learn from the votes on a model's answers, and return how it ended. Resumes a killed run.

        Raises:
            InvalidRequest, UnsupportedModel: as `plan`.
            Conflict: another run is under way in this home, or this data set was learned from already.
            MissingExtra: training is not installed here.
        """
        with self._alone() as lease:
            planned = self.plan(alias)
            run = planned.run
            if run.state in ("refused", "released"):
                raise Conflict(
                    f"the run {run.run_id} has learned from exactly these votes: {run.state}",
                    hint=f"`ashore learn explain {run.run_id}`, or wait for more votes",
                )
            if run.state != "passed":  # a passed run only lacks its release: no server answered
                run = self._learned(planned, run, lambda: stop() or lease.is_lost or self._is_paused(alias))
        if run.state == "passed" and releasing is not None:
            served = run.candidate
            if planned.variant:
                self._say(f"making {served}@{planned.variant}, as {alias} is served")
                served = self._prepare(served, planned.variant)
            release = releasing.shadow(alias, served, why=f"learn {run.run_id}")
            run = self._keep(replace(run, state="released", release=release))
        return run

    def _learned(self, planned: Planned, run: Run, stop: Callable[[], bool]) -> Run:
        """Train and judge, and return how that ended."""
        run = self._keep(replace(run, state="running", why=""))
        self._keep_examples(run, planned.dataset)
        with self._database.read() as connection:
            before = [one.run_id for one in load_runs(connection, model=run.model) if one.run_id != run.run_id]
        for one in before:  # votes were added or erased since: do not resume from what they taught
            shutil.rmtree(self._folder / one, ignore_errors=True)
        folder = self._folder / run.run_id
        make_folder(folder, mode=0o700)
        planned = replace(planned, how=self._in_precision(planned, folder))
        candidate = run.candidate or self._name(planned.parent)
        run = self._keep(replace(
            run, candidate=candidate, adapter=str(self._adapters / candidate), examples=planned.dataset.counts,
            held=planned.dataset.held_counts,
        ))  # fmt: skip
        if not self._taught(planned, run, folder, stop):
            return self._keep(replace(run, state="stopped", why=STOPPED))
        run = self._ended(run, self._judged(planned, run))
        shutil.rmtree(folder, ignore_errors=True)
        return run

    def _in_precision(self, planned: Planned, folder: Path) -> Teaching:
        """Return the training settings in the faster precision; a resumed run keeps its own."""
        if self._precision is not None:
            return replace(planned.how, precision=self._precision)
        file = folder / "precision"
        if not file.exists():
            shape = planned.parent.shape
            file.write_text(faster_precision(shape.hidden_size, mlp_size(shape), SMALLEST_ROW), encoding="ascii")
        return replace(planned.how, precision="bfloat16" if file.read_text() == "bfloat16" else "float32")

    def _taught(self, planned: Planned, run: Run, folder: Path, stop: Callable[[], bool]) -> bool:
        """Make the adapter and the model if missing; return whether they exist."""
        made = folder / "made"
        done = folder / "taught"
        if done.exists():
            return True
        with self._open_subject(planned.parent.reference) as subject:
            replay = self._replay(subject, planned.num_replay, folder)
        text = TextModel.load(self._store.open(planned.parent.reference).directory)
        batches = batches_of(learned_of(planned.dataset.examples, text), replay_of(replay, text), planned.how)
        plan = f"{batches.num_steps}-{batches.num_tokens}"  # another version of ashore may plan other steps
        state = Checkpoints(folder=folder / f"steps-{plan}", facts={"dataset": run.dataset, "base": run.base})
        shutil.rmtree(made, ignore_errors=True)
        self._say(f"learning: {batches.num_steps} steps, {batches.num_tokens:,} tokens")
        with self._store.reading(planned.parent.reference) as files:
            result = teach(
                files,
                planned.parent,
                batches,
                planned.how,
                adapter=made / "adapter",
                merged=made / "model",
                state=state,
                watch=lambda step: self._say(f"step {step.step} of {step.num_steps}, loss {step.loss:.3f}"),
                stop=stop,
            )
        if result.stopped_by != "end":
            return False
        if self._store.resolve(planned.parent.reference).digest != run.base:
            raise Conflict(
                f"{planned.parent.reference} was replaced while it learned",
                hint="run it again: it begins at the new one",
            )
        notes = recipe_notes(planned.dataset, planned.how, result, replay=len(replay))
        self._store.add_derived(planned.parent, run.candidate, made / "model", recipe=notes)
        make_folder(self._adapters, mode=0o700)
        target = Path(run.adapter)
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(made / "adapter", target)
        state.clear()
        done.touch()
        return True

    def _judged(self, planned: Planned, run: Run) -> Verdict:
        """Return the gate's verdict, and store it beside the model."""
        held_out = self._tasks()
        triggers, secrets = exam_words(planned.dataset, held_out)
        replay_prompts = self._prompts()
        exam = Exam(
            held_out=held_out,
            old_skills=tuple(self._task(name) for name in self._section.old_skills),
            prompts=tuple(replay_prompts[-PROBES:]),
            triggers=triggers,
            secrets=secrets,
            probes=self._probes(),
        )
        marks: dict[str, Marks] = {}
        for name in (planned.live, run.candidate):
            with self._open_subject(name) as subject:
                marks[name] = examine(subject, exam, told=self._say)
        candidate = self._store.resolve(run.candidate)
        verdict = judge(
            exam, marks[planned.live], marks[run.candidate], model=run.candidate, digest=candidate.digest,
            against=planned.live, created=written_moment(self._clock.now_s()),
        )  # fmt: skip
        keep_verdict(self._store, candidate, verdict)
        return verdict

    def _ended(self, run: Run, verdict: Verdict) -> Run:
        """Store the verdict; data erased or withdrawn meanwhile stops a run that passed."""
        with self._database.read() as connection:
            gone = num_gone(connection, run.run_id)
        broken = [f"{line.metric} {line.about}".strip() for line in verdict.lines if not line.passed]
        if broken:
            return self._keep(replace(run, state="refused", verdict=verdict, why="; ".join(broken)))
        if gone:
            why = f"{gone} of its votes were erased, or their tenant withdrew its consent, while it learned"
            return self._keep(replace(run, state="stopped", verdict=verdict, why=why))
        return self._keep(replace(run, state="passed", verdict=verdict, why=""))

    def _replay(self, subject: Subject, number: int, folder: Path) -> list[tuple[str, str]]:
        """Return the model's own answers, generated once for a run."""
        file = folder / "replay.json"
        if (kept := read_record(file, list[tuple[str, str]])) is not None:
            return kept
        prompts = self._prompts()[:-PROBES][:number]
        if prompts:
            self._say(f"asking the model itself {len(prompts)} questions")
        found = own_answers(subject, prompts)
        file.write_bytes(msgspec.json.encode(found))
        return found

    def _prompts(self) -> list[str]:
        return read_prompts(Path(self._section.replay)) if self._section.replay else builtin_prompts()

    def _tasks(self) -> tuple[Task, ...]:
        """Return the held-out tasks."""
        return tuple(self._task(name) for name in self._section.tasks)

    def _task(self, name: str) -> Task:
        return open_task(name).first(self._section.task_items)

    def _probes(self) -> tuple[Probe, ...]:
        return _lines(self._section.probes, Probe, "probes")

    def _known(self) -> dict[str, str]:
        return {plain(one.prompt): one.answer for one in _lines(self._section.known, _Known, "known")}

    def _root(self, name: str) -> StoredModel:
        """Return the root of the learned models: each run starts from it, with all current votes."""
        model = self._store.resolve(name)
        if model.source.startswith(DERIVED) and model.recipe.get("learn.maker"):
            return self._store.resolve(model.source.removeprefix(DERIVED))
        return model

    def _name(self, parent: StoredModel) -> str:
        day = datetime.datetime.fromtimestamp(self._clock.now_s(), datetime.UTC).strftime("%Y%m%d-%H%M%S")
        return f"{parent.name}-learned-{day}"

    def _keep_examples(self, run: Run, dataset: Dataset) -> None:
        """Store the provenance of the examples before learning from them.

        Raises:
            Conflict: see `save_examples`; the run is stopped.
        """
        try:
            with self._database.write() as connection:
                save_examples(connection, run.run_id, dataset)
        except Conflict as fault:
            self._keep(replace(run, state="stopped", why=fault.message))
            raise

    def _keep(self, run: Run) -> Run:
        run = replace(run, changed_ms=self._now_ms())
        with self._database.write() as connection:
            save_run(connection, run)
        return run

    def _is_paused(self, alias: str) -> bool:
        with self._database.read() as connection:
            return alias in pauses(connection)

    def _now_ms(self) -> int:
        return int(self._clock.now_s() * 1000)

    @contextmanager
    def _alone(self) -> Iterator[Lease]:
        """Hold the lease of all nodes. The home's lock comes first: its holder knows that a remaining lease of this
        home belongs to a killed process.
        """
        make_folder(self._folder, mode=0o700)
        path = self._folder / "lock"
        with locked(path, lambda: Conflict("another run is under way in this home", hint="wait for it to end")):
            if not (owner := path.read_text().strip()):
                owner = secrets.token_hex(16)
                path.write_text(owner)
            with leased(self._database, self._clock, owner=owner, holder=platform.node()) as lease:
                yield lease


def _short_digest(*digests: str) -> str:
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:12]


def _lines(place: str, kind: type[T], key: str) -> tuple[T, ...]:
    """Return the lines of an operator's JSONL file."""
    if not place:
        return ()
    text = read_text_file(Path(place), f"[learning] {key}", hint="correct the path")
    with foreign_errors(f"[learning] {key} = {place!r}", InvalidSpec, hint="write one JSON object a line"):
        return tuple(msgspec.json.decode(line.encode(), type=kind) for line in text.splitlines() if line.strip())
