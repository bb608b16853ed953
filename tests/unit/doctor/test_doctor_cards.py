"""Pages of the tools of AMD, Hygon and Huawei become accelerators; what no tool tells of is named.

The pages are those of real machines, as the tests of GPUStack's detectors kept them before its commit e5adff6b: an
RX 7800 XT, a Hygon DCU, an Atlas 800 for training of which one chip is unwell, one for inference with chips that share
a card.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.control.doctor import diagnose, load_rules
from ashore.control.doctor.probes.gpus import npus, read_gpus, rocm_gpus
from ashore.control.doctor.readings import Readings

AMD = """{
    "card0": {
      "Device Name": "Navi 32 [Radeon RX 7700 XT / 7800 XT]",
      "Temperature (Sensor edge) (C)": "45.0",
      "Temperature (Sensor junction) (C)": "51.0",
      "Average Graphics Package Power (W)": "53.0",
      "GPU use (%)": "100",
      "VRAM Total Memory (B)": "17163091968",
      "VRAM Total Used Memory (B)": "11615076352",
      "Card Series": "Navi 32 [Radeon RX 7700 XT / 7800 XT]",
      "Node ID": "1"
    }
  }"""
HYGON = """{
  "card0": {
    "Card Series": "DCU xxxx",
    "Card Vendor": "Chengdu Haiguang IC Design Co., Ltd.",
    "Average Graphics Package Power (W)": "80.0",
    "Temperature (Sensor edge) (C)": "41.0",
    "Temperature (Sensor junction) (C)": "39.0",
    "": "",
    "DCU use (%)": "0",
    "vram Total Memory (MiB)": "65520",
    "vram Total Used Memory (MiB)": "2"
  }
}"""
TRAINING = """\
+-------------------------------------------------------------------------------------------+
| npu-smi 24.1.RC2                          Version: 24.1.RC2                               |
+----------------------+---------------+----------------------------------------------------+
| NPU   Name           | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                 | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+======================+===============+====================================================+
| 2     xxx            | OK            | 69.0        35                1232 / 1232          |
| 0                    | 0000:41:00.0  | 0           4317 / 15137      0    / 32768         |
+======================+===============+====================================================+
| 3     xxx            | Warning       | 206.9       39                1232 / 1232          |
| 0                    | 0000:01:00.0  | 0           3616 / 15039      0    / 32768         |
+======================+===============+====================================================+
+----------------------+---------------+----------------------------------------------------+
| NPU     Chip         | Process id    | Process name             | Process memory(MB)      |
+======================+===============+====================================================+
| 2       0            | 37656         | hlt_host_devmm_          | 686                     |
+======================+===============+====================================================+
"""
INFERENCE = """\
+----------------------------------------------------------------------------------------------------+
| npu-smi 21.0.4                       Version: 21.0.4.B030                                          |
+-------------------+-----------------+--------------------------------------------------------------+
| NPU     Name      | Health          | Power(W)          Temp(C)              Hugepages-Usage(page) |
| Chip    Device    | Bus-Id          | AICore(%)         Memory-Usage(MB)                           |
+===================+=================+==============================================================+
| 6       310       | OK              | 12.8              73             0       / 970               |
| 0       3         | 0000:89:00.0    | 0                 2703 / 8192                                |
+-------------------+-----------------+--------------------------------------------------------------+
| 6       310       | OK              | 12.8              74             0       / 970               |
| 1       4         | 0000:8A:00.0    | 0                 2867 / 8192                                |
+===================+=================+==============================================================+
"""


def test_pages_of_rocm_and_of_hygon() -> None:
    (amd,), (dcu,) = rocm_gpus(AMD), rocm_gpus(HYGON)
    assert (amd.name, amd.busy_share, amd.celsius, amd.power_w) == ("Navi 32 [Radeon RX 7700 XT / 7800 XT]", 1, 51, 53)
    assert amd.memory_used_bytes == 11615076352
    assert (dcu.name, dcu.busy_share, dcu.celsius, dcu.memory_used_bytes) == ("DCU xxxx", 0, 39, 2 << 20)


@pytest.mark.parametrize("broken", (HYGON.replace(",\n", "\n"), HYGON.replace('"65520"', "65520 MiB")))
def test_a_page_that_is_not_quite_json_is_read(broken: str) -> None:
    (dcu,) = rocm_gpus(broken)
    assert (dcu.celsius, dcu.power_w) == (39, 80)


def test_pages_of_npu_smi() -> None:
    well, unwell = npus(TRAINING)
    assert (well.index, well.ill, well.celsius, well.power_w, well.memory_used_bytes) == (0, "", 35, 69.0, 0)
    assert (unwell.index, unwell.ill, unwell.power_w) == (1, "Warning", 206.9)
    chips = npus(INFERENCE)
    assert [(one.name, one.celsius, one.memory_used_bytes >> 20) for one in chips] == [
        ("Ascend 310", 73, 2703), ("Ascend 310", 74, 2867),
    ]  # fmt: skip
    found = diagnose(Readings(gpus=(well, unwell)), load_rules()).findings
    assert [(one.rule, one.severity) for one in found if one.rule == "D712"] == [("D712", "warning")]
    assert npus("DCMI is not initialised\n") == rocm_gpus("") == ()


def test_what_no_tool_tells_of_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    missing: dict[str, str] = {}
    assert read_gpus(missing, tmp_path) == () and "no accelerator here" in missing["gpus"]
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/davinci0").touch()
    (tmp_path / "dev/cambricon_dev0").touch()
    (programs / "npu-smi").write_text(
        f'#!/bin/sh\n[ "$1" = info ] || exit 3\nwhile read line; do echo "$line"; done <<\'.\'\n{TRAINING}.\n'
    )
    (programs / "npu-smi").chmod(0o755)
    missing.clear()
    assert [one.ill for one in read_gpus(missing, tmp_path)] == ["", "Warning"]
    assert missing["gpus"] == "no tool here tells of the accelerators that this machine has: 1 of Cambricon"
    (programs / "npu-smi").write_text("#!/bin/sh\nexit 1\n")
    missing.clear()
    assert read_gpus(missing, tmp_path) == () and "1 of Ascend" in missing["gpus"]
