"""A workshop without a store: the twin of `StoreWorkshop`, for tests and for models that need no store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ashore.core.errors import UnknownModel
from ashore.data.engines import MADE_UP, EngineOptions, ModelPlan
from ashore.data.releases.model import digest_of_value, engine_digest
from ashore.data.releases.ports import Described, ReleaseWish


@dataclass(slots=True, kw_only=True)
class MemoryWorkshop:
    """Knows `fake:` models, and those registered with their size in bytes."""

    needed: Mapping[str, int] = field(default_factory=dict)
    origins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of models that were made from others: the names of those."""
    free: int = 1 << 40

    def describe(self, wish: ReleaseWish, *, live: ModelPlan | None) -> Described:
        if not wish.model.startswith(MADE_UP.prefix) and wish.model not in self.needed:
            raise UnknownModel(f"there is no model {wish.model!r}", param="model")
        name, _, variant = (
            wish.model.partition("@") if not wish.model.startswith(MADE_UP.prefix) else (wish.model, "", "")
        )
        base = live or ModelPlan(
            alias=wish.alias,
            release="",
            name=name,
            variant=variant,
            options=EngineOptions(kind=MADE_UP.kind),
            replicas=1,
            embedder=False,
            in_store=True,
        )
        return self.describe_plan(
            replace(
                base,
                name=name,
                variant=variant,
                adapters=wish.adapters,
                replicas=wish.replicas or base.replicas,
                options=EngineOptions(kind=MADE_UP.kind, extra=dict(wish.options)),
                choices=(),
            )
        )

    def describe_plan(self, plan: ModelPlan) -> Described:
        parts = {"weights": digest_of_value(plan.reference), "engine": engine_digest(plan)}
        parts |= {f"adapter {name}": digest_of_value(folder) for name, folder in plan.adapters}
        return Described(
            plan=plan,
            parts=parts,
            origins=self.origins.get(plan.name, ()),
            needed_bytes=self.needed.get(plan.reference, 0) * plan.replicas,
        )

    def free_bytes(self) -> int:
        return self.free
