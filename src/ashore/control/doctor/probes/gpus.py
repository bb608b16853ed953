"""NVIDIA GPUs, as one page of `nvidia-smi -q -x` describes them."""

from __future__ import annotations

import shutil
import subprocess
from typing import Final
from xml.etree import ElementTree

from ashore.control.doctor.readings import Gpu

_REASONS: Final = {
    "gpu_idle": "idle",
    "applications_clocks_setting": "locked",
    "sw_power_cap": "power-cap",
    "hw_slowdown": "hardware",
    "sw_thermal_slowdown": "thermal",
    "hw_thermal_slowdown": "thermal",
}
"""Source: NVML, nvmlClocksEventReasons. Drivers before 535 call them `clocks_throttle_reason`."""


def read_gpus(missing: dict[str, str]) -> tuple[Gpu, ...]:
    """Return the NVIDIA GPUs of this machine."""
    program = shutil.which("nvidia-smi")
    if program is None:
        missing["gpus"] = "no nvidia-smi here: no NVIDIA GPU, or no driver"
        return ()
    try:
        done = subprocess.run([program, "-q", "-x"], capture_output=True, text=True, timeout=10, check=True)
        return gpus_of(done.stdout)
    except (OSError, subprocess.SubprocessError, ElementTree.ParseError) as fault:
        missing["gpus"] = f"nvidia-smi failed: {fault}"
        return ()


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


_LOST: Final = (
    "dram_uncorrectable", "sram_uncorrectable", "sram_uncorrectable_parity", "sram_uncorrectable_secded",
)  # fmt: skip
_POWER: Final = ("gpu_power_readings", "power_readings")
_DRAW: Final = ("power_draw", "instant_power_draw", "average_power_draw")
_LIMIT: Final = ("current_power_limit", "enforced_power_limit", "power_limit")
