"""Request, plan and result of distilling."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ashore.core.kinds import EngineKind
from ashore.data.jobs.operations.asks import Distill
from ashore.kit.store import StoredModel, VariantRecipe
from ashore.lab.optimize.distilling.settings import DistilSettings
from ashore.lab.optimize.distilling.sizes import StudentSizes


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilWish:
    """A request to distil."""

    teacher: str
    """Name in the store, with a variant or without."""
    student: str | None = None
    """A smaller model of the store; None: it is cut out of the teacher."""
    data: tuple[Path, ...] = ()
    """Chat or completion JSONL."""
    text: tuple[Path, ...] = ()
    """Plain UTF-8 text."""
    name: str | None = None
    teacher_engine: EngineKind | None = None
    settings: DistilSettings = field(default_factory=DistilSettings)

    @classmethod
    def of(cls, asked: Distill) -> DistilWish:
        """Return what a command or a job asks for."""
        shared = set(DistilSettings.__struct_fields__) & set(asked.__struct_fields__)
        return cls(
            teacher=asked.teacher,
            student=asked.student,
            data=tuple(map(Path, asked.data)),
            text=tuple(map(Path, asked.text)),
            name=asked.name,
            teacher_engine=asked.teacher_engine,
            settings=DistilSettings(**{name: getattr(asked, name) for name in shared}),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilPlan:
    """A request with every choice made."""

    wish: DistilWish
    name: str
    parent: StoredModel
    """What the student starts from: the model that was named, or the teacher."""
    teacher: StoredModel
    sizes: StudentSizes
    num_examples: int
    num_tokens: int
    """Of one epoch."""
    train_tokens: int
    """That training will go through, about."""
    notes: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Parameters of the student as a share of the teacher's; 0 if unknown."""
        before = self.teacher.shape.num_parameters
        return self.sizes.student_parameters / before if before else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilReport:
    """The result."""

    student: StoredModel
    recipe: VariantRecipe
    first_loss: float
    last_loss: float
    """Mean of the first and of the last tenth of the steps, in nats per target."""
    tokens: int
    seconds: float
    logit_bytes_per_token: float
    """Of the teacher's kept words."""
    resumed_at: int
