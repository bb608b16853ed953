"""Readings of real machines, as their owners published them, and the rules that fire on them.

The lines are shortened to those that are read. Sources: the trackers of earlyoom (issues 208, 214), of NVSentinel
(issue 155), of DietPi (issue 4499) and of Longhorn (issue 193).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.control.doctor import Readings, diagnose, load_rules
from ashore.control.doctor.look import Between, Look
from ashore.control.doctor.probes import logs, machine

ALONE = Between(None, Look(at_s=10.0, mono_s=10.0, boot="b", numbers={}))


def fired(seen: Readings) -> list[str]:
    return [one.rule for one in diagnose(seen, load_rules()).findings]


@pytest.mark.parametrize(
    "page",
    [
        "MemTotal:        8051520 kB\nMemFree:          222960 kB\nMemAvailable:     367088 kB\nCached:  5718484 kB\n",
        "MemTotal:      197207468 kB\nMemFree:         3612764 kB\nMemAvailable:    2787396 kB\nCached:  1064988 kB\n",
    ],
)
def test_a_machine_whose_memory_is_nearly_used_up(page: str, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(page)
    assert fired(Readings(memory=machine.read_memory(tmp_path, ALONE))) == ["D201"]


KERNEL = {
    "a GPU that fell off the bus": ("D707", "NVRM: Xid (PCI:0000:44:00): 79, GPU has fallen off the bus"),
    "a disk that cannot be written": (
        "D305",
        "blk_update_request: I/O error, dev sda, sector 6192120 op 0x1:(WRITE) flags 0x100000 phys_seg 3 prio class 0",
    ),
    "a disk that lost a page": ("D305", "Buffer I/O error on dev sdb, logical block 0, lost async page write"),
}


@pytest.mark.parametrize(("rule", "line"), KERNEL.values(), ids=KERNEL)
def test_what_the_kernel_said(rule: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "kernel_lines", lambda since_s: ["usb 2-2: USB disconnect, device number 3", line])
    assert fired(Readings(log=logs.read_logs(tmp_path, tmp_path, since_s=0))) == [rule]
