"""The stages of the optimising benchmark: the demo model, a teacher, and from it what is smaller and faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks import evaluate_rate
from benchmarks.optimise import baselines
from benchmarks.optimise.commands import STUDENT_TEXT_SHARE, TRAINING, Shop
from benchmarks.optimise.decode import Rates, measure
from benchmarks.optimise.stages import Facts, Stage
from benchmarks.optimise.task import definitions

from ashore.kit.settings import Home

BASE, TEACHER, LORA, PRUNED, ZEROS, STUDENT = "smollm2", "teacher", "teacher-lora", "pruned", "zeros", "student"
REMOVED = "30%"
STREAMS = (1, 16)
RATED_ITEMS = 1000
ENGINE = "openvino"


def stages(shop: Shop) -> list[Stage]:
    """Return every stage, each behind those it needs. The files of the task must be there."""
    scale, digests = shop.scale, shop.files.digests()
    data = {"data": digests["train.jsonl"]}
    tests = {"task": digests["kinds.jsonl"], "skill": digests["words.jsonl"]}

    def task(needed: Mapping[str, Facts]) -> Facts:
        train, test = definitions("train")[: scale.num_train], definitions("test")[: scale.num_test]
        found = baselines.accuracies(train, test)
        return {"num_train": len(train), "num_test": len(test), "bag_of_words": max(found.values()), "bags": found}

    def base(needed: Mapping[str, Facts]) -> Facts:
        shop.run("model", "pull", BASE)
        return {"parameters": shop.parameters(BASE), **shop.evaluate(shop.variant(BASE, "fp16"))}

    def teacher(needed: Mapping[str, Facts]) -> Facts:
        return shop.judged(TEACHER, shop.train(BASE, TEACHER, "full"), served="fp16")

    def lora(needed: Mapping[str, Facts]) -> Facts:
        return shop.judged(LORA, shop.train(BASE, LORA, "lora"), served="fp16")

    def pruned(needed: Mapping[str, Facts]) -> Facts:
        made = shop.prune(TEACHER, PRUNED, REMOVED)
        return {
            **shop.judged(PRUNED, made, served="int8"),
            "parent_parameters": needed["teacher"]["parameters"],
        }

    def zeros(needed: Mapping[str, Facts]) -> Facts:
        made = shop.prune(TEACHER, ZEROS, REMOVED, kind="unstructured", heal=False)
        return shop.judged(ZEROS, made, served="fp16")

    def student(needed: Mapping[str, Facts]) -> Facts:
        made = shop.distill(TEACHER, STUDENT)
        return {**shop.judged(STUDENT, made, served="fp16"), "parent_parameters": needed["teacher"]["parameters"]}

    def speed(needed: Mapping[str, Facts]) -> Facts:
        models = {
            "fp16": shop.variant(TEACHER, "fp16"),
            "int8": shop.variant(TEACHER, "int8"),
            "pruned fp16": shop.variant(PRUNED, "fp16"),
            "pruned int8": shop.variant(PRUNED, "int8"),
            "zeros fp16": shop.variant(ZEROS, "fp16"),
        }
        return _speeds([measure(shop.home, models, kind=ENGINE, streams=n, rounds=scale.rounds) for n in STREAMS])

    def rate(needed: Mapping[str, Facts]) -> Facts:
        row, _ = evaluate_rate.measure(Home(root=shop.home), shop.variant(BASE, "int8"), num_items=RATED_ITEMS)
        return {"ratio": row.value, "detail": row.detail}

    return [
        Stage(name="task", run=task, settings=digests),
        Stage(name="base", run=base, settings=tests),
        Stage(name="teacher", run=teacher, needs=("base",),
              settings=data | tests | TRAINING["full"].settings(scale.epochs)),
        Stage(name="lora", run=lora, needs=("base",),
              settings=data | tests | TRAINING["lora"].settings(scale.epochs)),
        Stage(name="pruned", run=pruned, needs=("teacher",),
              settings=data | tests | {"removed": REMOVED, "tokens": scale.heal_tokens}),
        Stage(name="zeros", run=zeros, needs=("teacher",), settings={"removed": REMOVED}),
        Stage(name="speed", run=speed, needs=("pruned", "zeros"), settings={"rounds": scale.rounds}),
        Stage(name="evaluate_rate", run=rate, needs=("base",), settings={"items": RATED_ITEMS}),
        Stage(name="student", run=student, needs=("teacher",),
              settings=data | tests | {"epochs": scale.student_epochs, "text_share": STUDENT_TEXT_SHARE}),
    ]  # fmt: skip


def _speeds(found: Sequence[Rates]) -> Facts:
    factors = {
        f"{name} against fp16, {rates.streams} streams": rates.factor(name, "fp16")
        for rates in found
        for name in rates.rounds
        if name != "fp16"
    }
    medians = {f"{name}, {rates.streams} streams": rates.median(name) for rates in found for name in rates.rounds}
    return {"factors": factors, "tok_per_s": medians}
