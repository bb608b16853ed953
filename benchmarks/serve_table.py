"""The table of serving figures, with peers in the same run, and a dated report.

    python -m benchmarks [--quick] [--only share,throughput,...] [--peers FOLDER] [--build-peers] [--rounds 3]

FOLDER of --peers has the virtual environments `llama-cpp-python` (see `peers.py build-llama-cpp`) and, where it starts,
`vllm`. Servers stay up side by side and are measured in turn, round by round, so that a slow minute hits all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import serve_cases as cases
from benchmarks.peers import PeerDidNotStart, PeerServer, build_llama_cpp, llama_cpp_python, vllm, xllamacpp
from benchmarks.row import Row
from benchmarks.serve_report import about, write

from ashore.cli.bootstrap import build_store, make_ready, prepare_variant
from ashore.data.engines.tuning import TunedChoice, read_report, report_path
from ashore.kit.settings import Home

PROJECT = Path(__file__).parents[1]
MODEL = "smollm2"
PEERS = ("xllamacpp", "llama-cpp-python", "vllm")
PROMPT_TOKENS = 32
"""After the template, as the model's tokenizer counts."""
ALONE_WAVES = 4
"""Requests of a single stream in each reading."""
PAIRS_A_ROUND = 3
"""How often what is compared with one other thing alone is measured: a reading takes seconds, and moves by a tenth."""


@dataclass(kw_only=True)
class Run:
    """What the cases share."""

    home: Path
    peers: Path
    logs: Path
    rounds: int
    quick: bool
    q8_0: Path
    prompts: cases.Prompts
    threads: int
    rows: list[Row] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)

    def start_peers(self, stack: ExitStack, *, streams: int, only: tuple[str, ...] = PEERS) -> list[PeerServer]:
        """Start those peers of `only` that can be started; note the others."""
        hf_folder = self.peers / "smollm2-hf"
        ways = {
            "xllamacpp": xllamacpp(self.q8_0, streams=streams, threads=self.threads, logs=self.logs),
            "llama-cpp-python": llama_cpp_python(
                self.peers / "llama-cpp-python", self.q8_0, threads=self.threads, logs=self.logs
            ),
            "vllm": vllm(self.peers / "vllm", hf_folder, logs=self.logs),
        }
        started = []
        for name in only:
            try:
                started.append(stack.enter_context(ways[name]))
            except PeerDidNotStart as fault:
                line = f"peer {name}: {fault}"
                if line not in self.not_measured:
                    self.not_measured.append(line)
        return started


def share(run: Run) -> None:
    """16 streams over HTTP and the same engine in process: pairs whose order alternates, nothing else started."""
    waves = 1 if run.quick else 3
    over_http: list[float] = []
    in_process: list[float] = []
    with ExitStack() as stack:
        config = tuned_configs(run).get("throughput", "")
        ours = stack.enter_context(cases.ashore_up(run.home, MODEL, config=config, logs=run.logs))
        inside = cases.InProcess(run.home / "run" / "host-1.json", run.logs / "in-process.log")
        stack.callback(inside.close)
        template = PROMPT_TOKENS - run.prompts.user_tokens
        sizes = {"streams": 16, "prompt_tokens": PROMPT_TOKENS, "shared_tokens": template}
        inside.run(requests=16, **sizes)  # warms up, as the server does

        def http(turn: int) -> None:
            report = cases.throughput(ours, run.prompts, streams=16, waves=waves, seed=turn)
            over_http.append(report.tok_per_s)

        def process(_turn: int) -> None:
            in_process.append(inside.run(requests=16 * waves, **sizes))

        for turn in range(run.rounds * PAIRS_A_ROUND):
            for measure in (http, process) if turn % 2 == 0 else (process, http):
                measure(turn)
    ratios = [h / i for h, i in zip(over_http, in_process, strict=True)]
    detail = (
        f"median of {len(ratios)} pairs ({min(ratios):.2f} to {max(ratios):.2f}); "
        f"{statistics.median(over_http):.0f} over HTTP, {statistics.median(in_process):.0f} in process, tok/s"
    )
    readings = {"over HTTP": over_http, "in process": in_process}
    run.rows.append(
        Row(what="16 streams over HTTP against the engine in process", value=statistics.median(ratios), unit="x",
            bar=0.90, aim=0.94, detail=detail, readings=readings)
    )  # fmt: skip


def throughput(run: Run) -> None:
    """16 streams beside every peer; then one stream, each at its best setting."""
    waves = 1 if run.quick else 2
    tuned = tuned_configs(run)
    readings: dict[str, list[float]] = {}
    with ExitStack() as stack:
        ours = stack.enter_context(cases.ashore_up(run.home, MODEL, config=tuned.get("throughput", ""), logs=run.logs))
        servers = [ours, *run.start_peers(stack, streams=16)]
        for turn in range(run.rounds):
            for server in servers:
                report = cases.throughput(server, run.prompts, streams=16, waves=waves, seed=turn)
                readings.setdefault(f"{server.name}, 16 streams", []).append(report.tok_per_s)
                one = cases.throughput(server, run.prompts, streams=1, waves=ALONE_WAVES, seed=100 + turn)
                readings.setdefault(f"{server.name}, 1 stream", []).append(one.tok_per_s)
    alone(run, tuned.get("latency", ""), readings)
    medians = {name: statistics.median(values) for name, values in readings.items()}
    for what, suffix, mine, bar, aim in (
        ("16 streams against the best other server", "16 streams", "ashore, 16 streams", 1.5, 2.3),
        ("one stream, each server at its own best setting", "1 stream", "ashore alone, 1 stream", 1.0, 1.2),
        ("one stream at our setting for 16, against each peer's best", "1 stream", "ashore, 1 stream", 0.8, 1.0),
    ):
        others = {n: v for n, v in medians.items() if n.endswith(suffix) and not n.startswith("ashore")}
        best = max(others, key=lambda n: others[n], default="")
        shown = "; ".join(f"{n} {v:.0f}" for n, v in {mine: medians[mine], **others}.items())
        run.rows.append(
            Row(what=what, value=medians[mine] / others[best] if best else None, unit="x", bar=bar, aim=aim,
                detail=f"{shown}, tok/s" if best else "no peer started",
                readings={name: readings[name] for name in (mine, *others)})
        )  # fmt: skip


def alone(run: Run, config: str, readings: dict[str, list[float]]) -> None:
    """One stream at the setting that is best for one: ours, and llama.cpp's server with a single slot."""
    with ExitStack() as stack:
        ours = stack.enter_context(cases.ashore_up(run.home, MODEL, config=config, logs=run.logs))
        servers = [("ashore alone", ours)]
        servers += [(s.name, s) for s in run.start_peers(stack, streams=1, only=("xllamacpp", "llama-cpp-python"))]
        for turn in range(run.rounds * PAIRS_A_ROUND):
            for name, server in servers if turn % 2 == 0 else servers[::-1]:
                one = cases.throughput(server, run.prompts, streams=1, waves=ALONE_WAVES, seed=200 + turn)
                readings.setdefault(f"{name}, 1 stream", []).append(one.tok_per_s)


def tuned_configs(run: Run) -> dict[str, str]:
    """Return by goal the `ashore.toml` that `ashore engine tune` chose in this home; none where it never ran."""
    path = report_path(run.home / "cache" / "tuning", MODEL)
    if not path.is_file():
        run.not_measured.append(
            "settings chosen by `ashore engine tune`: it never ran in this home; defaults were used"
        )
        return {}
    return {c.goal: config_of(c) for c in read_report(path).choices}


def config_of(choice: TunedChoice) -> str:
    """Return the specification that runs `choice` under the model's own name."""
    name = f"{MODEL}@{choice.variant}" if choice.variant else MODEL
    options = ", ".join(f"{key} = {json.dumps(value)}" for key, value in choice.options.extra.items())
    return (
        f'[[model]]\nname = "{name}"\nalias = "{MODEL}"\n[model.engine]\nkind = "{choice.kind}"\n'
        f"threads = {choice.options.threads}\noptions = {{ {options} }}\n"
    )


def ttft(run: Run) -> None:
    """Time to first token: alone, with four in flight, under a shared system prompt."""
    with cases.ashore_up(run.home, MODEL, logs=run.logs) as ours:
        alone = cases.ttft_alone(ours, run.prompts, requests=40 if run.quick else 100).ttft_ms
        poisson, in_flight = cases.ttft_poisson(ours, run.prompts, requests=60 if run.quick else 150)
        first, later = cases.shared_prefix(ours, run.prompts, rounds=run.rounds)
    four = poisson.ttft_ms
    detail = f"Poisson, {in_flight:.1f} in flight on average"
    run.rows += [
        Row(what="first token, alone, p95", value=alone.p95, unit="ms", bar=50, aim=25, lower_is_better=True,
            detail=f"p50 {alone.p50:.1f} ms"),
        Row(what="first token, four in flight, p50", value=four.p50, unit="ms", bar=50, aim=30, lower_is_better=True,
            detail=detail),
        Row(what="first token, four in flight, p95", value=four.p95, unit="ms", bar=120, aim=60, lower_is_better=True,
            detail=detail),
        Row(what="first token under a shared 600-token system prompt", value=100 * later / first, unit="% of the first",
            bar=12, aim=8, lower_is_better=True, detail=f"first {first:.0f} ms, later {later:.1f} ms"),
    ]  # fmt: skip


def stalls(run: Run) -> None:
    """256 open streams on the fake engine."""
    seconds = 4.0 if run.quick else 15.0
    with cases.ashore_up(run.home, "fake:random?tok_per_s=20", logs=run.logs) as server:
        report = cases.stalls(server, streams=256, seconds=seconds)
    lost = report.sent - report.succeeded
    run.rows += [
        Row(what="256 streams at 20 tokens/s: longest gap of any", value=report.worst_gap_ms.max, unit="ms", bar=200,
            lower_is_better=True, detail=f"p50 of the longest gaps {report.worst_gap_ms.p50:.0f} ms"),
        Row(what="256 streams at 20 tokens/s: lost", value=lost, unit="", bar=0, lower_is_better=True,
            detail=str(report.errors or f"{report.completion_tokens} tokens")),
    ]  # fmt: skip


def start(run: Run) -> None:
    """From the command to the first answer; and `--help`."""
    taken = [cases.first_answer_s(run.home, MODEL, run.logs) for _ in range(run.rounds)]
    run.rows += [
        Row(what="`ashore up smollm2` to first answer", value=statistics.median(taken), unit="s", bar=10, aim=5,
            lower_is_better=True),
        Row(what="`ashore --help`", value=cases.help_s(), unit="s", bar=0.3, lower_is_better=True),
    ]  # fmt: skip


def engine(run: Run) -> None:
    """Our scheduler beside OpenVINO GenAI's pipeline: prints its own table."""
    folder = run.home / "run" / "models"
    found = next((p.parent for p in folder.glob("*/openvino_model.xml")), None)
    if found is None:
        run.not_measured.append("engine beside GenAI: no int8 folder is linked in the home")
        return
    command = [sys.executable, str(PROJECT / "benchmarks" / "engine_openvino.py"), str(found), "--quick"]
    done = subprocess.run([*command, "--rounds", str(run.rounds)], capture_output=True, text=True, check=False)
    print(done.stdout)
    for line in done.stdout.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        for name, bar, aim in (
            ("16 sequences, tok/s", 1.0, 1.2), ("1 sequences, tok/s", 1.0, 1.3), ("prefill 488, tok/s", 1.0, 1.2),
        ):  # fmt: skip
            if cells[0] == name:
                what = f"engine in process against GenAI's pipeline, same IR: {name.removesuffix(', tok/s')}"
                detail = f"{cells[1]} against {cells[2]} tok/s"
                run.rows.append(Row(what=what, value=float(cells[-1]), unit="x", bar=bar, aim=aim, detail=detail))


def memory(run: Run) -> None:
    """Memory of the API worker: `api_memory.py`."""
    script = str(PROJECT / "benchmarks" / "api_memory.py")
    requests = ["--requests", "30000", "--warm-up", "10000"] if run.quick else []
    done = subprocess.run([sys.executable, script, *requests], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    grown = next((w for line in lines for w in [line.partition("grown ")[2].split(" ")[0]] if w), "")
    run.rows.append(
        Row(what="API worker's memory over many requests", value=float(grown) if grown else None, unit="MiB", bar=2,
            lower_is_better=True, detail="; ".join(lines[-3:]) or done.stderr[-300:])
    )  # fmt: skip


CASES: dict[str, Callable[[Run], None]] = {
    "share": share,
    "throughput": throughput,
    "ttft": ttft,
    "stalls": stalls,
    "start": start,
    "engine": engine,
    "memory": memory,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=PROJECT / ".cache" / "bench")
    parser.add_argument("--peers", type=Path, default=PROJECT / ".cache" / "peers")
    parser.add_argument("--out", type=Path, default=PROJECT / "benchmarks" / "reports")
    parser.add_argument("--only", default="", help=f"some of {','.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--build-peers", action="store_true", help="build llama-cpp-python first where it is missing")
    parser.add_argument("--quick", action="store_true", help="fewer requests: minutes instead of a quarter of an hour")
    given = parser.parse_args()
    chosen = given.only.split(",") if given.only else list(CASES)
    if unknown := set(chosen) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a time limit leaves no server behind
    venv = given.peers / "llama-cpp-python"
    if given.build_peers and not venv.exists():
        build_llama_cpp(venv)
    with tempfile.TemporaryDirectory(prefix="ashore-bench-") as logs:
        run = prepare(given, Path(logs))
        busy_before = cases.quiet_share()
        for name in chosen:
            print(f"measuring: {name}", file=sys.stderr)
            CASES[name](run)
        facts = about("python -m benchmarks " + " ".join(sys.argv[1:]), busy_before=busy_before,
                      busy_after=cases.quiet_share())  # fmt: skip
    run.not_measured += [f"case {name}: left out by --only" for name in CASES if name not in chosen]
    if max(busy_before, float(str(facts["other_load_after"]))) > 0.1:
        run.not_measured.append("a quiet machine: other work took more than a tenth of the processors")
    for row in run.rows:
        print("  ".join(row.cells()))
    print(f"report: {write(given.out, run.rows, facts, run.not_measured)}")
    return 1 if any(row.verdict == "MISSED" for row in run.rows) else 0


def prepare(given: argparse.Namespace, logs: Path) -> Run:
    """Fetch and prepare the demo model in the benchmark's own home; the second run only looks."""
    from ashore.core.chat import Message
    from ashore.data.text import TextModel
    from ashore.lab.bench import PromptMaker
    from ashore.lab.bench.prompts import tokenizer_counter

    store = build_store(Home(root=given.home))
    make_ready(store, MODEL)
    parent = store.resolve(MODEL)
    q8 = store.open(prepare_variant(store, parent, "q8_0").reference)
    folder = Path(q8.directory)
    system = PromptMaker(seed=0, count_tokens=tokenizer_counter(folder / "tokenizer.json")).system(cases.SYSTEM_TOKENS)
    messages = [Message(role="system", content=system), Message(role="user")]
    template_tokens = len(TextModel.load(folder).encode_chat(messages))
    tokenizer = folder / "tokenizer.json"
    user_tokens = max(4, PROMPT_TOKENS - template_tokens)
    print(f"template {template_tokens} tokens, user text {user_tokens} tokens", file=sys.stderr)
    return Run(
        home=given.home,
        peers=given.peers,
        logs=logs,
        rounds=given.rounds,
        quick=given.quick,
        q8_0=folder / q8.weights,
        prompts=cases.Prompts(tokenizer=tokenizer, user_tokens=user_tokens),
        threads=len(os.sched_getaffinity(0)),
    )


if __name__ == "__main__":
    sys.exit(main())
