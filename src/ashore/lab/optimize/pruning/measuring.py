"""Finds the least important layers on text: removes one after the other and measures the loss.

Shapes in names: S samples, T tokens of one, H hidden size, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ashore.data.engines import Samples, Told, torch_libraries

CANDIDATES: Final = 5
"""Layers tried in each round: those that change their input least."""
MEASURED_TOKENS: Final = 1024
"""Tokens that a candidate's loss is measured on."""


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
