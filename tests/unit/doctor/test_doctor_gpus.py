"""Pages of `nvidia-smi -q -x` become GPUs, and the rules about GPUs say of them what is true.

The figures are those of real machines, as the pages of drivers 515 to 590 have them: of a Tesla T4 of a cloud, an
A100 that is divided (MIG), and an RTX PRO 6000 at rest with a model in its memory. Only the fields that are read are
here. Faults are then put into them; the rows to be remapped are those that the tracker of gpud shows (change 80).
"""

from __future__ import annotations

from typing import Any

import pytest

from ashore.control.doctor import diagnose, load_rules
from ashore.control.doctor.probes.gpus import gpus_of
from ashore.control.doctor.readings import Gpu, Host, Model, Process, Readings

REASONS = (
    "gpu_idle", "applications_clocks_setting", "sw_power_cap", "hw_slowdown", "hw_thermal_slowdown",
    "hw_power_brake_slowdown", "sync_boost", "sw_thermal_slowdown", "display_clocks_setting",
)  # fmt: skip


def page(word: str, fields: str, *active: str) -> str:
    """Return a page with one GPU, whose reasons for a low clock go by a word."""
    told = "".join(
        f"<clocks_{word}_reason_{one}>{'Active' if one in active else 'Not Active'}</clocks_{word}_reason_{one}>"
        for one in REASONS
    )
    return (
        '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n<nvidia_smi_log>'
        f"<gpu id='00000000:01:00.0'>{fields}<clocks_{word}_reasons>{told}</clocks_{word}_reasons></gpu>"
        "</nvidia_smi_log>"
    )


def link(generation: int, generation_most: int, width: str) -> str:
    return (
        f"<pci><pci_gpu_link_info><pcie_gen><max_link_gen>{generation_most}</max_link_gen><current_link_gen>"
        f"{generation}</current_link_gen></pcie_gen><link_widths><max_link_width>16x</max_link_width>"
        f"<current_link_width>{width}</current_link_width></link_widths></pci_gpu_link_info></pci>"
    )


T4 = (
    "<product_name>Tesla T4</product_name><persistence_mode>Disabled</persistence_mode>"
    "<gpu_virtualization_mode><virtualization_mode>Pass-Through</virtualization_mode></gpu_virtualization_mode>"
    f"{link(3, 3, '8x')}<fb_memory_usage><total>15360 MiB</total><reserved>388 MiB</reserved><used>1032 MiB</used>"
    "</fb_memory_usage><utilization><gpu_util>0 %</gpu_util></utilization><ecc_errors><volatile>"
    "<sram_uncorrectable>0</sram_uncorrectable><dram_uncorrectable>0</dram_uncorrectable></volatile></ecc_errors>"
    "<remapped_rows>N/A</remapped_rows><temperature><gpu_temp>40 C</gpu_temp></temperature>"
    "<power_readings><power_draw>26.78 W</power_draw><power_limit>70.00 W</power_limit></power_readings>"
    "<clocks><sm_clock>585 MHz</sm_clock></clocks><max_clocks><sm_clock>1590 MHz</sm_clock></max_clocks>"
)
A100 = (
    "<product_name>NVIDIA A100-SXM4-80GB</product_name><persistence_mode>Disabled</persistence_mode>"
    "<mig_mode><current_mig>Enabled</current_mig></mig_mode><mig_devices><mig_device><fb_memory_usage><total>19968 MiB"
    "</total><used>12 MiB</used></fb_memory_usage></mig_device></mig_devices>"
    f"{link(4, 4, '16x')}<fb_memory_usage><total>81920 MiB</total><used>50 MiB</used></fb_memory_usage>"
    "<utilization><gpu_util>N/A</gpu_util></utilization><remapped_rows>N/A</remapped_rows>"
    "<temperature><gpu_temp>27 C</gpu_temp></temperature><gpu_power_readings><power_draw>67.03 W</power_draw>"
    "<current_power_limit>500.00 W</current_power_limit></gpu_power_readings>"
    "<clocks><sm_clock>1275 MHz</sm_clock></clocks><max_clocks><sm_clock>1410 MHz</sm_clock></max_clocks>"
)
PRO = (
    "<product_name>NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition</product_name>"
    "<persistence_mode>Enabled</persistence_mode><mig_mode><current_mig>N/A</current_mig></mig_mode>"
    f"{link(1, 4, '16x')}"
    "<fb_memory_usage><total>97887 MiB</total><used>65720 MiB</used></fb_memory_usage>"
    "<utilization><gpu_util>0 %</gpu_util></utilization><ecc_errors><volatile><sram_uncorrectable_parity>N/A"
    "</sram_uncorrectable_parity><dram_uncorrectable>N/A</dram_uncorrectable></volatile></ecc_errors>"
    "<remapped_rows><remapped_row_pending>No</remapped_row_pending><remapped_row_failure>No</remapped_row_failure>"
    "</remapped_rows><temperature><gpu_temp>24 C</gpu_temp></temperature><gpu_power_readings><power_state>Requested "
    "functionality has been deprecated</power_state><average_power_draw>3.97 W</average_power_draw>"
    "<instant_power_draw>3.99 W</instant_power_draw><current_power_limit>300.00 W</current_power_limit>"
    "</gpu_power_readings><clocks><sm_clock>180 MHz</sm_clock></clocks>"
    "<max_clocks><sm_clock>3090 MHz</sm_clock></max_clocks>"
)

BAD_ROWS = "<remapped_row_unc>4</remapped_row_unc><remapped_row_pending>Yes</remapped_row_pending>"
LOST = "<ecc_errors><volatile><dram_uncorrectable>2</dram_uncorrectable></volatile></ecc_errors>"


def only(text: str) -> Gpu:
    (found,) = gpus_of(text)
    return found


def fired(gpu: Gpu, **more: Any) -> dict[str, str]:
    """Return the rules about GPUs that fire on a healthy server with this one, with their severity."""
    seen = Readings(gpus=(gpu,), **more)
    return {one.rule: one.severity for one in diagnose(seen, load_rules()).findings if one.area == "gpu"}


def test_three_generations_of_pages_give_the_same_figures() -> None:
    old, divided, new = only(page("throttle", T4)), only(page("event", A100)), only(page("event", PRO))
    assert (old.name, old.power_w, old.power_most_w) == ("Tesla T4", 26.78, 70.0)
    assert (old.link_width, old.link_width_most, old.passed_through, old.persistent) == (8, 16, True, False)
    assert (divided.divided, divided.busy_share, divided.power_w) == (True, 0, 67.03)
    assert (divided.clock_mhz, divided.clock_most_mhz, divided.reasons, divided.bad_rows) == (1275, 1410, (), False)
    assert (new.power_w, new.power_most_w, new.lost_bits, new.celsius) == (3.99, 300.0, 0, 24)
    assert (new.link_generation, new.link_generation_most, new.memory_used_bytes) == (1, 4, 65720 << 20)


def test_what_real_machines_do_at_rest_is_no_alarm() -> None:
    """A link that sleeps, an instance without a utilisation, a cloud's slot of eight lanes."""
    assert set(fired(only(page("event", PRO))).values()) <= {"advice"}
    assert "D702" not in fired(only(page("event", A100))) and "warning" not in fired(only(page("event", A100))).values()
    assert fired(only(page("throttle", T4)))["D709"] == "advice"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (page("event", PRO.replace("0 %", "97 %"), "hw_thermal_slowdown"), "D705"),
        (page("throttle", T4.replace("0 %", "97 %"), "sw_power_cap"), "D705"),
        (page("event", PRO.replace("<remapped_row_pending>No</remapped_row_pending>", BAD_ROWS)), "D708"),
        (page("event", A100 + LOST), "D708"),
        (page("event", PRO.replace(">16x</current", ">4x</current")), "D709"),
        (page("event", PRO.replace("0 %", "97 %")), "D709"),
        (page("event", A100), "D711"),
    ],
)  # fmt: skip
def test_a_fault_in_a_page_is_found(text: str, rule: str) -> None:
    assert rule in fired(only(text))


def test_a_gpu_that_holds_a_model_and_has_little_to_do() -> None:
    """With graphs there is little load; where each kernel is launched by itself, that is the cause."""
    idle, models = only(page("event", PRO)), (Model(alias="m", running=1),)
    assert set(fired(idle, models=models)) == {"D702"}
    eager = (Process(name="vllm", role="other", eager=True),)
    assert set(fired(idle, models=models, processes=eager)) == {"D701"}


def test_a_gpu_that_is_free_while_processors_compute() -> None:
    assert "D706" in fired(only(page("event", A100)), hosts=(Host(alias="m"),))
    assert "D706" not in fired(only(page("event", A100)), hosts=(Host(alias="m", kind="vllm"),))
