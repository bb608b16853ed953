"""Checks of `ashore up` before it starts anything, so that `--dry-run` refuses what a start would; and summaries of the
other sections of ashore.toml.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ashore.cli.bootstrap import open_state
from ashore.cli.target import is_loopback
from ashore.cli.upplan import Request, listening_of
from ashore.control.backup import BackupHome, BackupSection
from ashore.core.bytesize import human_bytes
from ashore.core.counted import counted
from ashore.core.errors import AshoreError, InvalidSpec, NotFound
from ashore.core.timespan import human_seconds
from ashore.data.cache import valkey_program
from ashore.data.engines import Choice, Plan, reads_store
from ashore.data.mcp import McpSection
from ashore.data.privacy import PROMPT_DEFAULTS, PrivacyPolicy
from ashore.kit.processes.lock import read_holder
from ashore.kit.processes.ports import check_ports
from ashore.kit.settings import Home, Settings
from ashore.machine.config import Listening, Spec
from ashore.machine.edge import check_files, find_envoy

if TYPE_CHECKING:
    from ashore.control.doctor.readings import Configuration

ADAPTER_CONFIG: Final = "adapter_config.json"
WHOSE: Final = "`ashore privacy policy show` shows whether an administrator set another policy"


def check_home(home: Home) -> None:
    """Return where a server can be started from a home, made or not. Changes nothing.

    Raises:
        HomeBusy: a restore into it was cut off.
        PermissionError: it cannot be written.
    """
    home.refuse_half_restored()
    folder = next(one for one in (home.root, *home.root.parents) if one.exists())
    if folder.is_dir() and not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def check_machine(spec: Spec, settings: Settings) -> tuple[str, ...]:
    """Return where the machine has what a start needs before anything loads: programs, certificates and ports. Changes
    nothing. The notes say what could not be looked at.

    Raises:
        AshoreError: what the start would raise.
    """
    edge = spec.edge
    if edge.kind != "none":
        find_envoy()
        if edge.tls == "files":
            check_files(Path(edge.certificate), Path(edge.key), datetime.now(UTC))
    if spec.redis.is_embedded:
        valkey_program()
    holder = read_holder(settings.home.lock)
    if holder is not None and holder.pid != os.getpid() and Path(f"/proc/{holder.pid}").exists():
        return (f"a server runs from this home (process {holder.pid}): stop it before a start; ports are not checked",)
    if edge.kind != "none":
        check_ports((edge.host, edge.port, "--port"))
    else:
        grpc = [(spec.grpc.host, spec.grpc.port, "--grpc-port")] if spec.grpc.port else []
        check_ports((spec.http.host, spec.http.port, "--port"), *grpc)
    return ()


def refuse_what_cannot_start(spec: Spec, plan: Plan) -> None:
    """Return where the folders and figures that ashore.toml names are there and fit this machine. Reads no weights.

    Raises:
        InvalidSpec, NotFound: the first that is not, or does not; the message names model and key.
    """
    for fault in _faults(spec, plan):
        raise fault


def _faults(spec: Spec, plan: Plan) -> Iterator[AshoreError]:
    cores = plan.inventory.cores
    for model in spec.models:
        if model.engine.threads > cores:
            yield InvalidSpec(
                f"{model.alias or model.name}: [model.engine] threads = {model.engine.threads}, but this machine has "
                f"{counted(cores, 'core')} available",
                hint=f"write {cores} or fewer, or leave it out",
            )
    if own_calls := spec.section("mcp", McpSection).own_calls:
        from ashore.control.faces.owntools import check_own_calls

        try:
            check_own_calls(own_calls, "ashore.toml [mcp]")
        except InvalidSpec as fault:
            yield fault
    for planned in plan.models:
        if not reads_store(planned.options):
            continue  # reads none; of another machine
        for name, place in planned.adapters:
            folder = Path(place)
            if not (folder / ADAPTER_CONFIG).is_file():
                seen = f"has no {ADAPTER_CONFIG}" if folder.is_dir() else "is not a directory"
                yield NotFound(
                    f"{planned.alias}: expected the adapter {name} in {folder}, which {seen}",
                    hint="give the folder that `ashore train sft` printed or that peft saved; a relative path starts "
                    "at the folder of ashore.toml",
                )


def warnings_of(listening: Listening, settings: Settings) -> tuple[str, ...]:
    """Return what does not keep a server from starting, and may not be what was meant."""
    warnings = []
    where = listening.edge if listening.has_edge else listening.http
    if not is_loopback(f"//{where.host}" if ":" not in where.host else f"//[{where.host}]") and (
        not listening.has_edge or listening.edge.tls == "off"
    ):
        warnings.append(
            f"other machines can reach {where.host} without TLS, so keys, prompts and answers travel unencrypted: "
            "run the edge in front (--edge envoy), or listen on 127.0.0.1"
        )
    if listening.section("backup", BackupSection).every_s and not _has_backup(settings):
        warnings.append(
            "[backup] every_s is set, but this home has no backup yet, so none is made; set it up with "
            "`ashore backup init --nodes DIR,DIR,DIR --code 2+1`"
        )
    return tuple(warnings)


def compared(serving: Listening, request: Request, settings: Settings) -> Configuration:
    """Return how ashore.toml stands to what a server runs.

    Args:
        serving: What it runs.
        request: How it was started.
        settings: Of its home.
    """
    from ashore.control.doctor.readings import Configuration, Note

    notes = []
    for warning in warnings_of(serving, settings):
        what, _, do = warning.rpartition(": ") if ": " in warning else warning.rpartition("; ")
        notes.append(Note(what=what, do=do))
    if not request.config:
        return Configuration(notes=tuple(notes))
    try:
        wanted = listening_of(request.spec(), request.settings())
    except (AshoreError, OSError) as fault:
        return Configuration(config=str(request.config), notes=tuple(notes), unreadable=f"{request.config}: {fault}")
    return Configuration(
        config=str(request.config),
        notes=tuple(notes),
        needs_restart=tuple(serving.kept_but_changed(wanted)),
        differs=tuple(serving.keys_to_take(wanted)),
    )


def sections_of(listening: Listening, settings: Settings) -> tuple[Choice, ...]:
    """Return what the sections beside the models come to. Reads the state where there is one; changes nothing."""
    cache, audit, backup = listening.cache, listening.audit, listening.section("backup", BackupSection)
    aliases = counted(len(cache.routes), "alias", "aliases")
    kept = f"for {human_seconds(cache.ttl_s)}, {human_bytes(cache.max_bytes)} per worker"
    shared = "; shared by workers" if listening.redis.url else ""
    own = f"; {aliases} with rules of their own" if cache.routes else ""
    anchors = ", ".join(audit.anchors) or "no anchor: a truncated log would go unnoticed"
    archive = f"; archive {audit.archive}" if audit.archive else ""
    what = "prompts and answers sealed" if audit.content == "sealed" else "prompts and answers as digests"
    prompts = {**PROMPT_DEFAULTS, **listening.privacy.prompts}
    masked = [kind for kind, action in prompts.items() if action != "allow"]
    from_file = "ashore.toml" if listening.privacy != PrivacyPolicy() else "built in"
    every = f"every {human_seconds(backup.every_s)}" if backup.every_s else "by hand"
    begun = "set up" if _has_backup(settings) else "not set up: run `ashore backup init`"
    return (
        Choice(field="cache", value=cache.mode, why=kept + shared + own),
        Choice(field="audit", value=audit.durability, why=f"{what}; {anchors}{archive}"),
        Choice(field="budgets", value=_budgets(settings), why="`ashore access budget list` shows them"),
        Choice(field="masking", value=from_file, why=f"{', '.join(masked) or 'nothing'}; {WHOSE}"),
        Choice(field="backup", value=every, why=begun),
        Choice(field="edge", value=listening.edge.kind, why=_edge(listening)),
    )


def _edge(listening: Listening) -> str:
    if listening.has_edge:
        return f"TLS {listening.edge.tls}"
    return "clients connect to the API worker directly, without TLS"


def _budgets(settings: Settings) -> str:
    if not settings.state_url and not settings.home.state_db.is_file():
        return "none"
    from ashore.data.authority.budgets import SqlAuthority

    with closing(open_state(settings)) as state:
        return str(len(SqlAuthority(state).rules()) or "none")


def _has_backup(settings: Settings) -> bool:

    return BackupHome(settings.home.root).has_vault
