"""Refits a pruned model by least squares, to compensate for its removed parts: no gradients, one pass over some text.

Layer after layer, the matrix on the way out of each feed-forward part (`down_proj`) is refitted, so that the layer's
output matches the parent's after the removed layers that follow. The pruned model computes on its own states, so that
every layer also corrects the errors of earlier ones.

Shapes in names: N tokens, H hidden size, I feed-forward channels that stayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ashore.data.engines import Samples, Told, torch_libraries

RIDGE: Final = 0.03
"""How strongly a matrix is held where it was, as a share of the mean square of its inputs."""


def refit(child: Any, parent: Any, layers: Sequence[int], samples: Samples, told: Told) -> None:
    """Refit the feed-forward outputs of `child`, in place, to the states of `parent`.

    Each token is weighted by the inverse of its state's mean square, because the next layer normalises it: the few
    tokens with huge states (the first of a text) would otherwise dominate.

    Args:
        child: Cut out of the parent; hidden size and vocabulary are the same.
        parent: The parent.
        layers: Index in the parent of each layer of the child.
        samples: Token ids, all of one length.
        told: Called with the progress.

    Source: the closed-form linear compensation of a removed block, as in ReplaceMe (arXiv 2505.02819), section 2, here
        for each layer and with its own inputs.
    """
    torch, _ = torch_libraries()
    ids_ST = torch.tensor([list(s) for s in samples])
    with torch.inference_mode():
        wanted = [parent.model.embed_tokens(ids_T[None]) for ids_T in ids_ST]
        states = [child.model.embed_tokens(ids_T[None]) for ids_T in ids_ST]
        places = torch.arange(ids_ST.shape[1])[None]
        angles = parent.model.rotary_emb(wanted[0], places)
        for number, layer in enumerate(child.model.layers):
            last = layers[number + 1] if number + 1 < len(layers) else len(parent.model.layers)
            for behind in parent.model.layers[layers[number] : last]:
                wanted = [_first(behind(state, position_embeddings=angles, position_ids=places)) for state in wanted]
            _refit_layer(layer, states, wanted, angles, places)
            told("refit", (number + 1) / len(layers))


def _refit_layer(layer: Any, states: list[Any], wanted: list[Any], angles: Any, places: Any) -> None:
    """Refit one layer, and put its output into `states`."""
    torch, _ = torch_libraries()
    down = layer.mlp.down_proj
    weight_HI = down.weight.data.double()
    gram_II = torch.zeros((weight_HI.shape[1],) * 2, dtype=torch.float64)
    cross_HI = torch.zeros_like(weight_HI)
    kept = []
    for number, state in enumerate(states):
        inner_NI, out = _watched(layer, state, angles, places)
        missing_NH = (wanted[number] - out)[0]
        weigh_N1 = wanted[number][0].pow(2).mean(-1, keepdim=True).clamp_min(1e-6).reciprocal()
        gram_II += (inner_NI.T @ (inner_NI * weigh_N1)).double()
        cross_HI += ((missing_NH * weigh_N1).T @ inner_NI).double()
        kept.append((out, inner_NI))
    ridge = RIDGE * float(gram_II.diagonal().mean())
    gram_II.diagonal().add_(max(ridge, 1e-12))
    change_HI = torch.linalg.solve(gram_II, cross_HI.T).T.float()
    down.weight.data += change_HI
    for number, (out, inner_NI) in enumerate(kept):
        states[number] = out + (inner_NI @ change_HI.T)[None]


def _watched(layer: Any, state: Any, angles: Any, places: Any) -> tuple[Any, Any]:
    """Return the inputs of `down_proj` `[N, I]` and the output of the layer."""
    seen: list[Any] = []
    hook = layer.mlp.down_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    try:
        out = _first(layer(state, position_embeddings=angles, position_ids=places))
    finally:
        hook.remove()
    return seen[0], out


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output
