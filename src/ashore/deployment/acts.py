"""What an auditor gets to know of a deployment: models loaded, plans changed. Pure."""

from __future__ import annotations

from ashore.core import Act
from ashore.deployment.hosts import Running
from ashore.engines import EngineInfo
from ashore.errors import AshoreError
from ashore.planning import Change


def loaded_act(running: Running, info: EngineInfo) -> Act:
    """Return the act of a model that is there to be asked."""
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


def reload_act(changes: tuple[Change, ...], fault: AshoreError | None) -> Act:
    """Return the act of a change of what is served, or of one that failed."""
    return Act(
        action="deployment:reload",
        actor="system",
        outcome="done" if fault is None else "failed",
        reason="" if fault is None else f"{fault.code}: {fault.message}",
        detail={change.alias: change.kind for change in changes},
    )
