"""Operations that may be asked for: who may, on what, and from where they may read."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, get_type_hints

import msgspec

from ashore.control.jobs.office import JobOffice
from ashore.control.jobs.operations.sources import check_stored, pulled_name
from ashore.control.jobs.standing import JobOut, job_out
from ashore.core.errors import InvalidRequest, Overloaded
from ashore.core.share import read_share
from ashore.data.jobs import Job, NewJob, new_id
from ashore.data.jobs.operations.asks import (
    PATH,
    BackupRunIn,
    DistillIn,
    EvaluateIn,
    LearnIn,
    PruneIn,
    PullIn,
    QuantizeIn,
    RehearseIn,
    RemoveIn,
    RepairIn,
    ScrubIn,
    SealIn,
    SftIn,
    SyncIn,
    VerifyIn,
)
from ashore.data.jobs.operations.model import NAMES, Request, kind_of, name_of
from ashore.kit.call import Actor, Call
from ashore.kit.fieldmarks import extra_of
from ashore.kit.store import made_name, pruned_name

PULL: Final = "model:pull"
VERIFY: Final = "model:verify"
SEAL: Final = "model:seal"
REMOVE: Final = "model:remove"
OPTIMIZE: Final = "model:optimize"
EVALUATE: Final = "model:evaluate"
TRAIN: Final = "model:train"
LEARN: Final = "learning:write"
BACK_UP: Final = "backup:run"
LOOK_AT_BACKUPS: Final = "backup:read"
SYNC: Final = "directory:sync"
AS_A_JOB: Final = "The answer names the job that does it. Files that it reads must lie in [jobs] folders."
_BUILT_IN: Final = re.compile(r"[a-z0-9-]+")
"""Names of tasks that ship; anything else is a file."""
MOST_WAITING: Final = 100
"""Operations of a home that have not ended."""
MOST_OF_TENANT: Final = 50
"""Of them, those that people of one tenant asked for: one tenant leaves room for the others."""


def pull_model(office: JobOffice, actor: Actor, asked: PullIn) -> JobOut:
    """Pull a model into the store, as a job."""
    name = pulled_name(asked.source, asked.name)
    _require(office, actor, PULL, name)
    found = msgspec.structs.replace(asked, source=office.reach.source(asked.source), name=name)
    return submit(office, actor, "model pull", PULL, f"model/{name}", found)


def verify_model(office: JobOffice, actor: Actor, asked: VerifyIn) -> JobOut:
    """Verify every file of one model, or of all models, against its hash, as a job."""
    name = check_stored(asked.ref) if asked.ref else "*"
    _require(office, actor, VERIFY, name)
    return submit(office, actor, "model verify", VERIFY, f"model/{name}", asked)


def seal_model(office: JobOffice, actor: Actor, asked: SealIn) -> JobOut:
    """Encrypt a model and its variants, and delete the unencrypted files, as a job. The server must not use them."""
    name = check_stored(asked.name)
    _require(office, actor, SEAL, name)
    return submit(office, actor, "model seal", SEAL, f"model/{name}", asked)


def remove_model(office: JobOffice, actor: Actor, asked: RemoveIn) -> JobOut:
    """Remove a model from the store, as a job. The server must not use it."""
    name = check_stored(asked.ref)
    _require(office, actor, REMOVE, name)
    return submit(office, actor, "model remove", REMOVE, f"model/{name}", asked)


def quantize_model(office: JobOffice, actor: Actor, asked: QuantizeIn) -> JobOut:
    """Round a model's weights to fewer bits, and store the result as a variant, as a job."""
    return _derive(office, actor, "optimize quantize", OPTIMIZE, asked.model, (), asked)


def prune_model(office: JobOffice, actor: Actor, asked: PruneIn) -> JobOut:
    """Make a smaller model: remove the parts that matter least, then train the rest, as a job."""
    name = asked.name or pruned_name(asked.model, read_share(asked.remove))
    asked = msgspec.structs.replace(asked, name=name)
    return _derive(office, actor, "optimize prune", OPTIMIZE, asked.model, (name,), asked)


def distill_model(office: JobOffice, actor: Actor, asked: DistillIn) -> JobOut:
    """Train a smaller model to answer like a larger one, as a job."""
    name = asked.name or made_name(asked.teacher, "distilled")
    asked = msgspec.structs.replace(asked, name=name)
    return _derive(office, actor, "optimize distill", OPTIMIZE, asked.teacher, (asked.student or "", name), asked)


def evaluate_model(office: JobOffice, actor: Actor, asked: EvaluateIn) -> JobOut:
    """Evaluate a model in the engine that serves it, and store the report with the model, as a job."""
    tasks = [one if _BUILT_IN.fullmatch(one) else office.reach.path(one) for one in asked.task]
    against = asked.against if asked.against not in (None, "parent") else ""
    found = msgspec.structs.replace(asked, task=tasks)
    return _derive(office, actor, "optimize evaluate", EVALUATE, asked.model, (against or "",), found)


def train_model(office: JobOffice, actor: Actor, asked: SftIn) -> JobOut:
    """Fine-tune a model on example answers, as a job. Asked for again, it goes on where it stopped."""
    name = asked.name or made_name(asked.model, "sft")
    asked = msgspec.structs.replace(asked, name=name)
    return _derive(office, actor, "train sft", TRAIN, asked.model, (name,), asked)


def run_learning(office: JobOffice, actor: Actor, asked: LearnIn) -> JobOut:
    """Learn from the votes on a model's answers, judge the result, and shadow a release of it, as a job."""
    _require(office, actor, LEARN, asked.model)
    return submit(office, actor, "learn run", LEARN, f"model/{asked.model}", asked)


def run_backup(office: JobOffice, actor: Actor, asked: BackupRunIn) -> JobOut:
    """Make one backup of models, state, keys and audit log, as a job."""
    for one in asked.models:
        check_stored(one)
    office.rights.require(actor.principal, BACK_UP, "backup/home")
    return submit(office, actor, "backup run", BACK_UP, "backup/home", asked)


def scrub_backup(office: JobOffice, actor: Actor, asked: ScrubIn) -> JobOut:
    """Verify the backup: read everything on every node, and rebuild damaged shards from the others, as a job."""
    office.rights.require(actor.principal, BACK_UP, "backup/home")
    return submit(office, actor, "backup scrub", BACK_UP, "backup/home", asked)


def repair_backup(office: JobOffice, actor: Actor, asked: RepairIn) -> JobOut:
    """Rebuild what working nodes lack because they were down or damaged, as a job."""
    office.rights.require(actor.principal, BACK_UP, "backup/home")
    return submit(office, actor, "backup repair", BACK_UP, "backup/home", asked)


def rehearse_restore(office: JobOffice, actor: Actor, asked: RehearseIn) -> JobOut:
    """Show what a restore would bring back, and whether every part of it is there, as a job. Changes nothing."""
    office.rights.require(actor.principal, LOOK_AT_BACKUPS, "backup/home")
    return submit(office, actor, "backup rehearse", LOOK_AT_BACKUPS, "backup/home", asked)


def sync_directory(office: JobOffice, actor: Actor, asked: SyncIn) -> JobOut:
    """Read a directory whole, and give its people the accounts and groups that it says, as a job."""
    office.rights.require(actor.principal, SYNC, f"directory/{asked.directory}")
    return submit(office, actor, "directory sync", SYNC, f"directory/{asked.directory}", asked)


def _operation(
    name: str, path: str, action: str, do: Callable[[JobOffice, Actor, Any], JobOut], sure: str = ""
) -> Call:
    noun, word = name.split()
    asked = next(hint for field, hint in get_type_hints(do).items() if field == "asked")
    summary = (inspect.getdoc(asked) or "").partition("\n\n")[0]
    return Call(noun, word, "POST", path, action, do, sure=sure, help=f"{summary}\n\n{AS_A_JOB}")


CALLS: Final = (
    _operation("model pull", "/models/pull", PULL, pull_model),
    _operation("model verify", "/models/verify", VERIFY, verify_model),
    _operation("model seal", "/models/seal", SEAL, seal_model),
    _operation("model remove", "/models/remove", REMOVE, remove_model, sure="remove {ref}"),
    _operation("optimize quantize", "/optimize/quantize", OPTIMIZE, quantize_model),
    _operation("optimize prune", "/optimize/prune", OPTIMIZE, prune_model),
    _operation("optimize distill", "/optimize/distill", OPTIMIZE, distill_model),
    _operation("optimize evaluate", "/optimize/evaluate", EVALUATE, evaluate_model),
    _operation("train sft", "/train/sft", TRAIN, train_model),
    _operation("learn run", "/learn/run", LEARN, run_learning),
    _operation("backup run", "/backups", BACK_UP, run_backup),
    _operation("backup scrub", "/backups/scrub", BACK_UP, scrub_backup),
    _operation("backup repair", "/backups/repair", BACK_UP, repair_backup),
    _operation("directory sync", "/directories/{directory}/sync", SYNC, sync_directory),
    _operation("backup rehearse", "/backups/rehearse", LOOK_AT_BACKUPS, rehearse_restore),
)
BY_NAME: Final[Mapping[str, Call]] = {f"{call.noun} {call.word}": call for call in CALLS}


def submit(
    office: JobOffice, actor: Actor, name: str, action: str, subject: str, asked: msgspec.Struct, *,
    also: tuple[str, ...] = (), job_id: str = "",
) -> JobOut:  # fmt: skip
    """Queue an operation, record that it was asked for, and return its job. When it starts, the caller must still have
    the right on `subject` and on `also`. `job_id`: its id; default: a new one.

    Raises:
        Overloaded: too many wait.
        PermissionDenied: a path is not one that jobs may read.
    """
    kinds, hint = [kind_of(one, office.home) for one in NAMES], "wait for some, or cancel them: ashore job list"
    waiting = sum(
        number for (kind, state), number in office.queue.counts().items()
        if kind in kinds and state in ("queued", "running")
    )  # fmt: skip
    if waiting >= MOST_WAITING:
        raise Overloaded(f"{waiting} operations wait or run", hint=hint)
    tenant = actor.principal.tenant
    own = office.queue.store.select(
        limit=MOST_OF_TENANT, tenant=tenant, kinds=kinds, states=("queued", "running")
    )  # fmt: skip
    if len(own) >= MOST_OF_TENANT:
        raise Overloaded(f"{len(own)} operations of tenant {tenant} wait or run", hint=hint)
    request = Request(
        name=name,
        asked=msgspec.Raw(msgspec.json.encode(_with_paths(office, asked))),
        action=action,
        subject=subject,
        also=also,
    )
    job_id = job_id or new_id("op_")
    record = partial(actor.record, office.recorder, action, subject, detail={"job": job_id, "operation": name})
    job = office.queue.submit(
        NewJob(
            job_id=job_id,
            kind=kind_of(name, office.home),
            tenant=actor.principal.tenant,
            principal=actor.principal.acting_name,
            payload=msgspec.json.encode(request),
            max_attempts=1,
            ttl_ms=office.result_ttl_ms,
        ),
        record=lambda connection: record(on=connection),
    )
    return job_out(job)


def check_still(office: JobOffice, actor: Actor, job: Job) -> None:
    """Return when whoever submitted an operation, who asks now, may still do it.

    Raises:
        PermissionDenied: a right was taken away meanwhile.
    """
    if not name_of(job.kind):
        return
    request = msgspec.json.decode(office.queue.body(job.job_id).payload, type=Request)
    for resource in (request.subject, *request.also):
        office.rights.require(actor.principal, request.action, resource)


def run_again(office: JobOffice, actor: Actor, job: Job) -> JobOut:
    """Ask for what an operation that has ended was asked for, with the rights of whoever asks now.

    Raises:
        InvalidRequest: it is no operation, or has not ended.
    """
    call = BY_NAME.get(name_of(job.kind))
    if call is None:
        raise InvalidRequest(f"{job.job_id} is a {job.kind}, which is run again by itself", hint="ashore job list")
    if not job.final:
        raise InvalidRequest(f"{job.job_id} has not ended", hint=f"cancel it first: ashore job cancel {job.job_id}")
    request = msgspec.json.decode(office.queue.body(job.job_id).payload, type=Request)
    again: JobOut = call.do(office, actor, msgspec.json.decode(request.asked, type=call.takes))
    return again


def _require(office: JobOffice, actor: Actor, action: str, *names: str) -> None:
    for name in names:
        office.rights.require(actor.principal, action, f"model/{name}")


def _derive(
    office: JobOffice, actor: Actor, name: str, action: str, model: str, others: tuple[str, ...], asked: msgspec.Struct
) -> JobOut:
    """Queue an operation on a stored model; the caller needs the right on all that it reads and makes. What it makes is
    named in `asked`, so that the operation makes no other."""
    names = [check_stored(one) for one in (model, *others) if one]
    _require(office, actor, action, *names)
    first, *more = (f"model/{one}" for one in names)
    return submit(office, actor, name, action, first, asked, also=tuple(more))


def _with_paths(office: JobOffice, asked: msgspec.Struct) -> msgspec.Struct:
    """Return what was asked with the places that its paths lead to."""
    changed: dict[str, Any] = {}
    for field in msgspec.structs.fields(type(asked)):
        value = getattr(asked, field.name)
        if PATH not in extra_of(field.type) or not value:
            continue
        changed[field.name] = (
            office.reach.path(value) if isinstance(value, str) else [office.reach.path(p) for p in value]
        )
    return msgspec.structs.replace(asked, **changed) if changed else asked


assert set(BY_NAME) == set(NAMES), "every operation has a call"
