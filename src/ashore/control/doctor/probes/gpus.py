"""Accelerators of this machine, as the tools of their makers describe them: `nvidia-smi -q -x`, `rocm-smi` and Hygon's
`hy-smi`, Huawei's `npu-smi info`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from ashore.control.doctor.readings import Gpu
from ashore.kit.accelerators import count_cards, makers

_REASONS: Final = {
    "gpu_idle": "idle",
    "applications_clocks_setting": "locked",
    "sw_power_cap": "power-cap",
    "hw_slowdown": "hardware",
    "sw_thermal_slowdown": "thermal",
    "hw_thermal_slowdown": "thermal",
}
"""Source: NVML, nvmlClocksEventReasons. Drivers before 535 call them `clocks_throttle_reason`."""


ROCM_WORDS: Final = ("--showproductname", "--showuse", "--showmeminfo", "vram", "--showtemp", "--showpower", "--json")


def read_gpus(missing: dict[str, str], root: Path = Path("/")) -> tuple[Gpu, ...]:
    """Return the accelerators of this machine that a tool can tell of; `missing` gets those that none can."""
    found: list[Gpu] = []
    without = count_cards(root)
    for name, program, words, read in (
        ("nvidia", "nvidia-smi", ("-q", "-x"), gpus_of),
        ("amd", "rocm-smi", ROCM_WORDS, rocm_gpus),
        ("hygon", "hy-smi", ROCM_WORDS, rocm_gpus),
        ("ascend", "npu-smi", ("info",), npus),
    ):
        path = shutil.which(program)
        if path is None:
            continue
        try:
            done = subprocess.run([path, *words], capture_output=True, text=True, timeout=10, check=True)
            found += read(done.stdout)
            without.pop(name, None)
        except (OSError, subprocess.SubprocessError, ElementTree.ParseError) as fault:
            missing["gpus"] = f"{program} failed: {fault}"
    if without:
        cards = ", ".join(f"{number} of {makers()[name].title}" for name, number in without.items())
        missing["gpus"] = f"no tool here tells of the accelerators that this machine has: {cards}"
    elif not found:
        missing.setdefault("gpus", "no accelerator here, or no driver and no tool of its maker")
    return tuple(found)


def rocm_gpus(page: str) -> tuple[Gpu, ...]:
    """Return the GPUs of a page of `rocm-smi --json`, or of Hygon's `hy-smi`, whose pages may lack commas."""
    cards: dict[str, dict[str, str]] = {}
    card: dict[str, str] = {}
    for key, text, number, opens in _PAIR.findall(page):
        if opens:
            card = cards.setdefault(key, {}) if key.startswith("card") else {}
        card[key.lower()] = text or number

    def number_of(one: Mapping[str, str], *keys: str) -> float:
        words = next((one[key] for key in keys if one.get(key)), "").split()
        try:
            return float(words[0]) if words else 0.0
        except ValueError:
            return 0.0

    return tuple(
        Gpu(
            index=int(name.removeprefix("card") or 0),
            name=one.get("device name") or one.get("card series", ""),
            busy_share=number_of(one, "gpu use (%)", "dcu use (%)") / 100,
            memory_used_bytes=int(
                number_of(one, "vram total used memory (b)")
                or number_of(one, "vram total used memory (mib)") * (1 << 20)
            ),
            celsius=int(number_of(one, "temperature (sensor junction) (c)", "temperature (sensor edge) (c)")),
            power_w=number_of(one, "average graphics package power (w)", "current socket graphics package power (w)"),
        )
        for name, one in cards.items()
        if name.removeprefix("card").isdigit()
    )


def npus(page: str) -> tuple[Gpu, ...]:
    """Return the chips of a page of `npu-smi info`. A chip has two rows; one without an address is a controller."""
    found: list[Gpu] = []
    name = health = ""
    power_w = celsius = 0.0
    for line in page.splitlines():
        cells = [cell.split() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 3 or not all(cells):
            continue
        first, middle, last = cells
        if _ADDRESS.fullmatch(middle[0]):
            used = [int(words) for words in _PAIR_OF_MB.findall(line)]
            found.append(
                Gpu(
                    index=len(found),
                    name=f"Ascend {name}".strip(),
                    ill="" if health == "OK" else health,
                    busy_share=_float(last[0]) / 100,
                    memory_used_bytes=used[-1] << 20 if used else 0,
                    celsius=int(celsius),
                    power_w=power_w,
                )
            )
        elif first[0].isdigit() and len(last) > 1:
            name, health = " ".join(first[1:]), middle[0]
            power_w, celsius = _float(last[0]), _float(last[1])
    return tuple(found)


def _float(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return 0.0  # `-`: this row has none


def gpus_of(page: str) -> tuple[Gpu, ...]:
    """Return the GPUs of a page, in the forms of drivers since 2022 (`nvsmi_device_v11` to `v13`).

    Raises:
        ParseError: the page is not XML.
    """
    return tuple(_gpu(number, one) for number, one in enumerate(ElementTree.fromstring(page).iter("gpu")))


def _gpu(index: int, one: ElementTree.Element) -> Gpu:
    def text(*paths: str) -> str:
        """Return the first of several texts that the driver gives."""
        return next((said for path in paths if (said := (one.findtext(path) or "").strip()) not in ("", "N/A")), "")

    def number(*paths: str) -> float:
        for path in paths:
            word = text(path).removesuffix("x").split()[:1]
            try:
                return float(word[0]) if word else 0.0
            except ValueError:
                continue  # `Requested functionality has been deprecated`
        return 0.0

    def first(*paths: str) -> float:
        return next((value for path in paths if (value := number(path))), 0.0)

    reasons: list[str] = []
    for name, meaning in _REASONS.items():
        for word in ("event", "throttle"):
            if text(f"clocks_{word}_reasons/clocks_{word}_reason_{name}") == "Active" and meaning not in reasons:
                reasons.append(meaning)
    lost = sum(int(number(f"ecc_errors/volatile/{kind}")) for kind in _LOST)
    return Gpu(
        index=index,
        name=text("product_name"),
        busy_share=number("utilization/gpu_util") / 100,
        divided=text("mig_mode/current_mig") == "Enabled",
        passed_through=text("gpu_virtualization_mode/virtualization_mode") == "Pass-Through",
        memory_used_bytes=int(number("fb_memory_usage/used")) << 20,
        celsius=int(number("temperature/gpu_temp")),
        clock_mhz=int(number("clocks/sm_clock")),
        clock_most_mhz=int(number("max_clocks/sm_clock")),
        reasons=tuple(reasons),
        power_w=first(*(f"{page}/{field}" for page in _POWER for field in _DRAW)),
        power_most_w=first(*(f"{page}/{field}" for page in _POWER for field in _LIMIT)),
        lost_bits=lost,
        bad_rows="Yes" in (text("remapped_rows/remapped_row_pending"), text("remapped_rows/remapped_row_failure")),
        link_width=int(number("pci/pci_gpu_link_info/link_widths/current_link_width")),
        link_width_most=int(number("pci/pci_gpu_link_info/link_widths/max_link_width")),
        link_generation=int(number("pci/pci_gpu_link_info/pcie_gen/current_link_gen")),
        link_generation_most=int(number("pci/pci_gpu_link_info/pcie_gen/max_link_gen")),
        persistent=text("persistence_mode") != "Disabled",
    )


_PAIR: Final = re.compile(r'"([^"\n]*)"\s*:\s*(?:"([^"\n]*)"|(-?[0-9][0-9.]*)|(\{))')
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9]")
_PAIR_OF_MB: Final = re.compile(r"([0-9]+)\s*/\s*[0-9]+")
_LOST: Final = (
    "dram_uncorrectable", "sram_uncorrectable", "sram_uncorrectable_parity", "sram_uncorrectable_secded",
)  # fmt: skip
_POWER: Final = ("gpu_power_readings", "power_readings")
_DRAW: Final = ("power_draw", "instant_power_draw", "average_power_draw")
_LIMIT: Final = ("current_power_limit", "enforced_power_limit", "power_limit")
