"""Devices for sale: accelerators and processors with the figures of their data sheets."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

from ashore.core.errors import InvalidRequest
from ashore.core.nearest import did_you_mean
from ashore.lab.sizing.networks import best_match, plain

Vendor = Literal["nvidia", "amd", "ascend", "npu", "intel", "apple", "cpu"]
GB: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One device, or one socket of a CPU."""

    name: str
    vendor: Vendor
    memory_bytes: int
    bandwidth: float
    """Bytes a second between memory and the device, as the data sheet says."""
    bf16: float
    """Dense floating point operations a second in BF16, or FP16 where there is no BF16."""
    fp8: float
    """0: no such unit; so are the two below."""
    int8: float
    fp4: float
    link: float
    """Bytes a second to each other device of the machine, in one direction."""
    watts: float
    usd: float
    source: str
    price: str = "estimate"
    """Where its price is from, and when; `estimate`: nothing that can be cited, `your own`: of a file of one's own."""

    @property
    def is_cpu(self) -> bool:
        return self.vendor == "cpu"


@cache
def chips() -> dict[str, Chip]:
    """Return the catalogue by name."""
    return {name: _chip(name, table) for name, table in _tables().items()}


def find_chip(name: str) -> Chip:
    """Return the device of a name, from the catalogue or from publications.

    Raises:
        InvalidRequest: the name is unknown.
    """
    chip, _ = find_machine(name)
    if chip is None:
        raise InvalidRequest(
            f"no device is known as {name[:60]!r}", hint=did_you_mean(name[:60], tuple(chips())), param="--chip"
        )
    return chip


def find_machine(name: str) -> tuple[Chip | None, Chip | None]:
    """Return the device and, if the name includes one (`RTX-4090 + 2x Xeon 6454S`), the CPU that holds experts.

    The CPU comes with the bandwidth and the operations of all its sockets. None where nothing is known.
    """
    first, _, second = name.partition("+") if re.search(r"\+\s*(\d+x\s*)?(xeon|epyc)", name.lower()) else (name, "", "")
    chip = _named(first)
    if chip is None or not second:
        return chip, None
    host = _named(second) or chips()["CPU-AVX512"]
    count = re.match(r"\s*(\d+)x", second)
    sockets = int(count[1]) if count else 1
    return chip, replace(host, bandwidth=host.bandwidth * sockets, bf16=host.bf16 * sockets, int8=host.int8 * sockets)


def _named(name: str) -> Chip | None:
    if name in chips():
        return chips()[name]
    found = best_match(name, _aliases())
    if found is None and re.search(r"\b(cpu|xeon|epyc)\b", name.lower()):
        found = "Xeon-8480+" if "amx" in name.lower() else "CPU-AVX512"
    return chips()[found] if found else None


@cache
def _aliases() -> dict[str, str]:
    return {alias: name for name, table in _tables().items() for alias in (*table["aliases"], plain(name))}


@cache
def _tables() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("ashore.lab.sizing").joinpath("chips.toml").read_text(encoding="utf-8"))


def _chip(name: str, table: dict[str, Any]) -> Chip:
    tflops: dict[str, float] = table["tflops"]
    return Chip(
        name=name,
        vendor=table["vendor"],
        memory_bytes=int(float(table["memory_gb"]) * GB),
        bandwidth=float(table["bandwidth_gb_per_s"]) * GB,
        link=float(table["link_gb_per_s"]) * GB,
        watts=float(table["watts"]),
        usd=float(table["usd"]),
        source=str(table["source"]),
        price=str(table.get("price", "estimate")),
        **{kind: 1e12 * float(tflops[kind]) for kind in ("bf16", "fp8", "int8", "fp4")},
    )
