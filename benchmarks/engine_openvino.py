"""Our OpenVINO engine beside OpenVINO GenAI's pipeline: same machine, same rounded weights, rounds interleaved.

    python benchmarks/engine_openvino.py OURS [--peer FOLDER] [--json FILE] [--rounds 5] [--quick]

OURS is the folder of a variant `int8`. The peer runs on FOLDER where given (an INT8 model without fused projections,
as GenAI's users make it) and on OURS itself. Ratios above 1 mean that ours is faster. Times include everything from
`submit` to the last event; 64 new tokens a sequence, greedy, stop tokens ignored.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from ashore.core.ids import OrderId
from ashore.data.engines import EngineOptions, Failed, Finished, GenerateOrder, ModelFiles, Sampling, Token
from ashore.data.engines.openvino.engine import OpenVinoEngine
from ashore.data.engines.ports import Engine
from ashore.data.engines.processor import MASK
from genai_engine import GenaiEngine

GREEDY = Sampling(temperature=0)


@dataclass
class Runner:
    """One engine and its readings."""

    name: str
    engine: Engine
    readings: dict[str, list[float]] = field(default_factory=dict)
    orders: int = 0

    def run(self, prompts: list[list[int]], new_tokens: int) -> tuple[float, list[float]]:
        """Return the seconds until all have ended, and the seconds to each first token."""
        begun_s = time.perf_counter()
        firsts: dict[str, float] = {}
        for prompt in prompts:
            self.orders += 1
            self.engine.submit(
                GenerateOrder(
                    order_id=OrderId(str(self.orders)),
                    prompt_ids=prompt,
                    max_new_tokens=new_tokens,
                    ignore_eos=True,
                    sampling=GREEDY,
                    prefix_partition="bench",
                )
            )
        left = len(prompts)
        while left:
            for event in self.engine.step(0.1):
                if isinstance(event, Token):
                    firsts.setdefault(event.order_id, time.perf_counter() - begun_s)
                elif isinstance(event, Finished):
                    left -= 1
                elif isinstance(event, Failed):
                    raise SystemExit(f"{self.name}: {event.message}")
        return time.perf_counter() - begun_s, list(firsts.values())

    def note(self, case: str, value: float) -> None:
        self.readings.setdefault(case, []).append(value)


def prompt(seed: int, length: int, vocab_size: int) -> list[int]:
    """Return token ids that no other seed begins with."""
    return [(seed * 7919 + i * 104729 + i * i * 31) % (vocab_size - 100) + 50 for i in range(length)]


def measure(runners: list[Runner], vocab_size: int, rounds: int, sizes: list[int]) -> None:
    """Fill the readings: every case on every engine in turn, so that a slow minute of the machine hits all alike."""
    seed = 0
    for turn in range(rounds + 1):
        for size in sizes:
            seed += 1
            new_tokens = 64 if size < 64 else 32
            prompts = [prompt(seed * 1000 + i, 12, vocab_size) for i in range(size)]
            for runner in runners:
                seconds, _ = runner.run(prompts, new_tokens)
                if turn:
                    runner.note(f"{size} sequences, tok/s", size * new_tokens / seconds)
        seed += 1
        for runner in runners:
            seconds, _ = runner.run([prompt(seed * 1000, 488, vocab_size)], 1)
            if turn:
                runner.note("prefill 488, tok/s", 488 / seconds)
        seed += 1
        for runner in runners:
            _, firsts = runner.run([prompt(seed * 1000, 32, vocab_size)], 2)
            if turn:
                runner.note("TTFT 32 tokens alone, ms", firsts[0] * 1000)
        seed += 1
        system = prompt(seed * 1000, 600, vocab_size)
        for runner in runners:
            first = runner.run([[*system, *prompt(seed * 1000 + 1, 12, vocab_size)]], 1)[1][0]
            second = runner.run([[*system, *prompt(seed * 1000 + 2, 12, vocab_size)]], 1)[1][0]
            if turn:
                runner.note("TTFT 600 shared, first, ms", first * 1000)
                runner.note("TTFT 600 shared, second, ms", second * 1000)
                runner.note("second / first, %", 100 * second / first)


def table(runners: list[Runner]) -> list[str]:
    """Return the medians, and our ratio to each peer, as lines of a table."""
    ours, *peers = runners
    head = ["case", ours.name, *(p.name for p in peers), *(f"vs {p.name}" for p in peers)]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for case in ours.readings:
        medians = [statistics.median(r.readings[case]) for r in runners]
        higher_is_better = case.endswith("tok/s")
        ratios = [medians[0] / m if higher_is_better else m / medians[0] for m in medians[1:]]
        lines.append(" | ".join([case, *(f"{m:.1f}" for m in medians), *(f"{r:.2f}" for r in ratios)]))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours", type=Path)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--isa", choices=("avx2",), help="use nothing newer, as an older processor would")
    parser.add_argument("--quick", action="store_true", help="leave out 64 sequences")
    arguments = parser.parse_args()
    if arguments.isa:
        os.environ[MASK] = arguments.isa.upper()
    folders = {"ours": ("openvino", arguments.ours), "genai same file": ("genai", arguments.ours)}
    if arguments.peer:
        folders["genai"] = ("genai", arguments.peer)
    runners, infos = [], {}
    for name, (kind, folder) in folders.items():
        engine: Engine = OpenVinoEngine() if kind == "openvino" else GenaiEngine()
        files = ModelFiles(
            name=name, digest="", directory=str(folder.resolve()), format="openvino", weights="openvino_model.xml"
        )
        infos[name] = engine.load(files, EngineOptions(kind="openvino", kv_tokens=32768))
        runners.append(Runner(name, engine))
    sizes = [1, 4, 16] if arguments.quick else [1, 4, 16, 64]
    measure(runners, infos["ours"].vocab_size, arguments.rounds, sizes)
    lines = table(runners)
    about = {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "python": platform.python_version(),
        "versions": {name: info.version for name, info in infos.items()},
        "rounds": arguments.rounds,
    }
    print("\n".join(lines))
    print(json.dumps(about))
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"about": about, "readings": {r.name: r.readings for r in runners}}, indent=1)
        )
    for runner in runners:
        runner.engine.close()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "flags")):
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                continue
            kept = [f for f in line.split() if f.startswith(("avx", "amx"))]
            return f"{name}: {' '.join(kept)}"
    return platform.processor()


if __name__ == "__main__":
    main()
