"""What the server says of itself: its metrics, whether it is ready, what its supervisor knows."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from ashore.control.doctor.look import Between
from ashore.control.doctor.patience import Lanes, Step
from ashore.control.doctor.readings import Backup, Host, Model, Server
from ashore.control.doctor.samples import Samples
from ashore.control.doctor.topology import ServedPart
from ashore.data.engines import EngineKind, card_of
from ashore.kit.processes import connection_to

ADMINISTRATION: Final = ("/metrics", "/readyz", "/healthz", "/livez")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one API worker says of whether it is ready."""

    where: Path | tuple[str, int]
    why_not: str = ""
    """Empty: it is ready."""
    is_silent: bool = False


def ask_workers(patience_s: Mapping[Path | tuple[str, int], float]) -> tuple[Told, ...]:
    """Ask all workers at once whether they are ready, each as long as given; in their order."""
    told: dict[Path | tuple[str, int], Told] = {}
    of = len(patience_s)

    def ask(index: int, where: Path | tuple[str, int], within_s: float) -> None:
        told[where] = _ask_worker(index, where, within_s, of=of)

    began_s = time.monotonic()
    steps = [
        Step(names=(f"worker {index}",), work=partial(ask, index, where, within_s))
        for index, (where, within_s) in enumerate(patience_s.items())
    ]
    Lanes(*([one] for one in steps)).end(began_s + max(patience_s.values(), default=0.0))
    return tuple(
        told.get(where) or _silent(index, where, f"says nothing within {within_s:g} s", of=of)
        for index, (where, within_s) in enumerate(patience_s.items())
    )


def _silent(index: int, where: Path | tuple[str, int], why: str, *, of: int) -> Told:
    whose = f"API worker {index}" if of > 1 else "the API"
    return Told(where=where, why_not=f"{whose} {why}", is_silent=True)


def _ask_worker(index: int, where: Path | tuple[str, int], patience_s: float, *, of: int) -> Told:
    connection = connection_to(where, patience_s)
    why_not, why_silent = "", ""
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        told = json.loads(answer.read())
        if answer.status != 200:
            why_not = str(told.get("error", {}).get("message") or told.get("status") or "it is not ready")
    except TimeoutError:
        why_silent = f"says nothing within {patience_s:g} s"
    except (OSError, ValueError, http.client.HTTPException, AttributeError) as fault:
        why_silent = f"does not answer: {fault or type(fault).__name__}"
    finally:
        connection.close()
    return _silent(index, where, why_silent, of=of) if why_silent else Told(where=where, why_not=why_not)


def samples_of(between: Between) -> Samples:
    """Return the page of the later look, against the earlier one. With one look alone, nothing has grown."""
    page = between.after.page
    before = between.page_before
    return Samples(page, page if before is None else before)


def read_models(samples: Samples, served: Sequence[ServedPart], tuned: Mapping[str, bool]) -> tuple[Model, ...]:
    """Return what clients ask for, and how it went."""
    found: list[Model] = []
    for one in served:
        by = {"model": one.alias}
        if any(model.alias == one.alias for model in found):
            continue
        reasons = {has["reason"]: int(grew) for has, grew in samples.grown("ashore_answers_total", **by)}
        refused = {has["reason"]: int(grew) for has, grew in samples.grown("ashore_refused_total", **by) if grew}
        lookups = {has["result"]: int(grew) for has, grew in samples.grown("ashore_cache_lookups_total", **by)}
        found.append(
            Model(
                alias=one.alias,
                replicas=len(one.sockets),
                replicas_ready=int(samples.total("ashore_replicas_ready", **by) or 0) if one.sockets else 0,
                answers=sum(number for reason, number in reasons.items() if reason != "cancelled"),
                ended_by_length=reasons.get("length", 0),
                cancelled=int(samples.growth("ashore_cancelled_total", **by)),
                refused=sum(refused.values()),
                refused_why=max(refused, key=lambda why: refused[why], default=""),
                waiting=int(samples.total("ashore_waiting_sequences", **by) or 0),
                running=int(samples.total("ashore_running_sequences", **by) or 0),
                first_token_s=samples.mean("ashore_ttft_seconds", **by),
                queue_s=samples.mean("ashore_queue_seconds", **by),
                token_s=samples.quantile("ashore_time_per_token_seconds", 0.5, **by),
                token_slow_s=samples.quantile("ashore_time_per_token_seconds", 0.95, **by),
                lookups=sum(lookups.values()),
                hits=sum(number for result, number in lookups.items() if result.startswith("hit")),
                failed_loads=int(samples.growth("ashore_model_failed_loads", **by)),
                tuned=tuned.get(one.alias, True),
            )
        )
    return tuple(found)


def read_hosts(
    samples: Samples, served: Sequence[ServedPart], pids: Mapping[str, int],
    launches: Mapping[str, Mapping[str, object]],
) -> tuple[Host, ...]:  # fmt: skip
    """Return each replica.

    Args:
        samples: The page.
        served: From the topology, the live ones first.
        pids: Of hosts, by their socket.
        launches: What each host was started with, by its socket: `options`, `files`.
    """
    found = []
    for one in served:
        for replica, socket in enumerate(one.sockets):
            by = {"model": one.alias, "replica": str(replica)}
            launch = launches.get(socket, {})
            options = launch.get("options")
            files = launch.get("files")
            own = options if isinstance(options, Mapping) else {}
            told = _told_by_options(one.kind, own)
            steps = samples.growth("ashore_host_steps_total", **by)
            total = samples.total("ashore_host_kv_tokens_total", **by) or 0.0
            name = str(files.get("name", "")) if isinstance(files, Mapping) else ""
            found.append(
                Host(
                    alias=one.alias,
                    release=one.release,
                    replica=replica,
                    kind=one.kind,
                    pid=pids.get(socket, 0),
                    name=name,
                    weights=_precision_of(name),
                    **told,
                    running=int(samples.total("ashore_host_running", **by) or 0),
                    steps=int(steps),
                    kv_tokens=int(total),
                    prompt_tokens=int(samples.growth("ashore_host_prompt_tokens_total", **by)),
                    cached_tokens=int(samples.growth("ashore_host_cached_tokens_total", **by)),
                )
            )
    return tuple(found)


def _told_by_options(kind: EngineKind, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the options of an engine say of its speed, as fields of `Host`."""
    options, extra = card_of(kind).options, own.get("extra") or {}
    threads = extra.get(options.threads) or own.get("threads") or 0
    stall, usual_ms = options.stall or ("", 0.0)
    return {
        "threads": int(threads) if str(threads).isdigit() else 0,
        "slower": tuple(
            f"{name} = {json.dumps(extra[name])}"
            for name, values in options.slower.items()
            if extra.get(name) in values
        ),
        "stall": stall,
        "stall_s": float(extra.get(stall, usual_ms)) / 1e3,
    }


def _precision_of(name: str) -> str:
    """Return the precision that the name of a variant says: `fp16` of `smollm2@fp16`."""
    variant = name.partition("@")[2].lower()
    return next((one for one in ("fp32", "fp16", "bf16", "int8", "int4", "nf4") if variant.startswith(one)), "")


def read_server(
    samples: Samples,
    *,
    why_not: str,
    is_silent: bool,
    by_unit: bool,
    restarts: Mapping[str, int],
    endings: Mapping[str, str],
) -> Server:
    """Return the server as a whole."""
    requests = failed = 0
    for has, grew in samples.grown("ashore_requests_total"):
        route, status = has.get("route", ""), has.get("status", "")
        if route in ADMINISTRATION or route.startswith("/admin"):
            continue
        requests += int(grew)
        wrong = status in ("500", "502", "504", "INTERNAL", "UNKNOWN", "UNAVAILABLE") or status == "503"
        failed += int(grew) if wrong else 0
    errors = {has["code"]: int(grew) for has, grew in samples.grown("ashore_errors_total") if grew}
    for code in ("overloaded", "deadline_exceeded", "budget_exceeded"):
        failed -= min(failed, errors.get(code, 0)) if code == "overloaded" else 0
    return Server(
        answers=not why_not,
        why_not=why_not,
        is_silent=is_silent,
        requests=requests,
        failed=failed,
        errors=errors,
        ignored_fields=int(samples.growth("ashore_ignored_fields_total")),
        spans_failed=int(samples.growth("ashore_trace_spans_total", result="failed")),
        by_unit=by_unit,
        restarts=dict(restarts),
        endings=dict(endings),
    )


def read_backup(samples: Samples, now_s: float, *, set_up: bool, shared_device: Sequence[str]) -> Backup:
    """Return the backup, as far as the server that makes it tells."""
    spare = samples.total("ashore_backup_nodes", what="spare")
    return Backup(
        set_up=set_up,
        spare=1 if spare is None else int(spare),
        failures={
            has.get("kind", "run"): int(value) for has, value in samples.each("ashore_backup_failures") if value > 0
        },
        late_s={
            has.get("kind", "run"): now_s - due
            for has, due in samples.each("ashore_backup_time_seconds", what="due")
            if due and now_s > due
        },
        shared_device=tuple(shared_device),
    )
