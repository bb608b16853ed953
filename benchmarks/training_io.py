"""What checkpoints and data cost a training run: how long they hold it up, beside a synchronous save and webdataset.

Run: python -m benchmarks.training_io [--only checkpoints|loader] [--rounds 12] [--layers 12] [--sustained 240]
    [--peer DIR]

Needs the extra [train]. Checkpoints: steps of a Llama of SmolLM2-135M's shape (with fewer layers), all weights trained.
In turns, a step with no checkpoint, one behind which a checkpoint is written, and a synchronous save of the same bytes
with fsync; also safetensors' own `save_file` with fsync. The stall is what `begin` and `before_update` take, and what
the update takes beyond its median elsewhere. Loader: the same shards, read by ours and, where --peer names a folder
with webdataset (`pip install --target DIR --no-deps webdataset braceexpand`), by that with its shuffle buffer and the
same tokenizer in the training process; each step computes for a fixed time. Over S3: our loader from SeaweedFS, and
webdataset by HTTP from a file server, both through one kind of link with 50 ms for each answer.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.row import Row

from ashore.data.text import TextModel
from ashore.lab.training import PackedBatches, RunState, open_set, pack_shards
from ashore.lab.training.checkpointing.form import Position
from ashore.lab.training.sft import peak_memory_bytes

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))

STEP_S = 0.25
"""Of a computed step in the loader's part."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("checkpoints", "loader"))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=49152)
    parser.add_argument("--sustained", type=float, default=0.0, help="seconds of training with a checkpoint each 30 s")
    parser.add_argument("--steps", type=int, default=60, help="of the loader's part")
    parser.add_argument("--peer", type=Path, help="folder that has webdataset")
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="training-io-") as folder:
        if words.only != "loader":
            rows += checkpoints(
                Path(folder), words.rounds, words.layers, words.tokens, words.vocabulary, words.sustained
            )
        if words.only != "checkpoints":
            rows += loader(Path(folder), words.steps, words.peer)
    report = render(rows)
    print(report)
    if words.out:
        words.out.write_text(report, encoding="utf-8")


EVERY_S = 30.0
"""Between two checkpoints of the sustained part."""


def checkpoints(
    folder: Path, rounds: int, layers: int, tokens: int, vocabulary: int, sustained_s: float = 0.0
) -> list[Row]:
    """Measure what a checkpoint holds up, in turns; with `sustained_s`, how much slower steps are with one in 30 s."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=576, intermediate_size=1536, num_hidden_layers=layers, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids = torch.randint(0, vocabulary, (1, tokens))
    state = RunState(folder=folder / "ours")
    writer, tensors = state.writer(), dict[str, Any]()

    def live() -> dict[str, Any]:
        if not tensors:
            for name, parameter in model.named_parameters():
                tensors[f"parameter/{name}"] = parameter.detach()
                tensors.update({f"{m}/{name}": value for m, value in optimizer.state[parameter].items()})
        return tensors

    def step() -> tuple[float, float, float]:
        """Return seconds of the step, of `before_update`, and of the update."""
        began = time.perf_counter()
        model(input_ids=ids, labels=ids).loss.backward()
        settled = time.perf_counter()
        writer.before_update()
        update = time.perf_counter()
        optimizer.step()
        done = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - began, update - settled, done - update

    def plainly() -> None:
        (folder / "plain").mkdir(exist_ok=True)
        target = folder / "plain" / "state.safetensors"
        save_file(live(), target.with_suffix(".new"))
        descriptor = os.open(target.with_suffix(".new"), os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        os.replace(target.with_suffix(".new"), target)

    for _ in range(2):
        step()
    num_bytes = sum(t.numel() * t.element_size() for t in live().values())
    position = partial(Position, tokens=0, seconds=0.0)
    before = peak_memory_bytes()
    free, beside, stalls, updates, own, plain, durable = ([] for _ in range(7))  # type: ignore[var-annotated]
    for number in range(rounds + 1):
        took, _, update = step()
        free.append(took)
        updates.append(update)
        began = time.perf_counter()
        assert writer.begin(position(step=number), live)
        begin = time.perf_counter() - began
        took, settle, update = step()
        beside.append(took + begin)
        writer.finish()
        durable.append(writer.times.durable_s)
        stalls.append((begin + settle, update))
        step()
        for taken, save in ((own, partial(state.save, position(step=number), live())), (plain, plainly)):
            began = time.perf_counter()
            save()
            taken.append(time.perf_counter() - began)
            gc.collect()
        print(f"round {number}: stall {begin + settle:.4f} s, synchronous {own[-1]:.3f} s", file=sys.stderr, flush=True)
    slower = None
    if sustained_s:
        num_steps, took_s = [0, 0], [0.0, 0.0]
        turns = max(2, round(sustained_s / EVERY_S))
        for turn in range(turns + turns % 2):
            kind = (turn + turn // 2) % 2  # without, with, with, without: what drifts weighs on both alike
            began = time.perf_counter()
            if kind:
                writer.begin(position(step=1000 + turn), live)
            while time.perf_counter() - began < EVERY_S:
                step()
                num_steps[kind] += 1
            took_s[kind] += time.perf_counter() - began
            writer.finish()
        slower = (took_s[1] / num_steps[1]) / (took_s[0] / num_steps[0]) - 1
    writer.close()
    usual = statistics.median(updates)
    held = [waited + max(0.0, update - usual) for waited, update in stalls[1:]]  # the first makes the spare memory
    waited = [one for one, _ in stalls[1:]]
    memory = (peak_memory_bytes() - before) / num_bytes
    ratios = sorted(one / sync for one, sync in zip(held, own[1:], strict=True))
    pure = sorted(one / sync for one, sync in zip(waited, own[1:], strict=True))
    return [
        _row("stall / synchronous save with fsync, median of rounds", statistics.median(ratios), 1 / 40, 1 / 200,
             f"{_ms(held)} against {_ms(own)}; safetensors.save_file with fsync {_ms(plain)}; {num_bytes >> 20} MiB"),
        _row("the same, p95", _p95(ratios), 1 / 20, None, f"{len(ratios)} rounds"),
        _row("of it, waiting and copying alone, median", statistics.median(pure), None, None, _ms(waited)),
        _row("the same, p95", _p95(pure), None, None, "without the updates that took longer than the median one"),
        _row("step beside which one is written / step without", statistics.median(beside[1:]) /
             statistics.median(free[1:]), None, None, f"{_ms(beside)} against {_ms(free)}"),
        _row("slow-down at one in 30 s, from the line above",
             max(0.0, statistics.median(beside[1:]) - statistics.median(free[1:])) / 30, 0.02, None, "share of time"),
        *([_row(f"slow-down at one in 30 s, measured over {sustained_s:.0f} s", slower, 0.02, None,
                "steps of turns of 30 s with one checkpoint, against turns without")] if slower is not None else ()),
        _row("memory beside the state", memory, 0.1, None,
             "peak after all kinds of saving, less the peak before"),
        _row("on disk after, s, median", statistics.median(durable), None, None, ""),
    ]  # fmt: skip


def loader(folder: Path, steps: int, peer: Path | None) -> list[Row]:
    """Measure what steps of a fixed length wait for their data, from a folder and over a slow link."""
    from s3_server import KEYS, s3_server
    from slow_link import slow_link
    from tiny_text import byte_level

    byte_level(folder / "text")
    text, rng = TextModel.load(folder / "text"), random.Random(1)
    words = [
        f"{a}{b}"
        for a in ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs"]
        for b in ("", "s", "ed", "ing")
    ]
    with (folder / "data.jsonl").open("w") as file:
        for n in range(24_000):
            answer = " ".join(rng.choices(words, k=rng.randint(20, 90)))
            file.write(json.dumps({"prompt": f"question {n}", "completion": answer}) + "\n")
    shards = folder / "shards"
    packed = pack_shards([str(folder / "data.jsonl")], str(shards), folder / "t", shard_bytes=4 << 20)
    rows = []

    def ours(name: str) -> list[float]:
        data = open_set(name, text, max_length=256, cache=folder / "cache")
        plan = PackedBatches(data, row_tokens=2048, batch_tokens=16_384, seed=1, epochs=1)
        return _waits(plan.batches, min(steps, plan.num_steps))

    def theirs(url: str) -> list[float]:
        if peer is None:
            return []
        sys.path.append(str(peer))
        import webdataset

        found = iter(webdataset.WebDataset(url, shardshuffle=False).shuffle(1000))

        def batch(step: int) -> None:
            tokens = 0
            while tokens < 16_384:
                said = json.loads(next(found)["json"])
                tokens += len(text.encode(said["prompt"])) + len(text.encode(said["completion"], bare=True))

        return _waits(batch, steps)

    local = f"{shards}/shard-{{000000..{packed.shards - 1:06d}}}.tar"
    rows += _compared("from a folder", ours(str(shards)), theirs(local))
    server = folder / "weed"
    server.mkdir()
    with s3_server(server) as url, slow_link(url, delay_s=0.05) as link, _files(shards) as port:
        os.environ.update(KEYS, AWS_ENDPOINT_URL=url)
        pack_shards([str(folder / "data.jsonl")], "s3://models/bench", folder / "t", shard_bytes=4 << 20)
        os.environ["AWS_ENDPOINT_URL"] = link.url
        with slow_link(f"http://127.0.0.1:{port}", delay_s=0.05) as theirs_link:
            remote = f"pipe:curl -s -f {theirs_link.url}/" + local.rpartition("/")[2]
            rows += _compared("over a link with 50 ms", ours("s3://models/bench/"), theirs(remote))
    return rows


def _waits(batches: Callable[[int], Any], steps: int) -> list[float]:
    """Return what each step waits for its data; in between the processor is busy with what a step would compute."""
    import torch

    left, right, waits = torch.ones(512, 512), torch.ones(512, 512), []
    batches_of_first = time.perf_counter()
    batches(0)
    waits.append(time.perf_counter() - batches_of_first)
    for step in range(1, steps):
        end = time.perf_counter() + STEP_S
        while time.perf_counter() < end:
            left @ right
        began = time.perf_counter()
        batches(step)
        waits.append(time.perf_counter() - began)
    return waits


def _compared(where: str, ours: list[float], theirs: list[float]) -> list[Row]:
    share = sum(ours[1:]) / (sum(ours[1:]) + STEP_S * len(ours[1:]))
    told = f"{len(ours)} steps of {STEP_S} s; median {1000 * statistics.median(ours):.2f} ms; first {ours[0]:.2f} s"
    rows = [_row(f"loader wait {where}, share of step time", share, 0.05, 0.02, told)]
    if theirs:
        other = sum(theirs[1:]) / (sum(theirs[1:]) + STEP_S * len(theirs[1:]))
        told = f"webdataset {other:.1%}, median {1000 * statistics.median(theirs):.1f} ms, first {theirs[0]:.2f} s"
        rows.append(
            _row(f"the same against naive webdataset {where}", sum(ours[1:]) / sum(theirs[1:]), 1 / 3, None, told)
        )
    return rows


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _files(folder: Path) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def _row(what: str, value: float, bar: float | None, aim: float | None, detail: str) -> Row:
    return Row(what=what, value=value, unit="", bar=bar, aim=aim, lower_is_better=True, detail=detail)


def _p95(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]


def _ms(values: list[float]) -> str:
    return f"{1000 * statistics.median(values):.1f} ms (p95 {1000 * _p95(values):.1f})"


def render(rows: list[Row]) -> str:
    """Return the report."""
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    lines = [
        f"# Training: checkpoints and data, {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "",
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load at the end {load}. Command: `python -m benchmarks.training_io {' '.join(sys.argv[1:])}`",
        "",
        "| what | value | bar | aim | verdict | detail |",
        "|---|---:|---:|---:|---|---|",
    ]
    for row in rows:
        bar, aim = (("" if one is None else f"≤ {one:.4g}") for one in (row.bar, row.aim))
        lines.append(f"| {row.what} | {row.value:.4g} | {bar} | {aim} | {row.verdict} | {row.detail} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
