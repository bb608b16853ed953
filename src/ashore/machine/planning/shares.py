"""Reserved shares of models on one machine: whether they fit, and the processors of a replica."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ashore.core.bytesize import human_bytes
from ashore.core.errors import InvalidRequest
from ashore.data.engines import RESERVED_BYTES, EngineCard, Inventory, Promise, Wish


def check_shares(wishes: Sequence[Wish], inventory: Inventory) -> None:
    """Check that this machine can provide all reserved shares at once.

    Raises:
        InvalidRequest: it cannot.
    """
    promised = sum(w.share.cpus for w in wishes if w.share is not None)
    if promised > inventory.cores:
        raise InvalidRequest(
            f"[model.share] promises {promised:g} processors in all; this machine has {inventory.cores}",
            hint="promise less, or serve fewer models here",
            param="share",
        )
    kept = sum(w.share.memory_bytes for w in wishes if w.share is not None)
    if kept and kept > inventory.memory_bytes - RESERVED_BYTES:
        raise InvalidRequest(
            f"[model.share] promises {human_bytes(kept)} of memory in all; "
            f"{human_bytes(max(0, inventory.memory_bytes - RESERVED_BYTES))} are free for models",
            hint="promise less, or serve fewer models here",
            param="share",
        )


def cores_for(wish: Wish, wishes: Sequence[Wish], inventory: Inventory) -> int:
    """Return the processors that a replica may use: its part of its model's share, or those not exclusive to another
    model.
    """
    if wish.share is not None and wish.share.cpus:
        return max(1, math.ceil(wish.share.cpus / wish.replicas))
    alone = sum(int(w.share.cpus) for w in wishes if w.share is not None and w.share.cpus == int(w.share.cpus))
    return max(1, inventory.cores - alone)


def share_text(share: Promise) -> str:
    """Return a share in a few words; `none` without one."""
    words = [f"{share.cpus:g} processors"] if share.cpus else []
    return ", ".join([*words, *([human_bytes(share.memory_bytes)] if share.memory_bytes else [])]) or "none"


def why_share(share: Promise, card: EngineCard) -> str:
    """Return what the share means for this engine."""
    if share.cpus and share.cpus != int(share.cpus):
        spins = f"; {card.title} waits by spinning, and is steadier on whole ones" if card.spins else ""
        return f"requested; a weight among those that have no processors of their own{spins}"
    return "requested; its processors are its alone" if share.cpus else "requested"
