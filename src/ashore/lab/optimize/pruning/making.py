"""The steps from a parent in memory to the smaller model: choose, cut, refit, heal.

Finds the least important layers on text: removes one after the other and measures the loss.

Shapes in names: S samples, T tokens of one, H hidden size, L layers.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from ashore.core.bytesize import human_bytes
from ashore.core.errors import Bug, DiskFull
from ashore.data.engines import Samples, Told, torch_libraries
from ashore.kit.folders import make_folder
from ashore.kit.recordfile import read_record
from ashore.kit.wholefile import write_whole
from ashore.lab.optimize.pruning.healing import HealOptions, heal
from ashore.lab.optimize.pruning.lessons import Lessons
from ashore.lab.optimize.pruning.planning import PrunePlan
from ashore.lab.optimize.surgery import StudentPlan, anatomy_of_config, cut_student, measure_teacher, refit
from ashore.lab.training import RunState, Watcher, answer_loss, mean_loss

CANDIDATES: Final = 5
"""Layers tried in each round: those that change their input least."""
MEASURED_TOKENS: Final = 1024
"""Tokens that a candidate's loss is measured on."""


class Unfinished:
    """The folder of one order: same model, shares, texts and seed. One process at a time."""

    def __init__(self, root: Path, facts: Mapping[str, str]) -> None:
        """Look at the folder; creates nothing.

        Args:
            root: Has the folders of all orders for one name.
            facts: Everything that the result depends on; other facts have another folder.
        """
        digest = hashlib.sha256(msgspec.json.encode(dict(sorted(facts.items())))).hexdigest()
        self._root = root
        self._folder = root / digest[:16]
        self.state = RunState(folder=self._folder, facts=facts)

    @property
    def exists(self) -> bool:
        """Whether there is something to resume from."""
        return self._folder.is_dir()

    def cut(self) -> StudentPlan | None:
        """Return the chosen parts; None if not reached, or if the file is incomplete."""
        return read_record(self._folder / "cut.json", StudentPlan)

    def keep_cut(self, cut: StudentPlan) -> None:
        """Store the chosen parts. Raises `DiskFull`."""
        data = msgspec.json.encode(cut)
        try:
            make_folder(self._folder)
            write_whole(self._folder / "cut.json", data, mode=0o644)
        except OSError as error:
            raise DiskFull(
                f"{human_bytes(len(data))} cannot be written to {self._folder}: {error.strerror}",
                hint="free some space and run the command again",
            ) from error

    def clear(self) -> None:
        """Delete everything for this name, including older orders. May be called twice."""
        shutil.rmtree(self._root, ignore_errors=True)


def choose_layers(model: Any, samples: Samples, count: int, told: Told) -> tuple[int, ...]:
    """Return the remaining layers, ascending, after `count` are removed greedily; the first and last one stay.

    In each round the candidates are the layers whose output is most like their input (1 - cosine; "block influence"),
    and the one whose removal costs the least loss goes. Measured again after each, because a neighbour takes over its
    work.

    Args:
        model: A `PreTrainedModel`, restored afterwards.
        samples: Token ids, all of one length.
        count: How many to remove.
        told: Called with the progress.

    Sources: SLEB (arXiv 2402.09025), section 3 (greedy by measured loss); ShortGPT (arXiv 2403.03853), section 2
        (block influence).
    """
    torch, _ = torch_libraries()
    layers = list(model.model.layers)
    kept = list(range(len(layers)))
    rounds = 0
    few = max(1, MEASURED_TOKENS // len(samples[0]))
    ids_ST = torch.tensor([list(s) for s in samples[:few]])
    with torch.inference_mode():
        while rounds < count and len(kept) > 2:
            states = list(_states(model, [layers[i] for i in kept], ids_ST))
            influence = {
                at: float((1 - torch.cosine_similarity(states[at], states[at + 1], dim=-1)).mean())
                for at in range(1, len(kept) - 1)
            }
            tried = sorted(influence, key=lambda at: influence[at])[:CANDIDATES]
            losses = {
                at: _loss_from(model, [layers[i] for i in kept[at + 1 :]], states[at], ids_ST) for at in sorted(tried)
            }
            del kept[min(losses, key=lambda at: losses[at])]
            rounds += 1
            told("choose layers", rounds / count)
    return tuple(kept)


def _states(model: Any, layers: list[Any], ids_ST: Any) -> Iterator[Any]:
    """Return the input of each layer `[S, T, H]`, and the output of the last."""
    with only_layers(model, layers):
        states: list[Any] = []
        hooks = [layer.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0])) for layer in layers]
        hooks.append(layers[-1].register_forward_hook(lambda _, __, out: states.append(_first(out))))
        try:
            model.model(input_ids=ids_ST, use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
    yield from states


def _loss_from(model: Any, layers: list[Any], state_STH: Any, ids_ST: Any) -> float:
    """Return the loss per token, in nats, with `state_STH` as the input of `layers`."""
    torch, _ = torch_libraries()
    total = 0.0
    with only_layers(model, layers):
        for state_TH, ids_T in zip(state_STH, ids_ST, strict=True):
            logits_TV = model(inputs_embeds=state_TH[None], use_cache=False).logits[0, :-1]
            total += float(torch.nn.functional.cross_entropy(logits_TV.float(), ids_T[1:]))
    return total / len(ids_ST)


@contextmanager
def only_layers(model: Any, layers: list[Any]) -> Iterator[None]:
    """Restrict the model to these layers until the end of the block."""
    torch, _ = torch_libraries()
    whole, config = model.model.layers, model.config
    number = config.num_hidden_layers
    model.model.layers, config.num_hidden_layers = torch.nn.ModuleList(layers), len(layers)
    try:
        yield
    finally:
        model.model.layers, config.num_hidden_layers = whole, number


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Nats per target on held-out examples; None if that step was skipped."""

    parent: float | None = None
    cut: float | None = None
    """As it was cut, matrices not fitted again."""
    refitted: float | None = None
    healed: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """The smaller model, in memory."""

    model: Any = field(repr=False)
    layers: tuple[int, ...]
    """Which layers of the parent it has."""
    losses: Losses
    healed_tokens: int = 0


def zero(model: Any, plan: PrunePlan) -> Pruned:
    """Set the smallest weights of `model` to 0, in place."""
    zero_smallest(model, plan.zeroed)
    return Pruned(model=model, layers=tuple(range(plan.before.layers)), losses=Losses())


def prune(
    parent: Any,
    plan: PrunePlan,
    lessons: Lessons,
    options: HealOptions,
    unfinished: Unfinished | None,
    *,
    told: Told,
    watch: Watcher,
    stop: Callable[[], bool],
) -> Pruned:
    """Return a smaller model made from `parent`, which is not changed.

    Args:
        parent: A `PreTrainedModel`.
        plan: How many of each part stay.
        lessons: The texts.
        options: Options of healing, if there is a `lessons.corpus`.
        unfinished: Stores progress and resumes from it; None: no progress is stored.
        told: Called with each step except those of healing.
        watch: Called with each step of healing.
        stop: Called after each step of healing; True stops.

    Raises:
        KeyboardInterrupt: `stop` returned True; the progress of healing is stored.
        TrainingDiverged, DiskFull.
    """
    cut = unfinished.cut() if unfinished else None
    if cut is None:
        cut = choose_cut(parent, plan, lessons.measured, told)
        if unfinished:
            unfinished.keep_cut(cut)
    child = cut_student(parent, cut)
    _require_size(child, plan)
    told("measure the cut", 0.0)
    losses = {"parent": _loss(parent, lessons), "cut": _loss(child, lessons)}
    refit(child, parent, cut.layers, lessons.measured, told)
    losses["refitted"] = _loss(child, lessons)
    tokens = 0
    if lessons.corpus is not None:
        tokens = heal(
            child, parent, lessons.corpus, options, unfinished.state if unfinished else None, watch=watch, stop=stop
        )
        losses["healed"] = _loss(child, lessons)
    return Pruned(model=child, layers=cut.layers, losses=Losses(**losses), healed_tokens=tokens)


def _loss(model: Any, lessons: Lessons) -> float | None:
    aside = lessons.aside
    if not aside.num_examples:
        return None
    return mean_loss(model, (aside.batch((number,)) for number in range(aside.num_examples)), answer_loss)


def _require_size(child: Any, plan: PrunePlan) -> None:
    """Check that the cut model has the announced number of parameters."""
    has = sum(p.numel() for p in child.parameters())
    if has != plan.parameters_after or anatomy_of_config(child.config.to_dict(), name="it").sizes != plan.after:
        raise Bug(f"the pruned model has {has:,} parameters; expected {plan.parameters_after:,}")


def zero_smallest(model: Any, zeros: int) -> int:
    """Set the smallest weights of the layers' matrices to 0, in place, the same share of each; return how many.

    Dense products multiply by 0 like any number, so size and speed do not change.

    Args:
        model: A `PreTrainedModel`.
        zeros: How many weights, of all layers together.

    Source: Han and others, "Learning both Weights and Connections" (arXiv 1506.02626), section 3.
    """
    torch, _ = torch_libraries()
    weights = [m.weight for layer in model.model.layers for m in layer.modules() if isinstance(m, torch.nn.Linear)]
    total = sum(w.numel() for w in weights)
    done = 0
    with torch.inference_mode():
        for weight in weights:
            here = round(zeros * weight.numel() / total)
            if here:
                smallest = weight.abs().flatten().topk(here, largest=False).indices
                weight.view(-1)[smallest] = 0
                done += here
    return done


MEASURED_SAMPLES = 16
"""Samples on which parts are measured; refitting and healing see more."""


def choose_cut(model: Any, plan: PrunePlan, samples: Samples, told: Told) -> StudentPlan:
    """Return the parts of `model` that stay, in the numbers of `plan`.

    Layers are removed greedily by measured loss. Each remaining layer keeps the channels and groups with the largest
    effect: root mean square of their output times the norm of the following weights.

    Args:
        model: A `PreTrainedModel`, which is not changed.
        plan: How many of each part.
        samples: Token ids, all of one length.
        told: Called with the progress.
    """
    some = samples[:MEASURED_SAMPLES]
    gone = plan.before.layers - plan.after.layers
    layers = choose_layers(model, some, gone, told) if gone else tuple(range(plan.before.layers))
    told("measure parts", 0.0)
    measure = measure_teacher(model, some)
    return StudentPlan(
        layers=layers,
        channels=tuple(_best(measure.channels_LI[layer], plan.after.channels) for layer in layers),
        hidden=tuple(range(len(measure.hidden_H))),
        groups=tuple(_best(measure.groups_LG[layer], plan.after.groups) for layer in layers),
    )


def _best(importance: np.ndarray[Any, np.dtype[np.float64]], count: int) -> tuple[int, ...]:
    """Return the positions of the `count` largest numbers, ascending; of equal ones the first."""
    return tuple(int(i) for i in np.sort(np.argsort(-importance, kind="stable")[:count]))
