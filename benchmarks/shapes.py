"""Real shapes with random weights: what each server makes of this machine's memory bandwidth.

    make bench ARGS="shapes --shape qwen-1.5b --bits 8 --streams 1,4 --prefill 512 --work FOLDER"
    make bench ARGS="shapes --report --work FOLDER"

Each call starts one server after the other, measures what FOLDER/shapes.json lacks of `--rounds` readings, and adds it
there, so that a table can be made in pieces of minutes. Models are made in FOLDER when first needed; `--drop` deletes
those of a shape. All servers are asked over HTTP with prompts of token ids, except GenAI's pipeline, which has no
server and runs in a process of its own. Tokens a second count the whole wave, its prompts of 32 tokens included;
bytes are the weights that one token reads, of a mixture of experts the chosen ones.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from benchmarks.made_up import ONE_MODEL, SHAPES, make_gguf, read_bytes
from benchmarks.peers import PeerDidNotStart, PeerServer, free_port, process, xllamacpp
from benchmarks.serve_cases import MAIN, quiet_share
from benchmarks.serve_report import about

SERVERS: Final = ("ashore", "ashore-llamacpp", "llama.cpp", "genai")
PROMPT_TOKENS: Final = 32
CONFIG: Final = ONE_MODEL + "context_tokens = 5120\nkv_tokens = 20480\n"
BITS: Final = {"ashore": {8: 8.03, 4: 4.25}, "llama.cpp": {8: 8.5, 4: 4.5}}
"""Bits of a weight in a product of a layer, scales included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A made-up model in the store of the work folder."""

    home: Path
    shape: str
    bits: int

    @property
    def name(self) -> str:
        return f"{self.shape}-q{self.bits}".replace(".", "_")

    @property
    def has_experts(self) -> bool:
        return "experts" in SHAPES[self.shape]

    @property
    def variant(self) -> str:
        """The one that our engine for this shape serves."""
        return self.name if self.has_experts else f"{self.name}@int{self.bits}"

    def files(self, reference: str) -> Path:
        """Return the main file of a reference in the store."""
        from ashore.cli.bootstrap import build_store
        from ashore.kit.settings import Home

        found = build_store(Home(root=self.home)).open(reference)
        return Path(found.directory) / found.weights

    def make(self) -> None:
        """Make it and its variant, unless they are there."""
        have = _ashore(self.home, "model", "list", "--json")
        if f'"{self.name}"' not in have:
            file = self.home / "made" / f"{self.name}.gguf"
            make_gguf(SHAPES[self.shape], f"q{self.bits}_0", file)
            _ashore(self.home, "model", "pull", str(file), "--name", self.name)
            file.unlink()
        if self.variant != self.name and f'"{self.variant}"' not in have:
            _ashore(self.home, "optimize", "quantize", self.name, "--to", f"int{self.bits}")

    def drop(self) -> None:
        for reference in (self.variant, self.name):
            _ashore(self.home, "model", "remove", reference, check=False)
        _ashore(self.home, "model", "gc", check=False)


def _ashore(home: Path, *words: str, check: bool = True) -> str:
    environ = os.environ | {"ASHORE_HOME": str(home)}
    done = subprocess.run([*MAIN, *words], env=environ, check=check, stdout=subprocess.PIPE, text=True)
    return done.stdout


@dataclass(frozen=True, slots=True)
class Wave:
    """Requests that were sent together."""

    wall_s: float
    first_s: tuple[float, ...]
    token_s: float
    """Median over the requests of the time between tokens."""


def wave(server: PeerServer, vocab: int, *, streams: int, prompt: int, tokens: int) -> Wave:
    """Send `streams` requests at once, with prompts that no other begins with, and wait for all."""
    began = time.perf_counter()
    with ThreadPoolExecutor(streams) as threads:
        prompts = [[random.randrange(300, vocab - 1) for _ in range(prompt)] for _ in range(streams)]
        ends = list(threads.map(lambda ids: _ask(server, ids, tokens), prompts))
    wall = time.perf_counter() - began
    gaps = [(last - first) / max(1, tokens - 1) for first, last in ends]
    return Wave(wall, tuple(first for first, _ in ends), statistics.median(gaps))


def _ask(server: PeerServer, ids: list[int], tokens: int) -> tuple[float, float]:
    """Return the seconds to the first and to the last token of a streamed completion."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=900)
    body = {"model": server.model, "prompt": ids, "max_tokens": tokens, "temperature": 0, "stream": True}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {server.key}"}
    began = time.perf_counter()
    connection.request("POST", "/v1/completions", json.dumps(body | {"ignore_eos": True}), headers)
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"{server.name} answers {answer.status}: {answer.read(400)!r}")
    first = last = 0.0
    for line in answer:
        if line.startswith(b"data: {"):
            last = time.perf_counter() - began
            first = first or last
    connection.close()
    return first, last


@contextlib.contextmanager
def ashore(model: Model, reference: str, kind: str, logs: Path) -> Iterator[PeerServer]:
    """Run `ashore up` with one made-up model."""
    config = logs / "ashore.toml"
    config.write_text(CONFIG.format(model=reference, kind=kind))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = ["up", "--config", str(config), "--port", str(port), "--grpc-port", "0", "--offline"]
    os.environ["ASHORE_HOME"] = str(model.home)
    with process([*MAIN, *words], url, ready="/readyz", wait_s=400, log=logs / f"{reference}.log"):
        key = (model.home / "first-key").read_text().strip()
        yield PeerServer(name=f"ashore {kind}", version="", url=url, command="", model=reference, key=key)


@contextlib.contextmanager
def opened(name: str, model: Model, streams: int, logs: Path) -> Iterator[PeerServer]:
    match name:
        case "ashore":
            with ashore(model, model.variant, "llamacpp" if model.has_experts else "openvino", logs) as server:
                yield server
        case "ashore-llamacpp":
            with ashore(model, model.name, "llamacpp", logs) as server:
                yield server
        case _:
            threads = len(os.sched_getaffinity(0))
            with xllamacpp(model.files(model.name), streams=streams, threads=threads, logs=logs) as server:
                yield server


class Results:
    """Readings in a file, by shape, bits, server and case."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.rows: dict[str, list[dict[str, float]]] = json.loads(file.read_text()) if file.exists() else {}

    def lacks(self, key: str, rounds: int) -> bool:
        return len(self.rows.get(key, ())) < rounds

    def add(self, key: str, **reading: float) -> None:
        self.rows.setdefault(key, []).append({name: round(value, 5) for name, value in reading.items()})
        self._file.write_text(json.dumps(self.rows, indent=1) + "\n")
        print(key, self.rows[key][-1], flush=True)


def measure(name: str, model: Model, cases: list[tuple[str, int]], rounds: int, results: Results, logs: Path) -> None:
    """Measure the cases of one server that are missing."""
    base = f"{model.shape} {model.bits} {name}"
    todo = [(what, size) for what, size in cases if results.lacks(f"{base} {what} {size}", rounds)]
    if not todo:
        return
    if name == "genai":
        command = [sys.executable, "-m", "benchmarks.shapes", "--genai", str(model.files(model.variant))]
        done = subprocess.run(
            [*command, "--cases", json.dumps(todo), "--vocab", str(SHAPES[model.shape]["vocab"])],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        for what, size, reading in json.loads(done.stdout.splitlines()[-1]):
            results.add(f"{base} {what} {size}", **reading)
        return
    groups = [todo]
    if name == "llama.cpp":  # its slots share the context: one for long prompts, one for each stream otherwise
        groups = [[case for case in todo if _slots(case) == slots] for slots in sorted({_slots(case) for case in todo})]
    vocab = SHAPES[model.shape]["vocab"]
    for group in groups:
        began = time.perf_counter()
        with opened(name, model, max(_slots(case) for case in group), logs) as server:
            loaded_s = time.perf_counter() - began
            wave(server, vocab, streams=1, prompt=PROMPT_TOKENS, tokens=4)
            for what, size in group:
                results.add(f"{base} {what} {size}", **_reading(server, vocab, what, size))
            results.add(f"{base} load 1", load_s=loaded_s, memory_gib=memory_bytes() / 2**30)


def _slots(case: tuple[str, int]) -> int:
    return case[1] if case[0] == "decode" else 1


def _reading(server: PeerServer, vocab: int, what: str, size: int) -> dict[str, float]:
    rate, busy = bandwidth(), quiet_share(0.3)
    if what == "decode":
        tokens = 64 if size < 16 else 32
        seen = wave(server, vocab, streams=size, prompt=PROMPT_TOKENS, tokens=tokens)
        late = sorted(seen.first_s)[int(0.95 * (size - 1))]
        found = {"tok_per_s": size * tokens / seen.wall_s, "token_ms": seen.token_s * 1e3, "first_ms": late * 1e3}
    else:
        seen = wave(server, vocab, streams=1, prompt=size, tokens=1)
        found = {"tok_per_s": size / seen.first_s[0], "first_ms": seen.first_s[0] * 1e3}
    return found | {"gb_per_s": rate / 1e9, "other_load": busy}


def bandwidth() -> float:
    """Return the bytes a second that all cores read together."""
    cores = len(os.sched_getaffinity(0))
    parts = [np.ones(1 << 25, np.float32) for _ in range(cores)]
    best = float("inf")
    with ThreadPoolExecutor(cores) as threads:
        for _ in range(5):
            began = time.perf_counter()
            list(threads.map(lambda part: np.dot(part, part), parts))
            best = min(best, time.perf_counter() - began)
    return sum(part.nbytes for part in parts) / best


def memory_bytes() -> int:
    """Return the memory of this process's descendants, shared pages divided among those that share them."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    wanted, total = {os.getpid()}, 0
    while new := {pid for pid, parent in parents.items() if parent in wanted} - wanted:
        wanted |= new
    for pid in wanted - {os.getpid()}:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def genai(file: Path, cases: list[tuple[str, int]], vocab: int) -> None:
    """Measure GenAI's pipeline in this process, and print the readings as JSON."""
    sys.path.insert(0, str(Path(__file__).parent))
    from ashore.data.engines import EngineOptions, ModelFiles
    from engine_openvino import Runner
    from genai_engine import GenaiEngine

    began = time.perf_counter()
    engine = GenaiEngine()
    files = ModelFiles(name="genai", digest="", directory=str(file.parent), format="openvino", weights=file.name)
    options = EngineOptions(kind="openvino", kv_tokens=20480, context_tokens=5120, prefix_cache=False)
    engine.load(files, options)
    loaded_s = time.perf_counter() - began
    runner, found = Runner("genai", engine), []
    runner.run([[random.randrange(300, vocab - 1) for _ in range(PROMPT_TOKENS)]], 4)
    for what, size in cases:
        rate, busy = bandwidth(), quiet_share(0.3)
        count, prompt, tokens = (size, PROMPT_TOKENS, 64 if size < 16 else 32) if what == "decode" else (1, size, 1)
        prompts = [[random.randrange(300, vocab - 1) for _ in range(prompt)] for _ in range(count)]
        wall, firsts = runner.run(prompts, tokens)
        reading = {"tok_per_s": (count * tokens if what == "decode" else size) / wall, "first_ms": max(firsts) * 1e3}
        if what == "decode":
            reading["token_ms"] = (wall - min(firsts)) / max(1, tokens - 1) * 1e3
        found.append((what, size, reading | {"gb_per_s": rate / 1e9, "other_load": busy}))
    status = Path("/proc/self/smaps_rollup").read_text().splitlines()
    memory = 1024 * next(int(line.split()[1]) for line in status if line.startswith("Pss:"))
    found.append(("load", 1, {"load_s": loaded_s, "memory_gib": memory / 2**30}))
    print(json.dumps(found))


def report(results: Results) -> str:
    """Return the medians as Markdown, a table for each shape, and each server against the best other."""
    lines = []
    kinds = dict.fromkeys(tuple(key.split()[:2]) for key in results.rows)
    for shape, bits in kinds:
        mine = {
            key.split(maxsplit=2)[2]: rows for key, rows in results.rows.items() if key.split()[:2] == [shape, bits]
        }
        servers = list(dict.fromkeys(key.split()[0] for key in mine))
        cases = list(dict.fromkeys(" ".join(key.split()[1:]) for key in mine))
        lines += ["", f"## {shape}, {bits} bits", "", f"| | {' | '.join(servers)} | ashore against the best other |"]
        lines.append("|---" * (len(servers) + 2) + "|")
        for case in sorted(cases, key=lambda one: (one.split()[0], int(one.split()[1]))):
            seen = {one: mine[f"{one} {case}"] for one in servers if f"{one} {case}" in mine}
            cells = " | ".join(_cell(seen.get(one), case, shape, int(bits), one) for one in servers)
            lines.append(f"| {case} | {cells} | {_ratio(seen)} |")
    return "\n".join(lines) + "\n"


def _median(rows: list[dict[str, float]], name: str) -> float:
    return statistics.median(row[name] for row in rows if name in row)


def _cell(rows: list[dict[str, float]] | None, case: str, shape: str, bits: int, server: str) -> str:
    if rows is None:
        return "-"
    if case.startswith("load"):
        return f"{_median(rows, 'load_s'):.1f} s, {_median(rows, 'memory_gib'):.1f} GiB"
    told = f"{_median(rows, 'tok_per_s'):.1f} tok/s"
    if case == "decode 1":
        own = server in ("ashore", "genai") and "experts" not in SHAPES[shape]
        read = read_bytes(SHAPES[shape], BITS["ashore" if own else "llama.cpp"][bits], head_bits=8.03 if own else 0)
        share = read / (_median(rows, "token_ms") / 1e3) / (_median(rows, "gb_per_s") * 1e9)
        told += f", {_median(rows, 'token_ms'):.0f} ms a token, {share:.2f} of the bandwidth"
    elif case.startswith("decode"):
        told += f", first token p95 {_median(rows, 'first_ms'):.0f} ms"
    return f"{told} ({len(rows)})"


def _ratio(seen: dict[str, list[dict[str, float]]]) -> str:
    speeds = {one: _median(rows, "tok_per_s") for one, rows in seen.items() if "tok_per_s" in rows[0]}
    ours = [speed for one, speed in speeds.items() if one.startswith("ashore")]
    others = [speed for one, speed in speeds.items() if not one.startswith("ashore")]
    return f"{max(ours) / max(others):.2f}" if ours and others else ""


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="shapes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="qwen-1.5b")
    parser.add_argument("--bits", type=int, choices=(4, 8), default=8)
    parser.add_argument("--streams", default="1,4,16")
    parser.add_argument("--prefill", default="512,4096", help="tokens of prompts; empty for none")
    parser.add_argument("--only", default=",".join(SERVERS), help="servers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path(".cache/shapes"))
    parser.add_argument("--drop", action="store_true", help="delete the models of this shape")
    parser.add_argument("--report", action="store_true", help="print the table of all readings")
    parser.add_argument("--genai", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cases", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--vocab", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.genai:
        genai(given.genai, given.cases, given.vocab)
        return 0
    given.work.mkdir(parents=True, exist_ok=True)
    results = Results(given.work / "shapes.json")
    model = Model(home=given.work.absolute() / "home", shape=given.shape, bits=given.bits)
    if given.report:
        facts: dict[str, Any] = about("shapes", busy_before=quiet_share(), busy_after=quiet_share())
        print(json.dumps(facts), report(results), sep="\n")
        return 0
    if given.drop:
        model.drop()
        return 0
    model.make()
    cases = [("decode", int(n)) for n in given.streams.split(",") if n]
    cases += [("prefill", int(n)) for n in given.prefill.split(",") if n]
    logs = given.work / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir()
    for _ in range(given.rounds):
        for name in given.only.split(","):
            if (name, model.has_experts) in (("genai", True), ("ashore-llamacpp", True)):
                continue
            try:
                measure(name, model, cases, given.rounds, results, logs)
            except PeerDidNotStart as fault:
                print(f"{name}: {fault}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
