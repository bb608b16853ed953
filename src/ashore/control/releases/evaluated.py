"""Reads the verdict that `ashore optimize evaluate --gate` stores beside a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ashore.core.errors import UnknownModel, UnknownVariant
from ashore.data.engines import card_by_name
from ashore.data.releases.ports import GateVerdict

if TYPE_CHECKING:
    from ashore.kit.store import ModelStore


class KeptVerdicts:
    """Implements `EvaluationGate`: the last verdict on exactly these bytes of a model."""

    def __init__(self, store: Callable[[], ModelStore]) -> None:
        """Create it; `store` is called at the first verdict."""
        self._store = store

    def verdict(self, reference: str, *, digest: str = "") -> GateVerdict:
        from ashore.kit.store import gate_verdict

        if card_by_name(reference) is not None:
            return GateVerdict(outcome="")  # nothing is stored of it
        store = self._store()
        try:
            if digest and store.resolve(reference).digest != digest:
                return GateVerdict(outcome="")  # the name refers to other bytes by now
            found = gate_verdict(store, reference)
        except (UnknownModel, UnknownVariant):
            return GateVerdict(outcome="")
        if found is None:
            return GateVerdict(outcome="")
        broken = [f"{line.metric}{f' ({line.about})' if line.about else ''}: {line.why}" for line in found.lines
                  if not line.passed]  # fmt: skip
        return GateVerdict(outcome="passed" if found.passed else "failed", why="; ".join(broken))
