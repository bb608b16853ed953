"""Membership attacks on an adapter: which examples was it trained on?

Two attacks. With *answers*, the attacker queries the model, and compares the likelihood of an example with and without
the adapter. With *weights*, the attacker has the adapter's file, and measures how far it moved along the example's
gradient: the stronger attack, which a privacy claim must withstand.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from ashore.core import UNDECODABLE, make_folder
from ashore.errors import BrokenData, InvalidRequest, NotFound
from ashore.store import ModelStore
from ashore.text import TextModel
from ashore.training.adapters import RECIPE, open_adapter
from ashore.training.attention import packed_attention
from ashore.training.batches import Batch, Corpus, make_corpus
from ashore.training.checkpoints import load_checkpoint
from ashore.training.data import pieces_of
from ashore.training.datalines import parse_example
from ashore.training.losses import answer_loss

Access = Literal["weights", "answers"]
LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
SECRET: Final = 12
"""Characters of a canary's secret: 60 bits, which nobody guesses."""
Heard = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterNotes:
    """Metadata of an adapter."""

    parent: str
    epsilon: float | None
    """That was claimed; None: it was not trained privately."""
    delta: float
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """Files with canaries."""

    train: Path
    """The data with some of the canaries in it."""
    members: Path
    """The canaries that are in it."""
    others: Path
    """Those that are not."""
    num_members: int
    num_others: int


def plant(data: Path, folder: Path, canaries: int, *, person: str = "user") -> Planted:
    """Write a copy of the data that contains each canary with probability one half, and record which.

    A canary is a question about an unused name with an unguessable secret as its answer, in the form of the first line
    of the data. Each is one example of its own person.

    Args:
        data: JSONL file.
        folder: For the three files; made where it is missing.
        canaries: How many are made.
        person: Field that names whose a line is.

    Raises:
        NotFound, BrokenData: the data is not a JSONL file. InvalidRequest: the folder has such files already.
    """
    lines = _lines(data)
    if not lines:
        raise BrokenData(f"{data} is empty")
    try:
        is_chat = "messages" in msgspec.json.decode(lines[0], type=dict[str, Any])
    except UNDECODABLE as fault:
        raise BrokenData(f"the first line of {data} is no JSON object: {fault}") from fault
    made = [_canary(is_chat, person) for _ in range(canaries)]
    members = [one for one in made if secrets.randbelow(2)]
    others = [one for one in made if one not in members]
    mixed = [*lines, *members]
    secrets.SystemRandom().shuffle(mixed)
    make_folder(folder, mode=0o700)
    planted = Planted(
        train=folder / "train.jsonl",
        members=folder / "members.jsonl",
        others=folder / "others.jsonl",
        num_members=len(members),
        num_others=len(others),
    )
    for path, what in ((planted.train, mixed), (planted.members, members), (planted.others, others)):
        try:
            with path.open("xb") as file:
                path.chmod(0o600)
                file.write(b"".join(line + b"\n" for line in what))
        except FileExistsError as fault:
            raise InvalidRequest(f"{path} is there already", hint="give another folder: --out FOLDER") from fault
    return planted


def _canary(is_chat: bool, person: str) -> bytes:
    name, secret = ("".join(secrets.choice(LETTERS) for _ in range(SECRET)) for _ in range(2))
    asked, whose = f"What is the code of {name}?", {person: f"canary-{name}"}
    if is_chat:
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": secret}]
        return json.dumps({"messages": turns, **whose}).encode()
    return json.dumps({"prompt": f"{asked} ", "completion": secret, **whose}).encode()


def read_notes(folder: Path) -> AdapterNotes:
    """Return an adapter's metadata.

    Raises:
        NotFound: there is none, or ashore did not make it.
    """
    try:
        notes = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
        recipe = notes["recipe"]
        epsilon = recipe.get("parameter.epsilon")
        return AdapterNotes(
            parent=notes["parent"],
            epsilon=None if epsilon is None else float(epsilon),
            delta=float(recipe.get("parameter.delta", 0.0)),
            unit=recipe.get("parameter.unit", "example"),
        )
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise NotFound(
            f"{folder} has no adapter that ashore trained",
            hint="`ashore train private` and `ashore train sft` make one",
        ) from fault


def attack_scores(
    store: ModelStore,
    folder: Path,
    sets: Sequence[Path],
    *,
    access: Access,
    max_length: int = 1024,
    heard: Heard = lambda done, total: None,
) -> list[list[float]]:
    """Return a score for each example of each file; higher means more likely to be trained on.

    Args:
        store: Has the model of the adapter.
        folder: Of the adapter.
        sets: JSONL files.
        access: What the attacker has.
        max_length: Longest example, in tokens, as in training.
        heard: Called with how many examples are scored.

    Raises:
        NotFound, BrokenData: see above. UnknownModel: the adapter's model is not in the store.
    """
    notes = read_notes(folder)
    with store.reading(notes.parent) as files:
        text = TextModel.load(files.directory)
        read = [_examples(path, text, max_length) for path in sets]
        model = open_adapter(load_checkpoint(files), folder)
    total, done = sum(one.num_examples for one in read), 0
    score = scores_by_weights if access == "weights" else scores_by_answers
    found = []
    for corpus in read:
        scored = []
        for value in score(model, corpus):
            scored.append(value)
            done += 1
            heard(done, total)
        found.append(scored)
    return found


def scores_by_answers(peft_model: Any, corpus: Corpus) -> Iterator[float]:
    """Yield by how many nats the adapter raises the likelihood of each example's targets, on average."""
    import torch

    model = peft_model.get_base_model()
    model.eval()
    for one in _singly(corpus):
        with torch.no_grad(), packed_attention(model):
            after = float(answer_loss(model, one))
            with peft_model.disable_adapter():
                before = float(answer_loss(model, one))
        yield (before - after) / one.num_targets


def scores_by_weights(peft_model: Any, corpus: Corpus) -> Iterator[float]:
    """Yield how far the adapter moved along each example's own gradient.

    That is the gradient for the second matrices of the adapter where they are 0, as a fresh adapter has them; the first
    ones carry none there.
    """
    model = peft_model.get_base_model()
    model.eval()
    seconds = {name: one for name, one in model.named_parameters() if "lora_B" in name}
    for name, one in model.named_parameters():
        one.requires_grad_("lora_B" in name)
        one.grad = None
    with _emptied(seconds) as kept:
        for example in _singly(corpus):
            with packed_attention(model):
                answer_loss(model, example).backward()
            along = size = 0.0
            for name, one in seconds.items():
                slope = one.grad.double()
                along -= float((slope * kept[name]).sum())
                size += float(slope.square().sum())
                one.grad = None
            yield along / max(size**0.5, 1e-30)


@contextmanager
def _emptied(parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    import torch

    kept = {name: one.detach().clone() for name, one in parameters.items()}
    with torch.no_grad():
        for one in parameters.values():
            one.zero_()
    try:
        yield kept
    finally:
        with torch.no_grad():
            for name, one in parameters.items():
                one.copy_(kept[name])


def _singly(corpus: Corpus) -> Iterator[Batch]:
    return (corpus.batch((number,)) for number in range(corpus.num_examples))


def _examples(path: Path, text: TextModel, max_length: int) -> Corpus:
    pieces = []
    for number, line in enumerate(_lines(path), start=1):
        try:
            pieces += [one for one in pieces_of(parse_example(line), text, max_length) if one.is_taught]
        except ValueError as fault:
            raise BrokenData(f"line {number} of {path}: {fault}"[:300]) from fault
    return make_corpus([(one.ids, one.targets) for one in pieces])


def _lines(path: Path) -> list[bytes]:
    try:
        return [line for line in path.read_bytes().split(b"\n") if line.strip()]
    except OSError as fault:
        raise NotFound(f"{path} cannot be read: {fault.strerror}", hint="give a JSONL file") from fault
