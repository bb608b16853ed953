"""Names of devices and models as publications print them."""

from __future__ import annotations

import pytest

from ashore.core.errors import InvalidRequest
from ashore.lab.sizing.chips import chips, find_chip, find_machine
from ashore.lab.sizing.networks import find_network, networks, read_sizes


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("A100-80G-PCIe", "A100-80G-PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100-80G"),
        ("NVIDIA L40S 48GB", "L40S"),
        ("L4", "L4"),
        ("RTX A6000 48GB", "RTX-A6000"),
        ("RTX 6000 Ada 48GB", "RTX-6000-Ada"),
        ("3070 8GB", "RTX-3070"),
        ("H200 (virtualised)", "H200"),
        ("Ascend-A3-752T", "Ascend-910C"),
        ("M2 Ultra 76-Core GPU 192GB", "M2-Ultra"),
        ("CPU Xeon 8592+", "Xeon-8592+"),
        ("CPU Xeon with AMX of no known number", "Xeon-8480+"),
    ],
)
def test_a_device_is_found_by_what_it_is_called(told: str, name: str) -> None:
    assert find_chip(told).name == name


def test_a_cpu_beside_a_device_comes_with_all_its_sockets() -> None:
    chip, host = find_machine("RTX-4090 + 2x Xeon 6454S")
    assert chip is not None and host is not None and chip.name == "RTX-4090"
    assert host.bandwidth == 2 * chips()["Xeon-6454S"].bandwidth
    with pytest.raises(InvalidRequest, match="no device is known as 'H1000'"):
        find_chip("H1000")


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("meta-llama/Llama-3.1-70B", "llama-3-70b"),
        ("llama2-7b", "llama-2-7b"),
        ("llama-7b", "llama-7b"),
        ("deepseek-r1", "deepseek-v3"),
        ("deepseek-r1-distill-qwen-32b", "qwen2.5-32b"),
        ("DeepSeek-R1-Distill-Llama-8B", "llama-3-8b"),
        ("qwen3-235b-a22b-fp8", "qwen3-235b-a22b"),
        ("qwen2.5-3b", "qwen2.5-3b"),
        ("qwen2.5-32b-instruct", "qwen2.5-32b"),
        ("Qwen/Qwen3-32B-NVFP4", "qwen3-32b"),
        ("kimi-k2.5", "kimi-k2"),
        ("glm-4.5-air", "glm-4.5-air"),
        ("glm-4.6", "glm-4.5"),
    ],
)
def test_a_model_is_found_by_what_it_is_called(told: str, name: str) -> None:
    network = find_network(told)
    assert network is not None and network.name == name


@pytest.mark.parametrize(
    ("name", "billions", "active"),
    [
        ("llama-3-8b", 8.03, 7.5),
        ("qwen2.5-72b", 72.7, 71.5),
        ("deepseek-v3", 671, 36.6),
        ("deepseek-v4-pro", 1571, 47.4),
        ("deepseek-v4-flash", 284, 12.7),
        ("kimi-k2", 1026, 31.5),
        ("gpt-oss-120b", 116.8, 5.1),
        ("qwen3.5-397b-a17b", 396, 16.2),
        ("mixtral-8x7b", 46.7, 12.8),
    ],
)
def test_shapes_give_the_parameters_of_the_model_cards(name: str, billions: float, active: float) -> None:
    network = networks()[name]
    assert network.parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert network.active / 1e9 == pytest.approx(active, rel=0.01)


def test_what_nobody_knows_is_planned_from_its_size() -> None:
    assert read_sizes("acme-120b-a12b-instruct") == (120, 12)
    assert read_sizes("acme-360m") == (0.36, 0)
    guessed = find_network("acme-120b-a12b")
    assert guessed is not None and not guessed.known and guessed.shape.num_experts
    assert guessed.parameters / 1e9 == pytest.approx(120, rel=0.05)
    dense = find_network("acme", parameters_b=21)
    assert dense is not None and not dense.shape.num_experts and dense.parameters / 1e9 == pytest.approx(21, rel=0.1)
    assert find_network("acme") is None
