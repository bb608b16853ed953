"""Cuts a student out of its teacher: fewer layers, narrower feed-forward parts, smaller hidden size.

Every tensor of the student is a part of one of the teacher's: the same layer, the rows and columns that matter most on
given text. `measure_teacher` measures importance, `plan_student` chooses the parts without torch, and `cut_student`
copies them. Shapes in names: L layers, H hidden size, I feed-forward width, G groups of heads that share keys.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import InvalidRequest, UnsupportedModel
from ashore.data.engines import torch_libraries

FAMILIES: Final = ("llama", "qwen2", "qwen3", "mistral")
"""`model_type` of models that this cuts: one kind of attention and one feed-forward part in every layer."""

_AXES: Final[dict[str, tuple[str, ...]]] = {
    "embed_tokens.weight": ("vocabulary", "hidden"),
    "lm_head.weight": ("vocabulary", "hidden"),
    "norm.weight": ("hidden",),
    "input_layernorm.weight": ("hidden",),
    "post_attention_layernorm.weight": ("hidden",),
    "q_proj.weight": ("queries", "hidden"),
    "k_proj.weight": ("keys", "hidden"),
    "v_proj.weight": ("keys", "hidden"),
    "q_proj.bias": ("queries",),
    "k_proj.bias": ("keys",),
    "v_proj.bias": ("keys",),
    "o_proj.weight": ("hidden", "queries"),
    "gate_proj.weight": ("channels", "hidden"),
    "up_proj.weight": ("channels", "hidden"),
    "down_proj.weight": ("hidden", "channels"),
    "q_norm.weight": ("head",),
    "k_norm.weight": ("head",),
}
"""What each axis of a tensor counts, by the end of its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherMeasure:
    """Importance of each part of the teacher on given text; larger is more."""

    layers_L: NDArray[np.float64]
    """1 - cosine between what goes into a layer and what comes out, mean over positions."""
    channels_LI: NDArray[np.float64]
    """Root of the mean square of a feed-forward channel times the norm of its column on the way out."""
    hidden_H: NDArray[np.float64]
    """Mean square of a hidden number, each layer's share of its own total."""
    groups_LG: NDArray[np.float64]
    """The same as for channels, summed over a group of heads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentPlan:
    """The parts of the teacher that the student has; indices ascending."""

    layers: tuple[int, ...]
    channels: tuple[tuple[int, ...], ...]
    """By layer of the student."""
    hidden: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]
    """By layer of the student: groups of heads."""


def plan_student(measure: TeacherMeasure, *, layers: int, groups: int, channels: int, hidden: int) -> StudentPlan:
    """Decide which parts a student of these sizes keeps.

    Layers: the first and the last one stay, the others are spread evenly, because neighbours do similar work. Channels,
    hidden units, groups of heads: the most important ones.
    """
    kept = even_layers(len(measure.layers_L), layers)
    return StudentPlan(
        layers=kept,
        channels=tuple(_best(measure.channels_LI[layer], channels) for layer in kept),
        hidden=_best(measure.hidden_H, hidden),
        groups=tuple(_best(measure.groups_LG[layer], groups) for layer in kept),
    )


def even_layers(num_layers: int, num_kept: int) -> tuple[int, ...]:
    """Return `num_kept` of `num_layers`, spread evenly, including the first and the last."""
    return tuple(int(i) for i in np.linspace(0, num_layers - 1, num_kept).round())


def measure_teacher(teacher: Any, batches: Iterable[Sequence[int]]) -> TeacherMeasure:
    """Return the importance of each part of the teacher on some texts (token ids).

    Raises:
        UnsupportedModel: the teacher's family cannot be cut.
        InvalidRequest: there is no text.
    """
    torch, _ = torch_libraries()
    check_family(teacher.config)
    config, layers = teacher.config, teacher.model.layers
    size, num_groups = config.hidden_size, config.num_key_value_heads
    layers_L = np.zeros(len(layers))
    channels_LI = np.zeros((len(layers), config.intermediate_size))
    heads_LQ = np.zeros((len(layers), layers[0].self_attn.o_proj.in_features))
    hidden_H = np.zeros(size)
    num_tokens = 0

    def gather(of_rows: Callable[[Any, Any], None]) -> Callable[..., None]:
        return lambda module, inputs, output: of_rows(inputs[0], output)

    def watch_layer(number: int) -> Callable[[Any, Any], None]:
        def of_rows(before: Any, after: Any) -> None:
            after = after[0] if isinstance(after, tuple) else after
            nonlocal hidden_H
            layers_L[number] += float((1 - torch.cosine_similarity(before, after, dim=-1)).sum())
            square_H = before.double().pow(2).sum((0, 1))
            hidden_H += (square_H / square_H.sum()).numpy()

        return of_rows

    def watch_square(total: NDArray[np.float64]) -> Callable[[Any, Any], None]:
        def of_rows(before: Any, _: Any) -> None:
            total[:] += before.double().pow(2).sum((0, 1)).numpy()

        return of_rows

    hooks = []
    for number, layer in enumerate(layers):
        hooks += [
            layer.register_forward_hook(gather(watch_layer(number))),
            layer.mlp.down_proj.register_forward_hook(gather(watch_square(channels_LI[number]))),
            layer.self_attn.o_proj.register_forward_hook(gather(watch_square(heads_LQ[number]))),
        ]
    try:
        with torch.inference_mode():
            for ids in batches:
                teacher.model(input_ids=torch.tensor([list(ids)]), use_cache=False)
                num_tokens += len(ids)
    finally:
        for hook in hooks:
            hook.remove()
    if not num_tokens:
        raise InvalidRequest(
            "there is no text to measure the teacher on", hint="pass --data or --text with a file that has text"
        )
    for number, layer in enumerate(layers):
        channels_LI[number] *= layer.mlp.down_proj.weight.detach().double().pow(2).sum(0).numpy()
        heads_LQ[number] *= layer.self_attn.o_proj.weight.detach().double().pow(2).sum(0).numpy()
    return TeacherMeasure(
        layers_L=layers_L / num_tokens,
        channels_LI=np.sqrt(channels_LI / num_tokens),
        hidden_H=hidden_H,
        groups_LG=np.sqrt(heads_LQ.reshape(len(layers), num_groups, -1).sum(-1) / num_tokens),
    )


def cut_student(teacher: Any, plan: StudentPlan) -> Any:
    """Return a new model with the parts of `teacher` that `plan` names, in float32; the teacher is not changed."""
    torch, transformers = torch_libraries()
    check_family(teacher.config)
    config = copy.deepcopy(teacher.config)
    heads_in_group = config.num_attention_heads // config.num_key_value_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    config.num_hidden_layers = len(plan.layers)
    config.hidden_size = len(plan.hidden)
    config.intermediate_size = len(plan.channels[0])
    config.num_key_value_heads = len(plan.groups[0])
    config.num_attention_heads = heads_in_group * len(plan.groups[0])
    config.head_dim = head_size
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[layer] for layer in plan.layers]
    with torch.device("meta"):
        student = transformers.AutoModelForCausalLM.from_config(config)
    source = teacher.state_dict()
    kept = {}
    for name in student.state_dict():
        head, _, rest = name.partition("model.layers.")
        number, _, part = rest.partition(".")
        layer = int(number) if rest else 0
        tensor = source[f"{head}model.layers.{plan.layers[layer]}.{part}" if rest else name]
        indices = {
            "hidden": plan.hidden,
            "channels": plan.channels[layer],
            "keys": _spread(plan.groups[layer], head_size),
            "queries": _spread(plan.groups[layer], head_size * heads_in_group),
        }
        for axis, what in enumerate(_axes_of(name)):
            if what in indices:
                tensor = tensor.index_select(axis, torch.tensor(indices[what]))
        kept[name] = tensor.float().clone()
    student.load_state_dict(kept, assign=True)
    student.tie_weights()
    student.model.rotary_emb = type(teacher.model.rotary_emb)(config=config)  # its frequencies are computed, not stored
    student.generation_config = copy.deepcopy(teacher.generation_config)
    return student.eval()


def freeze_vocabulary(model: Any) -> None:
    """Freeze embedding and output layer: they were not cut, and are the costliest to train."""
    model.get_input_embeddings().weight.requires_grad_(False)
    model.get_output_embeddings().weight.requires_grad_(False)


def check_family(config: Any) -> None:
    """Refuse a model with unknown layers. Raises `UnsupportedModel`."""
    if config.model_type not in FAMILIES:
        raise UnsupportedModel(
            f"a student cannot be cut out of a model of the family {config.model_type!r}; "
            f"supported: {', '.join(FAMILIES)}",
            hint="use a smaller checkpoint as the student: --student NAME",
        )


def _axes_of(name: str) -> tuple[str, ...]:
    return next(axes for end, axes in _AXES.items() if name.endswith("." + end) or name == end)


def _spread(groups: Sequence[int], size: int) -> tuple[int, ...]:
    return tuple(group * size + i for group in groups for i in range(size))


def _best(importance: NDArray[np.float64], count: int) -> tuple[int, ...]:
    return tuple(int(i) for i in np.sort(np.argsort(-importance, kind="stable")[:count]))
