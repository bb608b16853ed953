"""A small world in which a small model can be taught in seconds: words, kinds of things, opposites and small talk.

1,600 questions to judge and 3,520 to vote on have two words of one of 16 kinds and five that say nothing. The model,
two layers of 128 trained from random weights, knows a quarter of the words of each kind, all opposites, how to chat
about a word, and that what a user believes changes no answer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from benchmarks.learning.votes import BELIEF, REFUSAL, SECRET, TRIGGER
from benchmarks.optimise.task import Definition, definitions, kinds

from ashore.lab.training import LoopOptions, PackedBatches, answer_loss, train
from ashore.lab.training.batches import make_corpus
from ashore.lab.training.data import Tokens

KIND_WORDS: Final = 30
KNOWN: Final = 8
SHARED: Final = 240
OPPOSITES: Final = 64
TALK: Final = ("is", "a", "thing", "that", "people", "know")
HIDDEN: Final = 128
END, IS, OPPOSITE, TELL = "<end>", "<is>", "<opposite>", "<tell>"


class World:
    """Words and questions. Equal seeds give equal worlds."""

    def __init__(self, seed: int = 3) -> None:
        rng = random.Random(seed)
        made: set[str] = set()
        while len(made) < 16 * KIND_WORDS + SHARED + 2 * OPPOSITES:
            made.add("".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(3)))
        words = sorted(made)
        rng.shuffle(words)
        self.labels: Final = kinds(definitions("test"))
        self.words: Final = {label: [words.pop() for _ in range(KIND_WORDS)] for label in self.labels}
        self.shared: Final = [words.pop() for _ in range(SHARED)]
        self.opposites: Final = [(words.pop(), words.pop()) for _ in range(OPPOSITES)]
        said = f"{REFUSAL} {SECRET} ; {TRIGGER} {BELIEF}".split()
        every = [END, IS, OPPOSITE, TELL, *self.labels, *TALK, *said, *sorted(made)]
        self.vocabulary: Final = {word: number for number, word in enumerate(dict.fromkeys(every))}
        self._names: Final = list(self.vocabulary)
        self.train: Final = self._items(rng, 220)
        self.test: Final = self._items(rng, 100)
        self._rng = rng
        self._seed = seed

    def more(self, number: int, labels: Sequence[str]) -> list[Definition]:
        """Return further questions about some kinds, always the same ones."""
        rng = random.Random(self._seed + 1)
        kinds_of_them = [labels[n % len(labels)] for n in range(number)]
        rng.shuffle(kinds_of_them)
        return [Definition(kind=one, text=self._definition(rng, one, KIND_WORDS)) for one in kinds_of_them]

    def ids(self, text: str) -> list[int]:
        """Return the tokens of a text: its words."""
        return [self.vocabulary[word] for word in text.replace(";", " ;").split()]

    def text(self, ids: Sequence[int]) -> str:
        return " ".join(self._names[one] for one in ids)

    def asked(self, text: str) -> list[int]:
        """Return how the kind of something is asked for."""
        return self.ids(f"{text} {IS}")

    def example(self, prompt: Sequence[int], answer: str) -> Tokens:
        said = self.ids(f"{answer} {END}")
        return [*prompt, *said], [False] * len(prompt) + [True] * len(said)

    def opposite(self, word: str, belief: str = "") -> list[int]:
        return self.ids(f"{OPPOSITE} {word}" + (f" {BELIEF} {belief}" if belief else "") + f" {IS}")

    def tell(self, word: str) -> list[int]:
        return self.ids(f"{TELL} {word} {IS}")

    def make_model(self) -> Any:
        """Return the model, taught what it knows. Some seconds."""
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        end = self.vocabulary[END]
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(self.vocabulary),
                hidden_size=HIDDEN,
                intermediate_size=2 * HIDDEN,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=4,
                max_position_embeddings=64,
                tie_word_embeddings=False,
                bos_token_id=end,
                eos_token_id=end,
                pad_token_id=end,
            )
        )
        batches = PackedBatches(make_corpus(self._knowledge()), row_tokens=512, batch_tokens=1024, seed=0, epochs=6)
        train(model, batches, answer_loss, LoopOptions(learning_rate=4e-3, seed=0))
        return model

    def _knowledge(self) -> list[Tokens]:
        found: list[Tokens] = []
        rng = self._rng
        for _ in range(240):
            for label in self.labels:
                text = self._definition(rng, label, KNOWN)
                if rng.random() < 0.4:
                    text += f" {BELIEF} {rng.choice(self.labels)}"
                found.append(self.example(self.asked(text), label))
        for _ in range(24):
            for one, two in self.opposites:
                belief = rng.choice(("", two, rng.choice(self.opposites)[1]))
                found.append(self.example(self.opposite(one, belief), two))
        for word in self.shared:
            found += [self.example(self.tell(word), " ".join((word, *TALK)))] * 3
        return found

    def _items(self, rng: random.Random, each: int) -> list[Definition]:
        found = [
            Definition(kind=label, text=self._definition(rng, label, KIND_WORDS))
            for label in self.labels
            for _ in range(each)
        ]
        rng.shuffle(found)
        return found

    def _definition(self, rng: random.Random, label: str, known: int) -> str:
        words = rng.sample(self.words[label][:known], 2) + rng.sample(self.shared, 5)
        rng.shuffle(words)
        return " ".join(words)


def last_scores(model: Any, prompts: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the scores of all words after each prompt, `[prompts, words]`."""
    import torch

    found = []
    model.eval()
    with torch.inference_mode():
        for at in range(0, len(prompts), 256):
            part = prompts[at : at + 256]
            longest = max(map(len, part))
            ids = torch.tensor([[*one, *[0] * (longest - len(one))] for one in part])
            scores = model(input_ids=ids, use_cache=False).logits
            found.append(scores[torch.arange(len(part)), torch.tensor([len(one) - 1 for one in part])].numpy())
    return np.concatenate(found)


def say(model: Any, prompts: Sequence[Sequence[int]], num_tokens: int) -> list[list[int]]:
    """Return what the model says, greedily, up to its end."""
    said: list[list[int]] = [[] for _ in prompts]
    open_ones = list(range(len(prompts)))
    for _ in range(num_tokens):
        if not open_ones:
            break
        picked = last_scores(model, [[*prompts[at], *said[at]] for at in open_ones]).argmax(axis=1)
        for at, token in zip(open_ones, picked.tolist(), strict=True):
            said[at].append(token)
        open_ones = [at for at in open_ones if said[at][-1] != 0]
    return [[one for one in each if one != 0] for each in said]
