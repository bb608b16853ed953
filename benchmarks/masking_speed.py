# ruff: noqa: E501
"""Speed of the detectors and of a whole masked request, on one core, with Presidio beside them where it is installed.

Run: python -m benchmarks.masking_speed [--report DIR]

Texts of 1,000 characters are cut from the generated set of `benchmarks.masking` (full of identifiers), from Chinese and
English prose without any, and from the documentation of this system. Each is looked at once; p50 and p99 over all.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.masking import real_text
from benchmarks.masking.generate import documents
from benchmarks.row import Row

from ashore.data.privacy import AnswerGuard, Detectors, Finder, Outlet, PrivacyPolicy, StandIns, Table, rules_for

CHARS = 1_000
BAR_MS, AIM_MS = 0.5, 0.2
CHINESE = "这是一段没有任何号码的普通文字，我们只想知道读一遍需要多少时间。人工智能正在改变世界，企业希望把模型放在自己的机器上，数据不出门，谢谢您的配合与支持。"
ENGLISH = "The quick brown fox jumps over the lazy dog, and nobody in this plain text has a number of any kind. We only want to know how long it takes to read it once. "


def pieces(texts: Iterator[str], count: int) -> list[str]:
    """Return `count` texts of 1,000 characters, cut from what comes."""
    out: list[str] = []
    held = ""
    for text in texts:
        held += text + "\n"
        while len(held) >= CHARS:
            out.append(held[:CHARS])
            held = held[CHARS:]
            if len(out) == count:
                return out
    return out


def corpora(count: int) -> dict[str, list[str]]:
    """Return texts by name."""
    generated = (document.text for document in documents(seed=20261124, count=count * 20))
    system = (text for text in real_text.files(real_text.SYSTEM, 40_000_000))
    return {
        "generated set, full of identifiers": pieces(generated, count),
        "Chinese prose without any": [(CHINESE * 20)[at % 70 : at % 70 + CHARS] for at in range(count)],
        "English prose without any": [(ENGLISH * 20)[at % 70 : at % 70 + CHARS] for at in range(count)],
        "documentation of this system": pieces(system, count),
    }


def times_ms(call: Callable[[str], object], texts: Sequence[str]) -> list[float]:
    """Return the milliseconds that each text took, after some that do not count."""
    for text in texts[:50]:
        call(text)
    taken = []
    gc.collect()
    gc.disable()
    try:
        for text in texts:
            began = time.perf_counter_ns()
            call(text)
            taken.append((time.perf_counter_ns() - began) / 1e6)
    finally:
        gc.enable()
    return taken


def summary(taken: Sequence[float]) -> dict[str, object]:
    """Return the figures of a series."""
    cuts = statistics.quantiles(taken, n=100)
    return {
        "texts": len(taken),
        "p50_ms": round(cuts[49], 4),
        "p90_ms": round(cuts[89], 4),
        "p99_ms": round(cuts[98], 4),
        "mean_ms": round(statistics.fmean(taken), 4),
    }


def key() -> bytes:
    """Return the secret of pseudonyms."""
    return b"k" * 32


def masked_and_back(finder: Finder) -> Callable[[str], object]:
    """Return what a request costs: masked, and its echo restored from a stream of pieces of four characters."""
    rules = rules_for(PrivacyPolicy(prompts={"*": "mask"}), "t", "a")

    def call(text: str) -> str:
        table = Table(finder, rules, key)
        table.reserve(text)
        masked = table.mask(text)
        outlet = Outlet(StandIns(table.entries), None)
        return "".join([*(outlet.feed(masked[at : at + 4]) for at in range(0, len(masked), 4)), outlet.end()])

    return call


def guarded(finder: Finder) -> Callable[[str], object]:
    """Return what an answer costs that is searched for new personal data while it streams."""
    rules = rules_for(PrivacyPolicy(answers={"*": "mask"}), "t", "a")

    def call(text: str) -> str:
        outlet = Outlet(StandIns(()), AnswerGuard(finder, rules.answers, Table(finder, rules, key)))
        return "".join([*(outlet.feed(text[at : at + 4]) for at in range(0, len(text), 4)), outlet.end()])

    return call


def growth(find: Callable[[str], object], text: str) -> dict[str, object]:
    """Return how time and memory grow with length: a megabyte against a tenth of one."""

    def seconds(chars: int) -> float:
        whole = (text * (chars // len(text) + 1))[:chars]
        best = 1e9
        for _ in range(3):
            began = time.perf_counter()
            find(whole)
            best = min(best, time.perf_counter() - began)
        return best

    small, large = seconds(100_000), seconds(1_000_000)
    whole = (text * (1_000_000 // len(text) + 1))[:1_000_000]
    tracemalloc.start()
    find(whole)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "100_000_chars_s": round(small, 4),
        "1_000_000_chars_s": round(large, 4),
        "ratio": round(large / small, 2),
        "peak_bytes_per_char": round(peak / 1_000_000, 1),
    }


def presidio() -> Finder | None:
    """Return Presidio alone, where it is installed."""
    from ashore.core.errors import MissingExtra
    from ashore.data.privacy.presidio import PresidioFinder

    try:
        return PresidioFinder(Detectors())
    except MissingExtra:
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--count", type=int, default=2_000)
    given = parser.parse_args()
    finder = Detectors()
    texts = corpora(given.count)
    rows: list[Row] = []
    for name, ones in texts.items():
        taken = summary(times_ms(finder.find, ones))
        rows.append(
            Row(
                what=f"detect, {CHARS:,} characters, {name}",
                value=float(str(taken["p50_ms"])),
                unit="ms p50",
                bar=BAR_MS,
                aim=AIM_MS,
                lower_is_better=True,
                detail=f"p90 {taken['p90_ms']} ms, p99 {taken['p99_ms']} ms, {taken['texts']} texts",
                readings=taken,
            )
        )
    full = next(iter(texts.values()))
    for what, call in (
        ("mask all kinds and restore a stream", masked_and_back(finder)),
        ("search a streamed answer for new data", guarded(finder)),
    ):
        taken = summary(times_ms(call, full[:500]))
        rows.append(
            Row(
                what=f"{what}, {CHARS:,} characters in pieces of 4, generated set",
                value=float(str(taken["p50_ms"])),
                unit="ms p50",
                bar=None,
                lower_is_better=True,
                detail=f"p99 {taken['p99_ms']} ms; 250 pieces",
                readings=taken,
            )
        )
    for name, ones in texts.items():
        figures = growth(finder.find, "\n".join(ones[:50]))
        rows.append(
            Row(
                what=f"a million characters against a tenth of it, {name}",
                value=float(str(figures["ratio"])),
                unit="times as long",
                bar=None,
                lower_is_better=True,
                detail=f"{figures['1_000_000_chars_s']} s; {figures['peak_bytes_per_char']} bytes of memory per character at most",
                readings=figures,
            )
        )
    peer = presidio()
    if peer is None:
        rows.append(Row(what="Presidio beside it", value=None, unit="ms p50", bar=None, detail="not installed here"))
    else:
        taken = summary(times_ms(peer.find, full[:200]))
        rows.append(
            Row(
                what=f"{peer.name}, generated set",
                value=float(str(taken["p50_ms"])),
                unit="ms p50",
                bar=None,
                lower_is_better=True,
                detail=f"p99 {taken['p99_ms']} ms",
                readings=taken,
            )
        )
    head = f"# Speed of masking, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "?",
    )
    about = f"{cpu}, one core of a machine with others at work; Python {platform.python_version()}; commit {commit}; `python -m benchmarks.masking_speed`"
    table = "\n".join(
        [
            "| what | figure | bar | aim | verdict | detail |",
            "|---|---|---|---|---|---|",
            *("| " + " | ".join(row.cells()) + " |" for row in rows),
        ]
    )
    notes = "Not measured: other processors; other releases of Python; expressions and dictionaries of operators; names by a language model."
    text = f"{head}\n\n{about}\n\n{table}\n\n{notes}\n"
    sys.stdout.write(text)
    if given.report:
        name = f"{datetime.now(UTC):%Y-%m-%d}-masking-speed"
        (given.report / f"{name}.md").write_text(text)
        (given.report / f"{name}.json").write_text(
            json.dumps({"about": about, "rows": [row.plain() for row in rows]}, indent=1, ensure_ascii=False)
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
