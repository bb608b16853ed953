"""The precisions that weights can be rounded to, and which engine runs each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ashore.core import EngineKind, did_you_mean
from ashore.errors import InvalidRequest

AUTO: Final = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """One number format."""

    name: str
    engine: EngineKind
    bits: float
    """Bits for each weight of a matrix, scales included, at the default group size."""
    summary: str
    group_sizes: tuple[int, ...] = ()
    """What may be asked for, the default first, 0 for whole rows; empty where the format leaves no choice."""
    reads_text: bool = False
    """True where calibration text makes it better."""
    ranking: int = 0
    """Samples of the text on which its layers are compared, one by one; 0 where all are treated alike."""
    keeps_grids: bool = False
    """True where weights that lie on a grid of four bits already, as those of an unpacked GGUF do, keep it."""
    eight_share: float = 0.0
    """Share of the weights, of the layers that lose most in four bits, that keeps eight where there is text."""


PRECISIONS: Final = (
    Precision(name="fp16", engine="openvino", bits=16, summary="half precision: what the others are compared with"),
    Precision(
        name="int8",
        engine="openvino",
        bits=8.03,
        group_sizes=(0, 96, 64, 32),
        summary="a scale for each output channel, or for each group of its weights; the default of `up`",
    ),
    Precision(
        name="int4",
        engine="openvino",
        bits=5.3,
        group_sizes=(64, 32, 96, 128),
        reads_text=True,
        ranking=1,
        eight_share=0.1,
        summary="four bits with a scale for each group; the head, and with text the worst layers, keep eight",
    ),
    Precision(
        name=AUTO,
        engine="openvino",
        bits=6,
        group_sizes=(32, 64, 96, 128),
        reads_text=True,
        ranking=1,
        keeps_grids=True,
        summary="four or eight bits by layer, the smallest within --max-loss",
    ),
    Precision(name="q8_0", engine="llamacpp", bits=8.5, summary="eight bits in blocks of 32"),
    Precision(name="q6_k", engine="llamacpp", bits=6.56, reads_text=True, summary="six bits in blocks of 256"),
    Precision(name="q5_k_m", engine="llamacpp", bits=5.7, reads_text=True, summary="five bits, six where it matters"),
    Precision(name="q4_k_m", engine="llamacpp", bits=4.9, reads_text=True, summary="four bits, six where it matters"),
    Precision(name="q4_0", engine="llamacpp", bits=4.5, reads_text=True, summary="four bits in blocks of 32"),
    Precision(name="w8a8", engine="vllm", bits=8.03, reads_text=True, summary="compressed-tensors, INT8 both ways"),
    Precision(
        name="w4a16", engine="vllm", bits=4.2, reads_text=True, summary="compressed-tensors, INT4 weights (GPTQ)"
    ),
)


def choose_precision(to: str, engine: EngineKind | None) -> Precision:
    """Return the precision called `to`.

    Args:
        to: Name, in any case.
        engine: The engine it must be for; None: the one that runs it.

    Raises:
        InvalidRequest: there is none of this name, or another engine runs it.
    """
    found = next((p for p in PRECISIONS if p.name == to.lower()), None)
    if found is None:
        raise InvalidRequest(
            f"no precision is called {to!r}", hint=did_you_mean(to.lower(), [p.name for p in PRECISIONS]), param="to"
        )
    if engine == "torch":
        raise InvalidRequest(
            "PyTorch's dynamic INT8 is a yardstick, not a form to serve: it rounds whole tensors with one scale, and "
            "the perplexity suffers",
            hint="to see it beside the others: python -m benchmarks.optimise.quantise",
            param="engine",
        )
    if engine is not None and engine != found.engine:
        theirs = [p.name for p in PRECISIONS if p.engine == engine]
        raise InvalidRequest(
            f"{found.name} is run by the {found.engine} engine, not by {engine}",
            hint=f"{engine} runs {', '.join(theirs)}" if theirs else f"leave --engine out, or say {found.engine}",
            param="engine",
        )
    return found


def choose_group_size(precision: Precision, asked: int | None) -> int:
    """Return the group size: what was asked for, or the default; 0 where the format has no groups to choose.

    Raises:
        InvalidRequest: the format does not have it.
    """
    if asked is None:
        return precision.group_sizes[0] if precision.group_sizes else 0
    if asked not in precision.group_sizes:
        sizes = ", ".join(map(str, sorted(precision.group_sizes)))
        raise InvalidRequest(
            f"{precision.name} cannot have groups of {asked}",
            hint=f"one of {sizes}" if sizes else "leave --group-size out: the format leaves no choice",
            param="group_size",
        )
    return asked
