"""`ashore train canaries` and `ashore train attack`: does an adapter keep the privacy that was claimed?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from ashore.cli.progress import TerminalProgress

AsJson = Annotated[bool, Parameter(name="--json", negative=())]
EXIT_BROKEN = 1
DEFAULT_DELTA = 1e-5


def canaries(data: Path, /, *, out: Path, num: int = 400, person: str = "user", as_json: AsJson = False) -> None:
    """Plant canaries in training data, to find out what a model trained on it tells.

    A canary is a question with a secret answer that nobody can guess. A fair coin decides for each whether it goes into
    the data. Train on OUT/train.jsonl, then run `ashore train attack` with OUT/members.jsonl and OUT/others.jsonl. Each
    canary is one more example of a private run.

    Parameters
    ----------
    data
        JSONL file with the examples.
    out
        Folder for the data with canaries, and for the two lists.
    num
        Number of canaries; about half of them go in. More of them prove more: 400 at most an epsilon of 4.4.
    person
        Field of each line that names the person, for `ashore train private --unit person`. Each canary has its own.
    as_json
        Print JSON.
    """
    from ashore.training import plant

    planted = plant(data, out, num, person=person)
    if as_json:
        print(msgspec.json.encode({name: str(value) for name, value in asdict(planted).items()}).decode())
        return
    print(f"{planted.num_members} of {num} canaries are in {planted.train}")
    print(f"train on it, then: ashore train attack ADAPTER --members {planted.members} --others {planted.others}")


def attack(
    adapter: str,
    /,
    *,
    members: Path,
    others: Path,
    access: Literal["weights", "answers"] = "weights",
    max_length: int = 1024,
    as_json: AsJson = False,
) -> int:
    """Attack an adapter: how well does it show what it was trained on? Exits with 1 when it breaks its claim.

    Each example gets a score, without a look at which file it is from. Members that stand out prove a least epsilon,
    which is printed beside the claimed one. An attack that proves less than what was claimed proves no claim: a better
    attack may find more.

    Parameters
    ----------
    adapter
        Name of an adapter of this home, or a folder.
    members
        JSONL file with examples that the adapter was trained on; see `ashore train canaries`.
    others
        JSONL file with examples of the same kind that it was not trained on. A coin must have decided which is which.
    access
        weights: the attacker has the file of the adapter; answers: asks the model, and sees how likely an answer is.
    max_length
        Longest example, in tokens, as in training.
    as_json
        Print JSON.
    """
    from ashore import bootstrap
    from ashore.privacy.ledger.auditing import judge
    from ashore.settings import read_settings
    from ashore.training import attack_scores, read_notes

    settings = read_settings()
    folder = settings.home.adapters / adapter if (settings.home.adapters / adapter).is_dir() else Path(adapter)
    notes = read_notes(folder)
    store = bootstrap.build_store(settings.home, settings)
    with TerminalProgress() as progress:
        inside, outside = attack_scores(
            store, folder, (members, others), access=access, max_length=max_length,
            heard=lambda done, total: progress.steps("attack", done, total, f"{done:,} of {total:,} examples"),
        )  # fmt: skip
    verdict = judge(inside, outside, notes.delta or DEFAULT_DELTA)
    is_broken = notes.epsilon is not None and verdict.least_epsilon > notes.epsilon
    if as_json:
        claimed = {"claimed_epsilon": notes.epsilon, "claimed_delta": notes.delta or None, "unit": notes.unit}
        print(msgspec.json.encode({**asdict(verdict), "at_chance": verdict.at_chance, **claimed}).decode())
        return EXIT_BROKEN if is_broken else 0
    told = "not trained privately" if notes.epsilon is None else f"epsilon {notes.epsilon:g}, delta {notes.delta:.2g}"
    print(f"{verdict.members} members and {verdict.others} others, attacked by {access}")
    print(f"claimed                 {told}")
    proven, sure = verdict.least_epsilon, verdict.confidence
    print(f"proven                  epsilon {proven:.2f} or more, at {sure:.0%} confidence")
    print(f"guesses that prove it   {verdict.right} of {verdict.guesses} right; all right: {verdict.most_provable:.2f}")
    area, low, high = verdict.area, verdict.area_low, verdict.area_high
    print(f"member above other      {area:.1%} of pairs; chance is {low:.1%} to {high:.1%}")
    print(f"exposure, median        {verdict.exposure_bits:.1f} bits; chance is 1")
    print(f"found at 1 % alarms     {verdict.found_at_one_percent:.1%} of members")
    if is_broken:
        print("the claim does not hold: more was learned of members than it allows")
    elif verdict.at_chance:
        print("this attack tells members from others no better than chance")
    return EXIT_BROKEN if is_broken else 0
