"""The same ranking by PyTorch in single precision, eager: `python plain_torch.py LAYERS CANDIDATES TOKENS ROUNDS`.

Prints the median seconds. A process of its own, since PyTorch may live in another Python (`TORCH_PYTHON`).
"""

import statistics
import sys
import time

import torch
from torch.nn import functional

HIDDEN, INNER, HEADS, KV, VOCAB = 3584, 18944, 28, 4, 8192
SIZE = HIDDEN // HEADS


def main() -> None:
    layers, candidates, tokens, rounds = map(int, sys.argv[1:])
    torch.manual_seed(0)
    with torch.inference_mode():
        sizes = ((HIDDEN, HIDDEN), (KV * SIZE, HIDDEN), (KV * SIZE, HIDDEN), (HIDDEN, HIDDEN), (INNER, HIDDEN),
                 (INNER, HIDDEN), (HIDDEN, INNER))  # fmt: skip
        weights = [[torch.randn(one) / one[1] ** 0.5 for one in sizes] for _ in range(layers)]
        embedding, head = torch.randn(VOCAB, HIDDEN), torch.randn(VOCAB, HIDDEN) / HIDDEN**0.5
        ids = torch.randint(0, VOCAB, (candidates, tokens))
        angles = torch.outer(torch.arange(tokens), 1e4 ** -(torch.arange(0, SIZE, 2) / SIZE)).repeat(1, 2)
        times = []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            rank(ids, embedding, weights, head, angles.cos(), angles.sin())
            times.append(time.perf_counter() - began)
    print(statistics.median(times[1:]))


def half_turned(x):
    return torch.cat((-x[..., SIZE // 2 :], x[..., : SIZE // 2]), -1)


def rank(ids, embedding, weights, head, cosine, sine):
    """Return the order of candidates by the likelihood of one token at the end."""
    x = embedding[ids]
    for q, k, v, o, gate, up, down in weights:
        y = functional.rms_norm(x, (HIDDEN,))
        split = [functional.linear(y, one).unflatten(-1, (-1, SIZE)).transpose(1, 2) for one in (q, k, v)]
        turned = [
            one * cosine + torch.cat((-one[..., SIZE // 2 :], one[..., : SIZE // 2]), -1) * sine for one in split[:2]
        ]
        y = functional.scaled_dot_product_attention(*turned, split[2], is_causal=True, enable_gqa=True)
        x = x + functional.linear(y.transpose(1, 2).flatten(2), o)
        y = functional.rms_norm(x, (HIDDEN,))
        x = x + functional.linear(functional.silu(functional.linear(y, gate)) * functional.linear(y, up), down)
    last = functional.linear(functional.rms_norm(x[:, -1], (HIDDEN,)), head)
    return last.log_softmax(-1)[:, 5].argsort(descending=True)


if __name__ == "__main__":
    main()
