"""Jobs: what waits, runs and has ended, and one job with its progress and log."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from ashore.control.console.kit import NONE, Act, Cell, Row, Table, number, state, text, when
from ashore.control.console.listing import chosen, list_page
from ashore.control.console.model import Answer
from ashore.control.console.reader import Reader
from ashore.core.bytesize import human_bytes
from ashore.core.timespan import human_seconds
from ashore.data.jobs.operations.model import RESULT

MOST: Final = 500
UNDER_WAY: Final = ("queued", "running")
WRONG: Final = ("failed", "dead", "expired")


async def jobs_page(reader: Reader) -> Answer:
    """Return the jobs that the reader may see, the newest first."""
    query = dict(reader.asked.query)
    found = await reader.ask("job list", limit=MOST)
    tests = {
        "all": lambda one: True,
        "under-way": lambda one: one.state in UNDER_WAY,
        "wrong": lambda one: one.state in WRONG,
        "done": lambda one: one.state == "succeeded",
    }
    wanted = "wrong" if query.get("state") == "failed" else query.get("_show", "")
    items = getattr(found, "items", ())
    shown, choices = chosen(items, tests, wanted)
    running = sum(one.state in UNDER_WAY for one in items)
    return await list_page(
        reader, "jobs", "jobs", lambda: _table(reader, shown), lambda one: acts_on(reader, one),
        is_live=True, icon="jobs", choices=choices,
        lead=reader.words("jobs.running", count=running) if running else reader.words("jobs.idle"),
        command="ashore job list", nouns=("job",), acts=reader.may("job schedule"), hint=reader.words("jobs.none"),
    )  # fmt: skip


def _table(reader: Reader, items: Any) -> Table:
    rows = tuple(
        Row(
            cells=(
                text(title_of(reader, one), link=f"jobs/job?{urlencode({'job': one.id})}", note=about(one)),
                replace(state(one.state), note=one.error_message[:80]),
                progress_of(one),
                text(one.owner),
                when(seconds_of(one.created)),
                number(_took(one), "s"),
            ),
            values={"item": one, "created": one.created, "took": _took(one)},
        )
        for one in items
    )
    columns = ("what", "state", "progress", "owner", "created", "took")
    return Table(columns=columns, rows=rows, total=len(rows), minor=frozenset(("took",)))


def title_of(reader: Reader, job: Any) -> str:
    """Return what a job does, in the words of the act that queued it."""
    placed = reader.acts.atlas.by_key.get(job.kind)
    return reader.words.title(placed.call) if placed is not None else reader.words.value(job.kind)


def about(job: Any) -> str:
    """Return what a job is about."""
    return job.operation.subject.partition("/")[2] or job.operation.subject if job.operation is not None else ""


def progress_of(job: Any) -> Cell:
    """Return how far a job is; nothing for one that has ended, or that cannot say it."""
    if job.state not in UNDER_WAY:
        return NONE
    if job.children is not None:
        return bar_of(job.children.succeeded + job.children.failed, job.children.total)
    if job.operation is not None and job.operation.total:
        return bar_of(job.operation.done, job.operation.total)
    return text(job.progress)


def bar_of(done: int, total: int) -> Cell:
    """Return a part that is done; more is better, so it warns of nothing."""
    share = min(1.0, done / total) if total else 0.0
    return Cell(kind="bar", text=f"{share * 100:.0f} %", machine=f"{share * 100:.0f}%")


def acts_on(reader: Reader, job: Any) -> tuple[Act, ...]:
    if job.state in UNDER_WAY:
        return () if job.cancelling else reader.may("job cancel", job=job.id)
    return reader.may("job again", job=job.id) if job.operation is not None else ()


def seconds_of(moment: str | None) -> float | None:
    return datetime.fromisoformat(moment).timestamp() if moment else None


def _took(job: Any) -> float | None:
    began, ended = seconds_of(job.started), seconds_of(job.finished)
    return max(1.0, ended - began) if began and ended else None


async def job_page(reader: Reader) -> Answer:
    """Return one job: how far it is and how fast, what went wrong, and the end of its log, which can be narrowed.

    Raises:
        NotFound: there is no such job.
        PermissionDenied: the reader may not see it.
    """
    query = dict(reader.asked.query)
    placed = reader.acts.atlas.by_key["job show"]
    job = await reader.perform(placed, placed.call.takes(job=query.get("job", "")[:200]))
    step, match = job.operation, query.get("_match", "")[:200]
    log = [line for line in (step.log if step is not None else ()) if match.casefold() in line.casefold()]
    facts = (
        ("state", state(job.state)), ("owner", text(job.owner)), ("created", when(seconds_of(job.created))),
        ("started", when(seconds_of(job.started))), ("finished", when(seconds_of(job.finished))),
        ("took", number(_took(job), "s")), ("attempts", number(job.attempts) if job.attempts > 1 else NONE),
        ("takeovers", number(job.takeovers or None)), ("deadline", when(seconds_of(job.deadline))),
        ("id", Cell(kind="code", text=job.id)),
    )  # fmt: skip
    runs = job.state in UNDER_WAY
    return reader.page(
        "job.html",
        "jobs",
        job=job,
        title=title_of(reader, job),
        lead=about(job),
        acts=acts_on(reader, job),
        facts=[(name, one) for name, one in facts if one.kind != "none"],
        progress=progress_of(job) if runs else None,
        pace=pace_of(step) if runs and step is not None else [],
        runs=runs,
        stage=step.stage if runs and step is not None else "",
        result=step.says if step is not None and step.stage == RESULT and not step.log else "",
        log=log,
        match=match,
        command=f"ashore job show {job.id}",
    )


def pace_of(step: Any) -> list[tuple[str, str]]:
    """Return how much is done, how fast, and how long it takes still, as far as that is known."""
    written = human_bytes if step.unit == "bytes" else "{:,}".format
    pace = []
    if step.total:
        pace.append(("done", f"{written(step.done)} / {written(step.total)}"))
    if step.rate_per_s:
        pace.append(("speed", f"{written(int(step.rate_per_s))}/s"))
    if step.left_s is not None:
        pace.append(("left", human_seconds(step.left_s)))
    return pace
