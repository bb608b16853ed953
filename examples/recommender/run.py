"""A shop: candidates by embeddings, ranked by a model on CPU, hot pairs from the cache.

The catalogue is Debian's package index: what a package depends on is the basket, what it recommends is the truth.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from recommender.shape import LAYERS, VOCAB, write_model
from scipy.sparse import csr_matrix
from shared.report import Report
from shared.server import Server, kept_folder, serving
from sklearn.decomposition import TruncatedSVD

SHOWN, CANDIDATES, TOKENS, KEPT_LAYERS = 10, 20, 48, 2
RANK = 128
CACHE = """
[cache]
max_bytes = {cache}
[[model]]
name = "fake:echo"
alias = "pairs"
"""


def catalogue(text: str) -> dict[str, dict[str, Any]]:
    """Return packages by name, from an index in Debian's form: what each needs, recommends and is."""
    found: dict[str, dict[str, Any]] = {}
    for paragraph in text.split("\n\n"):
        fields = dict(re.findall(r"^([A-Z][A-Za-z-]*): (.{1,8000})$", paragraph, re.MULTILINE))
        if "Package" not in fields or fields["Package"] in found:
            continue
        name = fields["Package"]
        also = names_of(fields.get("Recommends", "")) | names_of(fields.get("Suggests", ""))
        words = f"{name.replace('-', ' ')}: {fields.get('Description-en') or fields.get('Description', '')}"
        found[name] = {"needs": names_of(fields.get("Depends", "")), "truth": also - {name}, "text": words[:300]}
    return found


def names_of(relations: str) -> set[str]:
    """Return the packages that a field names; of alternatives, the first."""
    return {one.split("|")[0].split("(")[0].strip().split(":")[0] for one in relations.split(",") if one.strip()}


def split(packages: dict[str, dict[str, Any]], num_items: int, num_test: int) -> tuple[list[str], list[str], list[str]]:
    """Return the items (what is recommended most often), and the packages to learn from and to test on."""
    counts: dict[str, int] = {}
    for one in packages.values():
        for name in one["truth"] & packages.keys():
            counts[name] = counts.get(name, 0) + 1
    items = sorted(counts, key=lambda name: (-counts[name], name))[:num_items]
    known = set(items)
    usable = sorted(name for name, one in packages.items() if len(one["truth"] & known) >= 2 and one["needs"])
    order = np.random.default_rng(0).permutation(len(usable))
    return items, [usable[at] for at in order[num_test:]], [usable[at] for at in order[:num_test]]


def by_factors(packages: dict[str, Any], items: list[str], train: list[str], test: list[str], rank: int) -> Any:
    """Return scores [tests, items] of a matrix factorisation of what packages need and, to learn from, recommend."""
    needs = sorted({need for name in train for need in packages[name]["needs"]})
    column = {name: at for at, name in enumerate([*needs, *(f"+{name}" for name in items)])}

    def matrix(names: list[str], *, truth: bool) -> Any:
        rows, columns = [], []
        for at, name in enumerate(names):
            told = [one for one in packages[name]["needs"] if one in column]
            told += [f"+{one}" for one in packages[name]["truth"] if truth and f"+{one}" in column]
            rows += [at] * len(told)
            columns += [column[one] for one in told]
        return csr_matrix((np.ones(len(rows)), (rows, columns)), (len(names), len(column)))

    model = TruncatedSVD(rank, random_state=0).fit(matrix(train, truth=True))
    return (model.transform(matrix(test, truth=False)) @ model.components_)[:, len(needs) :]


def embed(server: Server, texts: list[str]) -> np.ndarray[Any, Any]:
    """Return embeddings of texts."""
    found: list[list[float]] = []
    for at in range(0, len(texts), 64):
        answer = server.post("/v1/embeddings", {"model": "minilm", "input": texts[at : at + 64]})
        found += [one["embedding"] for one in answer["data"]]
    return np.array(found)


def places(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the place of each item by falling score, 0 the first."""
    return np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)


def recall(scores: np.ndarray[Any, Any], truths: list[set[int]]) -> np.ndarray[Any, Any]:
    """Return for each test the share of its truth among the ten items shown (of at most ten that could be)."""
    first = np.argsort(-scores, axis=1, kind="stable")[:, :SHOWN]
    pairs = zip(truths, first.tolist(), strict=True)
    return np.array([len(truth & {*row}) / min(SHOWN, len(truth)) for truth, row in pairs])


def belady(trace: list[int], room: int) -> float:
    """Return the best hit rate that any cache of so many entries can have: it keeps what is needed soonest."""
    never = len(trace)
    following, last = [never] * len(trace), dict[int, int]()
    for at in range(len(trace) - 1, -1, -1):
        following[at] = last.get(trace[at], never)
        last[trace[at]] = at
    kept: dict[int, int] = {}
    hits = 0
    for at, one in enumerate(trace):
        hits += one in kept
        kept[one] = following[at]
        if len(kept) > room:
            del kept[max(kept, key=lambda name: kept[name])]
    return hits / len(trace)


def hot_pairs(questions: int, requests: int) -> tuple[float, float, int]:
    """Return the hit rate of ashore's cache on a Zipf trace, Belady's with as many entries, and how many these are."""
    weights = 1 / np.arange(1, questions + 1)
    trace = [int(one) for one in np.random.default_rng(0).choice(questions, requests, p=weights / weights.sum())]
    with serving(toml=CACHE.format(cache=1 << 20)) as server:
        hits = 0
        for one in trace:
            body = {"model": "pairs", "prompt": f"customer {one:06d} candidates {one * 7919 % 999983:06d}",
                    "temperature": 0, "max_tokens": 40}  # fmt: skip
            answer = server.client.post("/v1/completions", json=body).raise_for_status()
            hits += answer.headers["x-ashore-cache"] != "miss"
        page = server.client.get("/metrics").text
    room = int(float(re.search(r"^ashore_cache_entries\S* (\S+)$", page, re.MULTILINE)[1]))  # type: ignore[index]
    return hits / len(trace), belady(trace, room), room


def ranking(layers: int, rounds: int) -> tuple[float, float]:
    """Return median seconds to rank the candidates with ashore (INT8): each by itself, and with the basket shared."""
    folder = kept_folder(f"shape-7b-{layers}")
    write_model(folder, layers)
    name = f"example-shape-7b-{layers}"
    command = [sys.executable, "-P", "-m", "ashore.cli.main", "model", "pull", str(folder), "--name", name]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    random = np.random.default_rng(1)
    with serving(name) as server, ThreadPoolExecutor(CANDIDATES) as threads:

        def once(shared: bool) -> float:
            basket = random.integers(10, VOCAB, TOKENS // 2).tolist()
            items = random.integers(10, VOCAB, (CANDIDATES, TOKENS // 2)).tolist()

            def one(at: int) -> Any:
                body = {"model": name, "prompt": basket + items[at], "max_tokens": 1, "temperature": 0, "logprobs": 5}
                return server.post("/v1/completions", body if shared else {**body, "cache_salt": f"{at} {basket[:4]}"})

            began = time.perf_counter()
            list(threads.map(one, range(CANDIDATES)))
            return time.perf_counter() - began

        for shared in (False, True):
            once(shared)
        alone = statistics.median(once(False) for _ in range(rounds))
        return alone, statistics.median(once(True) for _ in range(rounds))


def torch_ranking(layers: int, rounds: int) -> float | None:
    """Return the seconds of PyTorch in single precision; None where there is no PyTorch."""
    python = os.environ.get("TORCH_PYTHON", sys.executable)
    script = Path(__file__).with_name("plain_torch.py")
    words = [python, str(script), *map(str, (layers, CANDIDATES, TOKENS, rounds))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"PyTorch is not measured: {done.stderr.strip().splitlines()[-1:]}", flush=True)
        return None
    return float(done.stdout)


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--out", type=Path, required=True)
    words.add_argument("--small", action="store_true")
    given = words.parse_args()
    report = Report(title="What a shop shows next, on machines of its own", summary="")

    index = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, errors="replace", check=True)
    packages = catalogue(index.stdout)
    num_items, num_test = (600, 200) if given.small else (1500, 400)
    items, train, test = split(packages, num_items, num_test)
    if len(test) < num_test:
        raise SystemExit("the package index is empty; run `apt-get update` first")
    place = {name: at for at, name in enumerate(items)}
    truths = [{place[name] for name in packages[one]["truth"] if name in place} for one in test]
    with serving("minilm") as server:
        x_ID, x_TD = (embed(server, [packages[name]["text"] for name in names]) for names in (items, test))
    counts = np.array([sum(name in packages[one]["truth"] for one in train) for name in items])
    popular = np.tile(counts / counts.max(), (len(test), 1))
    factors = by_factors(packages, items, train, test, RANK)
    near = x_TD @ x_ID.T
    fused = sum(1 / (20 + places(one)) for one in (near, factors, popular))
    scores = {"popularity": popular, "matrix factorisation": factors, "embeddings": near, "all three": fused}
    found = {name: recall(one, truths) for name, one in scores.items()}
    best = found["all three"]
    rival = max(("popularity", "matrix factorisation"), key=lambda name: found[name].mean())
    random = np.random.default_rng(0)
    draws = [(best - found[rival])[random.integers(0, len(best), len(best))].mean() for _ in range(2000)]
    low, high = np.percentile(draws, [2.5, 97.5])
    ahead = f"{best.mean() - found[rival].mean():+.1%} against {rival}"
    report.figure("recall", best.mean(), f"{best.mean():.1%}", f"recall at {SHOWN} of the candidates",
                  bar="more than popularity and factorisation", met=bool(low > 0),
                  note=f"{ahead}, 95 % interval {low:+.1%} to {high:+.1%}")  # fmt: skip

    rounds = 2 if given.small else 5
    alone, shared = ranking(KEPT_LAYERS, rounds)
    plain = torch_ranking(KEPT_LAYERS, rounds)
    ratio = None if plain is None else plain / alone
    said = "not measured" if ratio is None else f"{ratio:.1f} times"
    report.figure("speed", ratio, said, "faster than PyTorch FP32 at ranking 20 candidates",
                  bar="at least 3.2 times", met=ratio is not None and ratio >= 3.2,
                  note=f"{KEPT_LAYERS} of {LAYERS} layers of a 7B shape, INT8: {alone:.2f} s"
                       + ("" if plain is None else f" against {plain:.2f} s"))  # fmt: skip
    report.figure("shared", shared, f"{shared:.2f} s", "the same with the basket computed once",
                  note="the prefix cache; not part of the comparison")  # fmt: skip
    rate, most, room = hot_pairs(5_000 if given.small else 10_000, 6_000 if given.small else 20_000)
    report.figure("hits", rate / most, f"{rate / most:.0%}", "of the hit rate of the best possible cache (Belady)",
                  bar="at least 90 %", met=rate / most >= 0.9,
                  note=f"{rate:.1%} of {most:.1%}; Zipf, {room} entries kept")  # fmt: skip

    report.table("Quality", ["by", f"recall at {SHOWN}"], [(name, f"{one.mean():.1%}") for name, one in found.items()],
                 note=f"{len(test)} packages to test, {len(train)} to learn from; {len(items)} items")  # fmt: skip
    means = [one.mean() for one in found.values()]
    report.chart("Recall", f"Share of the truth among {SHOWN} items shown.",
                 lambda axes, colour: axes.barh([*found][::-1], means[::-1], color=colour))  # fmt: skip
    report.summary = (
        f"Of what a package recommends, {best.mean():.0%} is among {SHOWN} of {len(items)} items shown. Layers of a "
        f"7B shape in INT8 rank {said} faster than PyTorch FP32. The cache has {rate / most:.0%} of the best hit rate."
    )
    report.shown = [
        "Embeddings with factors and popularity find more of the truth than factors or popularity alone.",
        "Ranking time: the same numbers of tokens and layers, in the same run, on the same machine.",
    ]
    report.not_shown = [
        "That a 7B model ranks better: its weights are made up, so it shows time and no quality.",
        f"A whole 7B model: {KEPT_LAYERS} of its {LAYERS} layers, and {VOCAB:,} words. The other layers are alike, "
        f"so the whole takes about {LAYERS // KEPT_LAYERS} times as long in both. FP32 of it needs 28 GB.",
        "Your customers: the truth is what maintainers of Debian's packages recommend.",
    ]
    report.write(given.out)


if __name__ == "__main__":
    main()
