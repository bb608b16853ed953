"""GPUs, by what the driver says; and what the source's handbook advises about them, where it is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ashore.core import human_bytes
from ashore.doctor.model import Finding, evidence
from ashore.doctor.readings import Gpu, Readings
from ashore.doctor.rule import rule

IDLE_SHARE: Final = 0.3
HOT_C: Final = 85


def _is_used(gpu: Gpu) -> bool:
    return gpu.memory_used_bytes > 1 << 30


@rule(
    "D701",
    "gpu",
    "Do GPUs idle because every kernel is launched by itself?",
    needs=("gpus", "hosts", "processes"),
    explains=("D702",),
    source="source handbook row 1; DeepSeek-R1 on 8 H20: 110 ms a token eager, 42 ms with CUDA graphs",
)
def launch_bound(seen: Readings) -> Iterator[Finding]:
    eager = [one for one in seen.processes if one.eager]
    running = sum(one.running for one in seen.models)
    for gpu in seen.gpus:
        if _is_used(gpu) and eager and running:
            yield Finding(
                severity="warning",
                what=f"{eager[0].name} runs GPU {gpu.index} without CUDA graphs (--enforce-eager)",
                cause="each step launches thousands of kernels one by one; the GPU waits for the processor between "
                "them",
                evidence=(
                    evidence("GPU busy", f"{gpu.busy_share:.0%}"),
                    evidence("requests running", running),
                    evidence("--enforce-eager", "set", "not set"),
                    evidence("busiest thread", f"{eager[0].busiest_thread_share:.0%} of a processor"),
                ),
                sure="certain",
                remedy="leave the option out, and bring the change as a new release",
                commands=("# [model.engine.options]: remove enforce-eager", "ashore release create ALIAS …"),
            )


@rule(
    "D702",
    "gpu",
    "Does a GPU have little to do?",
    needs=("gpus", "models"),
    source="source handbook row 1: `utilisation below 30%: CUDA graphs`",
)
def little_load(seen: Readings) -> Iterator[Finding]:
    waiting = sum(one.waiting for one in seen.models)
    for gpu in seen.gpus:
        if (
            gpu.divided
            or not (_is_used(gpu) and gpu.busy_share < IDLE_SHARE)
            or any(one.eager for one in seen.processes)
        ):
            continue
        waits_for = next(
            (one for one in seen.processes if one.busiest_thread_share > 0.9 and one.role in ("host", "api", "other")),
            None,
        )
        if waits_for is not None:
            yield Finding(
                severity="warning",
                what=f"GPU {gpu.index} is {gpu.busy_share:.0%} busy and waits for {waits_for.name}",
                cause="one thread of a processor prepares its work and is at its limit: tokenizer, sampling or "
                "scheduling",
                evidence=(
                    evidence("GPU busy", f"{gpu.busy_share:.0%}", f"{IDLE_SHARE:.0%}"),
                    evidence("busiest thread", f"{waits_for.busiest_thread_share:.0%} of a processor", "90%"),
                ),
                sure="likely",
                remedy="use a processor with a higher clock, keep others off it, or run a second engine for this GPU",
                wrong_remedy="CUDA graphs are on already; they do not make a tokenizer faster",
            )
        elif not waiting:
            yield Finding(
                severity="advice",
                what=f"GPU {gpu.index} is {gpu.busy_share:.0%} busy, and no request waits",
                cause="there is little to do; nothing is wrong",
                evidence=(
                    evidence("GPU busy", f"{gpu.busy_share:.0%}", f"{IDLE_SHARE:.0%}"),
                    evidence("waiting requests", waiting),
                ),
                sure="likely",
                remedy="serve more models on it, or fewer GPUs",
                wrong_remedy="the handbook's CUDA graphs change nothing here: vLLM has them on, and an idle GPU does "
                "not "
                "launch kernels",
            )


@rule(
    "D703",
    "gpu",
    "Did an engine run out of memory?",
    needs=("log.out_of_memory",),
    explains=("D503", "D616"),
    source="source handbook row 2: `out of memory: gradient checkpointing`",
)
def out_of_memory(seen: Readings) -> Iterator[Finding]:
    for said in seen.log.out_of_memory[-3:]:
        yield Finding(
            severity="critical",
            what=f"an engine ran out of memory: {said}",
            cause="weights, the KV cache and what a step needs do not fit together",
            evidence=(evidence("in its log", len(seen.log.out_of_memory), 0),),
            sure="certain",
            remedy="in this order: a shorter context, fewer sequences at once, an 8-bit KV cache, weights of 8 or 4 "
            "bits, "
            "more devices",
            commands=(
                "# [model.engine] context_tokens, max_sequences, kv_tokens",
                "ashore optimize quantize NAME --to int8",
                "ashore up --dry-run",
            ),
            wrong_remedy="gradient checkpointing saves memory in training only; an answer has no gradients",
        )


@rule(
    "D704",
    "gpu",
    "Did a training run out of memory?",
    needs=("log.training_out_of_memory",),
    down=True,
    source="source handbook row 2",
)
def training_out_of_memory(seen: Readings) -> Iterator[Finding]:
    for said in seen.log.training_out_of_memory[-1:]:
        yield Finding(
            severity="warning",
            what=f"a training ran out of memory: {said}",
            cause="what the layers keep for the way back grows with the length of the examples",
            evidence=(evidence("in its log", len(seen.log.training_out_of_memory), 0),),
            sure="certain",
            remedy="here gradient checkpointing is right: it computes about a third longer. Or shorter examples",
            commands=("ashore train sft --help  # batch and length of examples",),
        )


@rule(
    "D705",
    "gpu",
    "Is the clock of a GPU held down?",
    needs=("gpus",),
    explains=("D607",),
    source="source handbook row 3: `jitter: nvidia-smi -lgc 1350`",
)
def held_down(seen: Readings) -> Iterator[Finding]:
    for gpu in seen.gpus:
        why = next((one for one in ("thermal", "hardware", "power-cap", "locked") if one in gpu.reasons), "")
        if not why or gpu.busy_share < 0.05:
            continue
        if why == "locked" and gpu.clock_mhz > 0.95 * gpu.clock_most_mhz:
            continue
        words = {
            "thermal": ("it is too hot", "look at fans, filters and the temperature of the room"),
            "hardware": (
                "the board slows it down: power supply or temperature",
                "look at the power supply and the log",
            ),
            "power-cap": (
                "it reaches its power limit",
                "raise the limit if the supply allows; otherwise this is its speed",
            ),
            "locked": ("somebody locked its clock", "unlock it, and measure the first token before and after"),
        }[why]
        yield Finding(
            severity="advice" if why == "power-cap" else "warning",
            what=f"GPU {gpu.index} runs at {gpu.clock_mhz} of {gpu.clock_most_mhz} MHz: {words[0]}",
            cause=words[0],
            evidence=(
                evidence("clock", f"{gpu.clock_mhz} MHz", f"{gpu.clock_most_mhz} MHz"),
                evidence("temperature", f"{gpu.celsius} °C", f"{HOT_C} °C"),
                evidence("power", f"{gpu.power_w:.0f} W", f"{gpu.power_most_w:.0f} W"),
            ),
            sure="certain",
            remedy=words[1],
            commands=(f"nvidia-smi -i {gpu.index} -rgc",)
            if why == "locked"
            else (f"nvidia-smi -i {gpu.index} -q -d PERFORMANCE",),
            wrong_remedy="locking the clock at 1350 MHz makes it steady and slower: prompts are read with "
            f"{1350 / max(1, gpu.clock_most_mhz):.0%} of the clock",
        )


@rule("D706", "gpu", "Is a GPU of this machine not used?", needs=("gpus", "hosts"))
def unused(seen: Readings) -> Iterator[Finding]:
    free = [gpu for gpu in seen.gpus if gpu.memory_used_bytes < 1 << 30]
    computing = [one for one in seen.hosts if one.computes_here]
    if free and computing and len(free) == len(seen.gpus):
        yield Finding(
            severity="warning",
            what=f"{computing[0].alias} runs on processors while {len(free)} GPUs are free ({free[0].name})",
            cause=f"its engine is {computing[0].kind}; the vllm engine uses GPUs",
            evidence=(
                evidence("GPU memory in use", human_bytes(sum(one.memory_used_bytes for one in free)), "the weights"),
                evidence("engine", computing[0].kind, "one for GPUs"),
            ),
            sure="certain",
            remedy="install vLLM, and serve the model with it",
            commands=("ashore engine list", "# docs/how-to/serve-with-vllm.md"),
        )


@rule(
    "D707",
    "gpu",
    "Did the driver report a fault of a GPU?",
    needs=("log.gpu_faults",),
    explains=("D503", "D616"),
    down=True,
    source="NVIDIA, XID errors",
)
def xid(seen: Readings) -> Iterator[Finding]:
    if seen.log.gpu_faults:
        yield Finding(
            severity="critical",
            what=f"the driver reported a fault: {seen.log.gpu_faults[-1]}",
            cause="a program, the driver or the board failed; NVIDIA's list of Xid numbers says which",
            evidence=(evidence("Xid messages", len(seen.log.gpu_faults), 0),),
            sure="certain",
            remedy="look the number up; take the GPU out of service if it comes again",
            commands=("dmesg | grep -i xid", "nvidia-smi -q -d ECC,ROW_REMAPPER"),
        )


@rule("D708", "gpu", "Does the memory of a GPU fail?", needs=("gpus",), down=True)
def bad_memory(seen: Readings) -> Iterator[Finding]:
    for gpu in seen.gpus:
        if gpu.lost_bits or gpu.bad_rows:
            yield Finding(
                severity="critical",
                what=f"the memory of GPU {gpu.index} has errors that cannot be corrected",
                cause="cells fail; answers may be wrong, and programs end",
                evidence=(
                    evidence("uncorrectable errors", gpu.lost_bits, 0),
                    evidence("rows to be remapped", "yes" if gpu.bad_rows else "no", "no"),
                ),
                sure="certain",
                remedy="drain it and reset it; replace it if errors come again",
                commands=(f"nvidia-smi -i {gpu.index} -q -d ECC,ROW_REMAPPER",),
            )


@rule("D709", "gpu", "Is a GPU connected by fewer lanes than it has?", needs=("gpus",))
def narrow_link(seen: Readings) -> Iterator[Finding]:
    for gpu in seen.gpus:
        slow = gpu.link_generation < gpu.link_generation_most and gpu.busy_share > 0.5
        if 0 < gpu.link_width < gpu.link_width_most or slow:
            yield Finding(
                severity="advice" if gpu.passed_through else "warning",
                what=f"GPU {gpu.index} is connected by PCIe {gpu.link_generation} x{gpu.link_width}",
                cause="it is not seated well, or the slot has fewer lanes",
                evidence=(
                    evidence("lanes", gpu.link_width, gpu.link_width_most),
                    evidence("generation", gpu.link_generation, gpu.link_generation_most),
                ),
                sure="likely",
                remedy="seat the board again; use another slot",
                commands=(f"nvidia-smi -i {gpu.index} -q -d PCIE",),
            )


@rule("D711", "gpu", "Does the driver unload when nobody uses the GPU?", needs=("gpus",))
def not_persistent(seen: Readings) -> Iterator[Finding]:
    off = [gpu for gpu in seen.gpus if not gpu.persistent]
    if off:
        yield Finding(
            severity="advice",
            what=f"persistence mode is off on {len(off)} GPUs",
            cause="the driver starts again for each first program: the first load waits seconds",
            evidence=(evidence("persistence mode", "off", "on"),),
            sure="certain",
            remedy="switch it on, or run nvidia-persistenced",
            commands=("nvidia-smi -pm 1",),
        )
