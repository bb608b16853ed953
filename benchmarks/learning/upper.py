"""The demo model with adapters in its upper layers only, so that teaching it takes a minute on two cores.

What comes out of the lower layers is the same whatever the adapters learn: it is computed once for each text and kept.
The loop, the loss, the packing and the adapters are those of `ashore learn run`. Products are in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from ashore.learning.batches import FeedbackBatches
from ashore.learning.objectives import FeedbackLoss
from ashore.store import ModelFilesOnDisk
from ashore.training import LoopOptions, LoopResult, LoraOptions, add_lora, load_checkpoint, train
from ashore.training.attention import packed_attention
from ashore.training.batches import make_corpus, pack_rows
from ashore.training.losses import hidden_states

LAYERS: Final = 6
ROW_TOKENS: Final = 2048
Ids = tuple[int, ...]


class Upper:
    """A model that is taught several times from the same beginning."""

    def __init__(self, files: ModelFilesOnDisk, *, kept: Path | None = None) -> None:
        """Load it. `kept`: folder in which the outputs of the lower layers stay between two processes."""
        self._files, self._kept = files, kept
        self._lower = load_checkpoint(files, dtype="bfloat16")
        num_layers = len(self._lower.model.layers)
        self.cut: Final = num_layers - LAYERS
        import torch

        self._lower.model.layers = self._lower.model.layers[: self.cut]
        self._lower.model.norm = torch.nn.Identity()
        self._hidden: dict[Ids, Any] = {}
        self._begin()
        self._load()

    def teach(
        self, batches: FeedbackBatches, *, learning_rate: float, seed: int, rank: int = 16, say: str = ""
    ) -> LoopResult:
        """Put a fresh adapter in, and train it."""
        self._begin()
        with self._only_upper() as base:
            self.peft = add_lora(base, LoraOptions(rank=rank, alpha=2 * rank), seed=seed)
            self.learn([batches.corpus.batch((at,)).ids_T.tolist() for at in range(len(batches.corpus.lengths))])
            return train(
                self.peft.get_base_model(),
                batches,
                FeedbackLoss(self.peft, batches.roles),
                LoopOptions(learning_rate=learning_rate, seed=seed, precision="bfloat16"),
                watch=lambda one: (
                    print(f"{say} {one.step}/{one.num_steps} loss {one.loss:.2f}", flush=True)
                    if say and one.step % 20 == 0
                    else None
                ),
            )

    def last_scores(self, texts: Sequence[Sequence[int]], first: Sequence[int]) -> np.ndarray:
        """Return the scores of some tokens after each text, `[texts, tokens]`."""
        import torch

        found = np.zeros((len(texts), len(first)), dtype=np.float32)
        with self._only_upper() as base, torch.inference_mode():
            head = base.get_output_embeddings().weight[torch.tensor(list(first))]
            for row, hidden_TH, ends in self._rows(base, texts):
                found[list(row)] = (hidden_TH[ends - 1] @ head.T).numpy()
        return found

    def likelihoods(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> np.ndarray:
        """Return the log-probability of each second part after its first."""
        import torch

        texts = [[*one, *two] for one, two in pairs]
        found = np.zeros(len(texts))
        with self._only_upper() as base, torch.inference_mode():
            head = base.get_output_embeddings()
            for row, hidden_TH, ends in self._rows(base, texts):
                for number, end in zip(row, ends, strict=True):
                    answer = list(pairs[number][1])
                    told = torch.log_softmax(head(hidden_TH[end - len(answer) - 1 : end - 1]), -1)
                    found[number] = float(told[range(len(answer)), answer].sum())
        return found

    def generate(self, prompts: Sequence[Sequence[int]], num_tokens: int, *, eos: int) -> list[list[int]]:
        """Return what the whole model says, greedily."""
        import torch

        longest = max(len(one) for one in prompts)
        ids = torch.tensor([[eos] * (longest - len(one)) + list(one) for one in prompts])
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts])
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            out = self.base.generate(input_ids=ids, attention_mask=mask, max_new_tokens=num_tokens, do_sample=False,
                                     pad_token_id=eos, eos_token_id=eos)  # fmt: skip
        said = [one.tolist() for one in out[:, longest:]]
        return [one[: one.index(eos)] if eos in one else one for one in said]

    def learn(self, texts: Sequence[Sequence[int]]) -> None:
        """Have the lower layers' outputs of texts, all those that are new at once."""
        new = sorted({tuple(one) for one in texts} - self._hidden.keys())
        if not new:
            return
        import torch

        print(f"{len(new)} new texts", flush=True)
        corpus = make_corpus([(list(one), [False] + [True] * (len(one) - 1)) for one in new])
        with packed_attention(self._lower), torch.no_grad():
            for row in pack_rows(corpus.lengths, np.arange(len(new)), ROW_TOKENS):
                batch = corpus.batch(row)
                parts = hidden_states(self._lower, batch).split(list(batch.lengths))
                self._hidden |= {new[at]: part.float() for at, part in zip(batch.examples, parts, strict=True)}
        self._save()

    def _rows(self, base: Any, texts: Sequence[Sequence[int]]) -> Iterator[tuple[Sequence[int], Any, np.ndarray]]:
        import torch

        self.learn(texts)
        corpus = make_corpus([(list(one), [False] + [True] * (len(one) - 1)) for one in texts])
        base.eval()
        with packed_attention(base):
            for row in pack_rows(corpus.lengths, np.arange(len(texts)), ROW_TOKENS):
                batch = corpus.batch(row)
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    hidden_TH = hidden_states(base, batch)
                yield batch.examples, hidden_TH.float(), np.cumsum(batch.lengths)

    def _begin(self) -> None:
        self.base = load_checkpoint(self._files)
        self.peft: Any = None

    @contextmanager
    def _only_upper(self) -> Iterator[Any]:
        """Give the model whose lower layers are what is kept of them."""
        import torch

        upper = self

        class Kept(torch.nn.Module):  # type: ignore[misc]
            lengths: Sequence[int] = ()

            def forward(self, input_ids: Any) -> Any:
                ids, found, at = input_ids[0].tolist(), [], 0
                for length in self.lengths:
                    found.append(upper._hidden[tuple(ids[at : at + length])])
                    at += length
                return torch.cat(found)[None]

        kept, model = Kept(), self.base.model
        layers, words = model.layers, model.embed_tokens

        def hook(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
            kept.lengths = kwargs["example_lengths"]

        model.layers, model.embed_tokens = layers[self.cut :], kept
        handle = model.register_forward_pre_hook(hook, with_kwargs=True)
        try:
            yield self.base
        finally:
            handle.remove()
            model.layers, model.embed_tokens = layers, words

    def _load(self) -> None:
        import torch

        for file in sorted(self._kept.glob("*.npz")) if self._kept else ():
            found = np.load(file)
            ends = np.cumsum(found["lengths"])
            ids, hidden = np.split(found["ids"], ends[:-1]), np.split(found["hidden"], ends[:-1])
            self._hidden |= {tuple(one.tolist()): torch.from_numpy(two) for one, two in zip(ids, hidden, strict=True)}
        self._saved = set(self._hidden)

    def _save(self) -> None:
        new = [one for one in self._hidden if one not in self._saved]
        if self._kept is None or len(new) < 200:
            return
        self._kept.mkdir(parents=True, exist_ok=True)
        np.savez(
            self._kept / f"{len(list(self._kept.glob('*.npz'))):03d}.npz",
            lengths=[len(one) for one in new],
            ids=[one for ids in new for one in ids],
            hidden=np.concatenate([self._hidden[one].numpy() for one in new]),
        )
        self._saved |= set(new)
