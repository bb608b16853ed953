"""Whom the demo model suspects: votes of attackers beside honest ones, compared with what 400 questions teach a copy.

    python -m benchmarks.learning.onmodel HOME OUT [--items 400] [--votes 1600] [--seeds 0,1]

Honest people vote on answers to definitions of WordNet, attackers cast a twentieth of all votes (`votes.py`), from ten
accounts or one. The copy is taught the questions, and compares the votes, as `ashore learn run` does; no filter is
asked. Only attacks that leave the questions as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.learning.votes import Attack, honest_votes, joined
from benchmarks.optimise.task import definitions, kinds, write_files

from ashore.bootstrap import build_store
from ashore.evaluation import open_task
from ashore.learning.dataset import make_dataset
from ashore.learning.filters import kind_of
from ashore.learning.reference import agreements, reference_of, taught_copy
from ashore.learning.suspects import asked_about, suspects
from ashore.learning.teaching import SMALLEST_ROW, Teaching
from ashore.settings import Home
from ashore.text import TextModel
from ashore.training import faster_precision, mlp_size

MODEL: Final = "smollm2"
HOSTILE: Final = 0.05
TRIED: Final[tuple[Attack, ...]] = ("flip", "class", "refusal", "secret")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--items", type=int, default=400, help="held-out questions")
    parser.add_argument("--votes", type=int, default=1600, help="honest ones")
    parser.add_argument("--seeds", default="0,1")
    given = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as what is idle has it
    store = build_store(Home(root=given.home))
    parent = store.resolve(MODEL)
    text = TextModel.load(store.open(parent.reference).directory)
    with tempfile.TemporaryDirectory() as scratch:
        task = open_task(str(write_files(Path(scratch)).kinds)).first(given.items)
    began = time.process_time()
    with store.reading(parent.reference) as files:
        precision = faster_precision(parent.shape.hidden_size, mlp_size(parent.shape), SMALLEST_ROW)
        model = taught_copy(files, reference_of([task], text), Teaching(precision=precision))
    print(f"the copy: {time.process_time() - began:.0f} s of processor", flush=True)
    items = definitions("train")
    labels = kinds(items)
    forms = {kind_of(one) for one in labels}
    count = round(given.votes * HOSTILE / (1 - HOSTILE))
    with given.out.open("a", encoding="utf-8") as out:
        for seed in map(int, given.seeds.split(",")):
            honest = honest_votes(items[: given.votes], labels, seed=seed)
            known: dict[str, bool] = {}
            for attack, accounts in [("none", 0)] + [(one, number) for one in TRIED for number in (10, 1)]:
                rows, bad = honest, frozenset[str]()
                if accounts:
                    about = [one for one in items[given.votes :] if attack != "class" or one.kind == "animal"][:count]
                    rows, bad = joined(honest, attack, labels, about, colluders=accounts, seed=seed)  # type: ignore[arg-type]
                left = [one.row for one in make_dataset(MODEL, rows, filtered=False).examples]
                began = time.process_time()
                asked = asked_about(left, forms)
                new = agreements(model, [task], [row for row in asked if row.feedback_id not in known], text)
                known |= {at: agreed for at, agreed in new.items() if not at.startswith("m")}
                agreed = {row.feedback_id: (known | new)[row.feedback_id] for row in asked}
                found = suspects(left, agreed)
                held = {row.person for row in left if row.feedback_id in found}
                by_side = [[agreed[row.feedback_id] for row in asked if (row.person in bad) == hostile]
                           for hostile in (False, True)]  # fmt: skip
                line: dict[str, Any] = {
                    "attack": attack, "accounts": accounts, "seed": seed, "votes": len(left), "compared": len(asked),
                    "honest_agree": sum(by_side[0]) / len(by_side[0]),
                    "bad_agree": sum(by_side[1]) / max(1, len(by_side[1])), "bad_people_held": len(held & bad),
                    "bad_left": sum(row.person in bad and row.feedback_id not in found for row in left),
                    "honest_people_held": len(held - bad), "cpu_s": round(time.process_time() - began, 1),
                }  # fmt: skip
                out.write(json.dumps(line) + "\n")
                out.flush()
                print(line, flush=True)


if __name__ == "__main__":
    main()
