"""The desk of models in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ashore.control.residency.calls import CALLS, ResidencyDesk
from ashore.data.residency import AsksSupervisor
from ashore.data.residency import room as data
from ashore.kit.rooms import Context, Opened


async def administer_models(context: Context) -> Opened:
    """Open the desk; nothing without a home."""
    reach = context.find(AsksSupervisor)
    if reach is None:
        return Opened()
    return Opened(desk=ResidencyDesk(rights=context.rights, recorder=context.recorder, ask=reach))


ROOM: Final = replace(
    data.ROOM, calls=CALLS, administer=administer_models,
    acts=(
        *(call.act for call in CALLS if call.changes),
        "model:export", "model:gc", "model:import", "model:open", "model:push", "model:rekey", "model:unseal",
    ),
)  # fmt: skip
