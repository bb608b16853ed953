"""Pruning: a request becomes an order that can be shown, and the order a smaller model in the store, or nothing."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashore.core.errors import Conflict, InvalidRequest, UnknownModel
from ashore.data.engines import Told, quietly, torch_libraries
from ashore.data.text import TextModel
from ashore.kit.store import (
    DERIVED,
    ModelFilesOnDisk,
    ModelStore,
    StoredModel,
    VariantRecipe,
    data_used,
    parse_reference,
    versions_of,
)
from ashore.lab.optimize.pruning.healing import HealOptions
from ashore.lab.optimize.pruning.lessons import Lessons, read_lessons
from ashore.lab.optimize.pruning.making import Losses, Pruned, Unfinished, prune, zero
from ashore.lab.optimize.pruning.model import HEAL_TOKENS, LEARNING_RATES, Method, PruneWish
from ashore.lab.optimize.pruning.planning import PrunePlan, plan_pruning
from ashore.lab.optimize.quantise import Needs, check_needs
from ashore.lab.optimize.surgery import Anatomy, anatomy_of
from ashore.lab.training import LoraOptions, Watcher, load_checkpoint, save_checkpoint

FIXED_BYTES: Final = 700 << 20
"""torch and transformers themselves."""
SINGLE_BYTES, HALF_BYTES = 4, 2
ADAM_COPIES: Final = 3
"""Gradient and two moments of each parameter that is trained."""
ROW_TOKENS: Final = 1024
"""Tokens of one forward pass of healing."""
_KEPT_PER_HIDDEN, _KEPT_PER_CHANNEL = 14, 5
"""Numbers that a layer keeps for the way back, for each hidden number and channel of a token; counted in the graph."""
CHECKPOINTS: Final = 2
MAKER: Final = "prune"
_PACKAGES: Final = ("torch", "transformers")


def estimate_needs(anatomy: Anatomy, plan: PrunePlan, healing: Method | None) -> Needs:
    """Return memory and disk, from the counts only.

    Parent and pruned model are in memory together in single precision; healing adds gradients, moments and the
    activations of one row. On disk: the model, and two healing checkpoints. `healing` is None if there is none.
    """
    parent, child = plan.parameters_before * SINGLE_BYTES, plan.parameters_after * SINGLE_BYTES
    memory = FIXED_BYTES + parent + child + anatomy.sizes.channels**2 * 3 * 8
    disk = plan.parameters_after * HALF_BYTES
    if healing is not None:
        trained = SINGLE_BYTES * _trained_parameters(anatomy, plan, healing)
        kept = _KEPT_PER_HIDDEN * anatomy.hidden_size + _KEPT_PER_CHANNEL * plan.after.channels
        memory += ADAM_COPIES * trained + ROW_TOKENS * plan.after.layers * kept * SINGLE_BYTES
        disk += CHECKPOINTS * (ADAM_COPIES * trained)
    return Needs(memory_bytes=memory, disk_bytes=disk)


def _trained_parameters(anatomy: Anatomy, plan: PrunePlan, healing: Method) -> int:
    if healing == "distill":
        return plan.parameters_after - anatomy.vocabulary_parameters
    heads, keys = (n * plan.after.groups * anatomy.head_dim for n in (anatomy.heads_in_group, 1))
    inputs_and_outputs = 7 * anatomy.hidden_size + 2 * heads + 2 * keys + 3 * plan.after.channels
    return plan.after.layers * LoraOptions().rank * inputs_and_outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneOrder:
    """A request with every choice made."""

    wish: PruneWish
    parent: StoredModel
    plan: PrunePlan
    needs: Needs


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    """The result."""

    model: StoredModel
    plan: PrunePlan
    layers: tuple[int, ...]
    """Which layers of the parent it has."""
    losses: Losses
    healed_tokens: int


class Pruner:
    """Prunes stored models."""

    def __init__(self, store: ModelStore, work: Path, *, free_memory: Callable[[], int]) -> None:
        """Create the object.

        Args:
            store: The model store.
            work: Folder for unfinished runs; created when needed.
            free_memory: Bytes that this process may still take.
        """
        self._store, self._work, self._free_memory = store, work, free_memory

    def plan(self, wish: PruneWish) -> PruneOrder:
        """Return the plan. Reads headers and texts, loads no weights, makes nothing.

        Raises:
            UnknownModel: the store has no such model.
            Conflict: the name is taken by a model from elsewhere.
            InvalidRequest: the share cannot be removed; a text cannot be used; settings contradict each other.
            UnsupportedModel: the form or family cannot be pruned.
        """
        _require_sense(wish)
        parent = self._store.resolve(wish.model)
        self._require_free(wish.target, parent)
        with self._store.reading(parent.reference) as files:
            anatomy = anatomy_of(files, parent.shape.num_parameters)
            plan = plan_pruning(anatomy, wish.share, wish.kind)
            _lessons(wish, parent, files)
        return PruneOrder(
            wish=wish, parent=parent, plan=plan, needs=estimate_needs(anatomy, plan, wish.method if wish.heal else None)
        )

    def make(
        self,
        order: PruneOrder,
        *,
        told: Told = quietly,
        watch: Watcher = lambda report: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> PruneReport:
        """Make the model and return it. Replaces an earlier one of this name from the same parent.

        A call that was killed or stopped resumes when the same order is given again; with a sealed parent it restarts,
        because no plaintext may be on disk. A failure leaves no model.

        Args:
            order: From `plan`.
            told: Called with each step except those of healing.
            watch: Called with each step of healing.
            stop: Called after each step of healing; True raises `KeyboardInterrupt`.

        Raises:
            MemoryFull, DiskFull: raised before anything is loaded, by the estimate.
            MissingExtra: torch is not installed. TrainingDiverged, EngineFailed, CorruptBlob.
        """
        wish, parent = order.wish, order.parent
        torch_libraries()
        check_needs(
            order.needs,
            free_memory_bytes=self._free_memory(),
            free_disk_bytes=shutil.disk_usage(self._store.root).free,
            what=wish.target,
            smaller="omit --heal, or use --method lora, to need less memory",
        )
        recipe = _recipe(wish)
        unfinished = None
        if parent.sealed is None:
            unfinished = Unfinished(self._work / wish.target, recipe.to_notes() | {"parent": parent.digest})
        with self._store.reading(parent.reference) as files, self._store.scratch(parent) as scratch:
            done = _pruned(order, files, unfinished, told=told, watch=watch, stop=stop)
            told("write", 0.0)
            folder = save_checkpoint(done.model, files, scratch / "pruned")
            notes = dataclasses.replace(recipe, facts=_facts(order.plan, done)).to_notes()
            made = self._store.add_derived(parent, wish.target, folder, recipe=notes)
        if unfinished is not None:
            unfinished.clear()
        return PruneReport(
            model=made, plan=order.plan, layers=done.layers, losses=done.losses, healed_tokens=done.healed_tokens
        )

    def _require_free(self, name: str, parent: StoredModel) -> None:
        """Refuse an invalid or used name before anything is computed."""
        if parse_reference(name).name != name:
            raise InvalidRequest(f"{name!r} is not a valid model name", hint="give --name without @", param="name")
        try:
            there = self._store.resolve(name)
        except UnknownModel:
            return
        if there.source != f"{DERIVED}{parent.name}":
            raise Conflict(
                f"the name {name} is taken by a model from {there.source}", hint="choose another with --name"
            )


def _pruned(
    order: PruneOrder,
    files: ModelFilesOnDisk,
    unfinished: Unfinished | None,
    *,
    told: Told,
    watch: Watcher,
    stop: Callable[[], bool],
) -> Pruned:
    lessons = _lessons(order.wish, order.parent, files)
    told("load", 0.0)
    model = load_checkpoint(files)
    if lessons is None:
        return zero(model, order.plan)
    wish = order.wish
    options = HealOptions(max_tokens=wish.heal_tokens, method=wish.method, learning_rate=wish.rate, seed=wish.seed)
    return prune(model, order.plan, lessons, options, unfinished, told=told, watch=watch, stop=stop)


def _lessons(wish: PruneWish, parent: StoredModel, files: ModelFilesOnDisk) -> Lessons | None:
    text = wish.calibration or wish.heal
    if text is None:
        return None
    return read_lessons(
        Path(text),
        Path(wish.heal) if wish.heal else None,
        TextModel.load(files.directory),
        context_tokens=parent.shape.context_tokens,
    )


def _require_sense(wish: PruneWish) -> None:
    """Refuse contradicting settings."""
    zeros = wish.kind == "unstructured"
    if zeros and (wish.heal or wish.calibration):
        raise InvalidRequest(
            "--kind unstructured sets the smallest weights to 0 and reads no text",
            hint="omit --calibration and --heal; healing would overwrite the zeros",
            param="heal" if wish.heal else "calibration",
        )
    if not zeros and not (wish.heal or wish.calibration):
        raise InvalidRequest(
            f"--kind {wish.kind} needs text to measure what can be removed; none is given",
            hint="pass --heal FILE or --calibration FILE: plain UTF-8 text of the kind that the model will see",
            param="calibration",
        )
    if wish.heal_tokens < 1 or not 0 < wish.rate < 1:
        raise InvalidRequest(
            f"--heal-tokens is {wish.heal_tokens} and --learning-rate {wish.rate:g}; expected 1 or more, and a number "
            "between 0 and 1",
            hint=f"the defaults are {HEAL_TOKENS} and {LEARNING_RATES[wish.method]:g}",
        )


def _recipe(wish: PruneWish) -> VariantRecipe:
    parameters = {"remove": repr(wish.share), "kind": wish.kind}
    data = []
    if wish.calibration:
        data.append(data_used(Path(wish.calibration), "calibration"))
    if wish.heal:
        data.append(data_used(Path(wish.heal), "heal"))
        parameters |= {
            "heal_tokens": str(wish.heal_tokens),
            "method": wish.method,
            "learning_rate": repr(wish.rate),
        }
    return VariantRecipe(
        maker=MAKER, parameters=parameters, data=tuple(data), versions=versions_of(*_PACKAGES), seed=wish.seed
    )


def _facts(plan: PrunePlan, done: Pruned) -> dict[str, str]:
    """Return the facts for `model show`."""
    facts = {
        "precision": "fp16",
        "parameters": f"{plan.parameters_after} of {plan.parameters_before}",
        "layers": " ".join(map(str, done.layers)),
    }
    facts |= {f"loss_{name}": f"{value:.4f}" for name, value in dataclasses.asdict(done.losses).items() if value}
    if plan.zeroed:
        facts["zeros"] = str(plan.zeroed)
    if done.healed_tokens:
        facts["healed_tokens"] = str(done.healed_tokens)
    return facts
