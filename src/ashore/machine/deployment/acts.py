"""Audit records of a deployment: models loaded, plans changed, and failures. Pure."""

from __future__ import annotations

from typing import Final

from ashore.core.errors import AshoreError
from ashore.data.engines import Change, EngineInfo
from ashore.kit.recorder import Act
from ashore.machine.deployment.hosts import Running

MOST_WHY_CHARS: Final = 300


def why_of(fault: Exception) -> str:
    """Return the reason of a failure as the state and the audit log store it: `disk_full: no space left to write …`."""
    text = f"{fault.code if isinstance(fault, AshoreError) else type(fault).__name__}: {fault}"
    return text.encode("utf-8", "replace").decode()[:MOST_WHY_CHARS]  # names of files may be no text


def loaded_act(running: Running, info: EngineInfo) -> Act:
    """Return the audit record of a loaded model."""
    model = running.plan
    return Act(
        action="model:load",
        actor="system",
        resource=f"model/{model.alias}",
        detail={
            "reference": model.reference,
            "release": model.release,
            "content": running.content,
            "engine": info.version,
            "precision": info.precision,
            "replicas": model.replicas,
        },
    )


def reload_act(changes: tuple[Change, ...], fault: Exception | None) -> Act:
    """Return the audit record of a change of the served models, or of a failed one."""
    return Act(
        action="deployment:reload",
        actor="system",
        outcome="done" if fault is None else "failed",
        reason="" if fault is None else why_of(fault),
        detail={change.alias: change.kind for change in changes},
    )
