"""Quantising: a request becomes a plan that can be shown, and the plan a variant in the store, or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashore.core.bytesize import human_bytes
from ashore.core.errors import DiskFull, InvalidRequest, MemoryFull, UnknownVariant, UnsupportedModel
from ashore.core.kinds import EngineKind
from ashore.core.nearest import did_you_mean
from ashore.core.shapes import ModelShape
from ashore.data.engines import CARDS, Precision, Rounder, RoundOrder, Told, card_of, quietly
from ashore.data.jobs.operations.asks import QuantizeIn
from ashore.data.text import TextModel
from ashore.kit.store import DataUsed, ModelStore, StoredModel, VariantRecipe, data_used, parse_reference, versions_of
from ashore.lab.optimize.calibration import Calibration, cut_samples, read_text

PRECISIONS: Final = tuple(precision for card in CARDS for precision in card.precisions)
MAKER: Final = "quantize"
_LAYERS: Final = "four_bit_layers"


def choose_precision(to: str, engine: EngineKind | None) -> Precision:
    """Return the precision called `to`.

    Args:
        to: Name, in any case.
        engine: The engine; None: the one that runs it.

    Raises:
        InvalidRequest: there is no such precision, or another engine runs it.
    """
    if to.lower() == "auto":
        raise InvalidRequest(
            "ashore no longer searches for a mixture of four and eight bits (auto)",
            hint="use int8 (fastest, keeps quality), or int4 with --calibration FILE (smallest)",
            param="to",
        )
    found = next((p for p in PRECISIONS if p.name == to.lower()), None)
    if found is None:
        raise InvalidRequest(
            f"there is no precision {to!r}", hint=did_you_mean(to.lower(), [p.name for p in PRECISIONS]), param="to"
        )
    why, hint = ("", "") if engine is None else card_of(engine).no_precisions
    if why:
        raise InvalidRequest(why, hint=hint, param="engine")
    if engine is not None and engine != found.engine:
        theirs = [p.name for p in PRECISIONS if p.engine == engine]
        raise InvalidRequest(
            f"{found.name} is run by the {found.engine} engine, not by {engine}",
            hint=f"{engine} runs {', '.join(theirs)}" if theirs else f"omit --engine, or pass --engine {found.engine}",
            param="engine",
        )
    return found


def choose_group_size(precision: Precision, asked: int | None) -> int:
    """Return the requested or default group size; 0 if the format has none.

    Raises:
        InvalidRequest: the format does not have it.
    """
    if asked is None:
        return precision.group_sizes[0] if precision.group_sizes else 0
    if asked not in precision.group_sizes:
        sizes = ", ".join(map(str, sorted(precision.group_sizes)))
        raise InvalidRequest(
            f"{precision.name} does not support groups of {asked}",
            hint=f"one of {sizes}" if sizes else "omit --group-size; the format has only one",
            param="group_size",
        )
    return asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Estimated resources."""

    memory_bytes: int
    disk_bytes: int
    variant_bytes: int = 0
    """What the variant will have, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizePlan:
    """A request with every choice made."""

    parent: StoredModel
    precision: Precision
    variant: str
    group_size: int
    calibration: Path | None
    seed: int
    needs: Needs
    notes: tuple[str, ...] = ()
    """What the user should know before it runs."""

    @property
    def reference(self) -> str:
        return f"{self.parent.name}@{self.variant}"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeReport:
    """The result."""

    variant: StoredModel
    parent_bytes: int
    recipe: VariantRecipe


class Quantiser:
    """Makes variants of stored models with fewer bits."""

    def __init__(
        self,
        store: ModelStore,
        rounders: Mapping[EngineKind, Rounder],
        *,
        free_memory: Callable[[], int],
    ) -> None:
        """Create the object.

        Args:
            store: The model store.
            rounders: Rounders by engine.
            free_memory: Bytes that this process may still take.
        """
        self._store = store
        self._rounders = rounders
        self._free_memory = free_memory

    def plan(self, wish: QuantizeIn) -> QuantizePlan:
        """Return the plan. Reads the store and the calibration file, and makes nothing.

        Raises:
            UnknownModel: the store has no such model.
            InvalidRequest: precision, group size, name or calibration text cannot be used.
            UnsupportedModel: the model has no weights that can be rounded.
        """
        precision = choose_precision(wish.to, wish.engine)
        group_size = choose_group_size(precision, wish.group_size)
        parent = self._parent(wish.model)
        if wish.calibration is not None and not precision.reads_text:
            raise InvalidRequest(
                f"{precision.name} uses only the weights; calibration text has no effect",
                hint="omit --calibration",
                param="calibration",
            )
        if wish.calibration is not None:
            read_text(Path(wish.calibration))
        variant = wish.name or precision.name
        parse_reference(f"{parent.name}@{variant}")
        return QuantizePlan(
            parent=parent,
            precision=precision,
            variant=variant,
            group_size=group_size,
            calibration=Path(wish.calibration) if wish.calibration else None,
            seed=wish.seed,
            needs=estimate_needs(
                parent.shape,
                precision,
                weight_bytes=parent.num_bytes,
                reads_text=wish.calibration is not None,
            ),
            notes=tuple(self._notes(parent, variant, wish, reads_text=precision.reads_text)),
        )

    def make(self, plan: QuantizePlan, *, told: Told = quietly) -> QuantizeReport:
        """Make the variant and return it. An earlier variant of the name is replaced once the new one is complete.

        An interrupted or killed call leaves no variant; it or `model gc` deletes the scratch files.

        Raises:
            MemoryFull, DiskFull: raised before anything is made, by the estimate.
            InvalidRequest: the calibration text is too short.
            UnsupportedModel, UnsupportedByEngine, EngineFailed, CorruptBlob.
        """
        check_needs(
            plan.needs,
            free_memory_bytes=self._free_memory(),
            free_disk_bytes=shutil.disk_usage(self._store.root).free,
            what=plan.reference,
            smaller=_smaller(plan),
        )
        return self._make(plan, told)

    def prepare(self, parent: StoredModel, variant: str, *, told: Told = quietly) -> StoredModel:
        """Return `parent@variant` if `variant` is a precision without calibration text; made if it is absent or was
        made from an earlier model of that name.

        Raises as `make`, but without estimating memory and disk, because `up` needs the variant.
        """
        try:
            model = self._store.resolve(f"{parent.name}@{variant}")
            if not self._store.is_outdated(model):
                return model
        except UnknownVariant:
            pass
        return self._make(self.plan(QuantizeIn(model=parent.name, to=variant)), told).variant

    def _make(self, plan: QuantizePlan, told: Told) -> QuantizeReport:
        parameters = {"to": plan.precision.name, "group_size": str(plan.group_size)}
        data: tuple[DataUsed, ...] = ()
        if plan.calibration is not None:
            data = (data_used(plan.calibration, "calibration"),)
        rounder = self._rounders[plan.precision.engine]
        with self._store.reading(plan.parent.reference) as files, self._store.scratch(plan.parent) as scratch:
            calibration = self._calibration(files.directory, plan.calibration, plan.seed, plan.parent, plan.precision)
            out = scratch / "variant"
            out.mkdir()
            order = RoundOrder(
                precision=plan.precision.name,
                group_size=plan.group_size,
                samples=calibration.tuning,
                ranking=calibration.ranking,
                eight_share=plan.precision.eight_share,
            )
            made = rounder(files.directory, files.weights, order, out, told=told)
            if made.small is not None:
                parameters[_LAYERS] = " ".join(sorted(made.small))
            recipe = VariantRecipe(
                maker=MAKER,
                parameters=parameters,
                data=data,
                versions=versions_of(*made.packages),
                seed=plan.seed,
                facts=made.facts,
            )
            variant = self._store.add_variant(
                plan.parent, plan.variant, out, format=made.format, weights=made.weights, recipe=recipe.to_notes()
            )
        return QuantizeReport(variant=variant, parent_bytes=plan.parent.num_bytes, recipe=recipe)

    def _parent(self, name: str) -> StoredModel:
        parent = self._store.resolve(name)
        if parent.variant:
            raise InvalidRequest(
                f"{name} is already quantized; quantizing it again would lose more quality",
                hint=f"name the original model: {parent.name}",
                param="model",
            )
        if parent.format not in ("gguf", "safetensors") or parent.shape.is_encoder:
            raise UnsupportedModel(
                f"{name} is a {parent.shape.architecture} model in the format {parent.format}; decoders in GGUF or "
                "safetensors can be quantised"
            )
        return parent

    def _calibration(
        self, folder: Path, text: Path | None, seed: int, parent: StoredModel, precision: Precision
    ) -> Calibration:
        if text is None:
            return Calibration(tuning=())
        model = TextModel.load(folder)
        return cut_samples(
            read_text(text),
            lambda words: model.encode(words, bare=True),
            context_tokens=parent.shape.context_tokens,
            seed=seed,
            ranking=precision.ranking,
        )

    def _notes(self, parent: StoredModel, variant: str, wish: QuantizeIn, *, reads_text: bool) -> list[str]:
        notes = []
        try:
            old = self._store.resolve(f"{parent.name}@{variant}")
            notes.append(f"{old.reference} already exists and is replaced when the new one is complete")
        except UnknownVariant:
            pass
        if reads_text and wish.calibration is None:
            notes.append(
                "without --calibration, each weight is rounded to the nearest value; calibration text improves quality"
            )
        return notes


def _smaller(plan: QuantizePlan) -> str:
    if plan.calibration is not None:
        return "omit --calibration, which needs most of this memory, or stop a server on this machine"
    return f"q8_0 for llamacpp takes {human_bytes(plan.parent.num_bytes)} or so; or stop a server that runs here"


HALF_BYTES: Final = 2
SINGLE_BYTES: Final = 4
FIXED_BYTES: Final = 512 << 20
"""The libraries themselves."""
_MATRIX_COPIES: Final = 3 * SINGLE_BYTES
"""Of the largest matrix: as stored, in single precision, and rounded."""
_DEFAULT_WIDTH_FACTOR: Final = 4
"""Inputs of the second matrix of an MLP, as a multiple of the hidden size, where the shape does not tell."""


def estimate_needs(shape: ModelShape, precision: Precision, *, weight_bytes: int, reads_text: bool) -> Needs:
    """Return memory, disk and size, from the shape alone.

    GPTQ needs one square matrix for each product input: three of the hidden size and one of the MLP's width in each
    block. Comparing layers needs the weights in single precision twice.
    """
    params = shape.num_parameters or weight_bytes // HALF_BYTES
    half = params * HALF_BYTES
    variant = int(params * precision.bits / 8)
    memory = FIXED_BYTES
    rounding = card_of(precision.engine).rounding
    assert rounding is not None
    text = rounding.text_halves if reads_text else 0
    memory += text * half + rounding.holds_variant * variant + _MATRIX_COPIES * shape.vocab_size * shape.hidden_size
    disk = variant + (rounding.scratch_halves + text) * half
    if rounding.squares and reads_text:
        width = _DEFAULT_WIDTH_FACTOR * shape.hidden_size
        memory += shape.num_layers * (3 * shape.hidden_size**2 + width**2) * SINGLE_BYTES
        memory += params  # codes of eight bits
    if precision.ranking and reads_text:
        memory += 2 * params * SINGLE_BYTES
    return Needs(memory_bytes=memory, disk_bytes=disk, variant_bytes=variant)


def check_needs(needs: Needs, *, free_memory_bytes: int, free_disk_bytes: int, what: str, smaller: str) -> None:
    """Check that the machine has the resources.

    Args:
        needs: From `estimate_needs`.
        free_memory_bytes: What this process may still take.
        free_disk_bytes: Of the store's disk.
        what: `smollm2@int4`.
        smaller: Hint: the setting that needs less.

    Raises:
        MemoryFull, DiskFull: it does not; the message has both numbers.
    """
    if needs.memory_bytes > free_memory_bytes:
        raise MemoryFull(
            f"making {what} needs about {human_bytes(needs.memory_bytes)} of memory; "
            f"{human_bytes(free_memory_bytes)} are free",
            hint=smaller,
        )
    if needs.disk_bytes > free_disk_bytes:
        raise DiskFull(
            f"making {what} needs about {human_bytes(needs.disk_bytes)} on the disk of the store; "
            f"{human_bytes(free_disk_bytes)} are free",
            hint="free unused files with `ashore model gc`, or move the home to a larger disk (ASHORE_HOME)",
        )
